from __future__ import annotations

import numpy as np
import pytest
import trimesh

from pasr_perception.data.look import PLAIN, Tint, random_look, random_tint

MESH = trimesh.creation.box((1, 2, 3))
TRIANGLE, BARYCENTRIC = np.arange(12), np.full((12, 3), 1 / 3)


def painted() -> trimesh.Trimesh:
    mesh = MESH.copy()
    mesh.visual.face_colors = np.random.default_rng(0).integers(60, 200, (12, 4)).astype(np.uint8)
    return mesh


def test_plain_shows_the_colours_the_mesh_has():
    mesh = painted()
    np.testing.assert_allclose(PLAIN.colour(mesh, TRIANGLE, BARYCENTRIC) * 255, mesh.visual.face_colors[:, :3], atol=1)


def test_a_tint_turns_hues_and_leaves_grey_grey():
    tint = random_tint(np.random.default_rng(1))
    grey = tint(np.full((1, 3), 0.5))
    np.testing.assert_allclose(grey, grey[0, 0], atol=1e-9)
    red = tint(np.array([[0.9, 0.1, 0.1]]))[0]
    assert red.argmax() != 0 or np.ptp(red) < 0.5
    np.testing.assert_allclose(Tint()(np.array([[0.2, 0.4, 0.9]])), [[0.2, 0.4, 0.9]])


def test_looks_of_each_kind():
    mesh, rng = painted(), np.random.default_rng(2)
    bare = random_look({"bare": 1}, rng).colour(mesh, TRIANGLE, BARYCENTRIC)
    np.testing.assert_allclose(bare, bare[0, 0])
    textured = random_look({"textured": 1}, rng)
    assert np.ptp(textured.colour(mesh, TRIANGLE, BARYCENTRIC), axis=0).max() > 0.02
    kinds = {random_look({"own": 0.5, "recoloured": 0.5}, rng).kind for _ in range(30)}
    assert kinds == {"own", "recoloured"}
    gloss = [random_look({"own": 1}, rng).gloss for _ in range(50)]
    assert 5 < sum(g > 0 for g in gloss) < 45


@pytest.mark.parametrize("shares", [{}, {"gold": 1}, {"own": 0}, {"own": -1, "bare": 2}])
def test_shares_that_are_none_are_named(shares):
    with pytest.raises(ValueError, match="look shares"):
        random_look(shares, np.random.default_rng(0))
