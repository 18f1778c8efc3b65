from __future__ import annotations

import numpy as np
import pytest

from pasr_perception.data.scene_room import FLOORS, TEXELS, Room, TiledTexture, floor_texture


def test_rays_leave_through_the_right_face():
    room = Room(np.array([-2.0, -3, 0]), np.array([4.0, 5, 6]), 1.0, np.random.default_rng(0))
    directions = np.array([[0, 0, -2.0], [1, 0, 0], [-1, 0, 0], [0, 1, 0.1], [0, 0, 1], [1, 1, -3]])
    hits = room.cast(np.array([0.0, 0, 1]), directions)
    np.testing.assert_allclose(hits.distance, [0.5, 4, 2, 5, 5, 1 / 3])
    np.testing.assert_array_equal(hits.is_floor, [True, False, False, False, False, True])
    np.testing.assert_allclose(hits.normal[[0, 1, 3]], [[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    np.testing.assert_allclose(hits.point[5], [1 / 3, 1 / 3, 0], atol=1e-12)


@pytest.mark.parametrize("kind", FLOORS)
def test_floors_are_textured_seamless_and_seeded(kind):
    texture = floor_texture(kind, np.random.default_rng(1))
    assert texture.shape == (TEXELS, TEXELS, 3)
    assert 0 < texture.min() < texture.max() < 1
    assert texture.std() > 0.01
    np.testing.assert_array_equal(texture, floor_texture(kind, np.random.default_rng(1)))
    inside = np.abs(np.diff(texture, axis=1)).mean((0, 2))
    seam = np.abs(texture[:, 0] - texture[:, -1]).mean()
    assert seam < 1.5 * inside.max()


def test_sampling_repeats_interpolates_and_averages():
    texels = np.zeros((16, 16, 3), np.float32)
    texels[:, 8:] = 1.0
    texture = TiledTexture(texels, size=2.0)
    at = np.array([[0.5, 0.3], [1.5, 0.3], [2.5, 0.3], [-0.5, 0.3], [1.0, 0.3]])
    sharp = texture.sample(at, np.full(5, 1e-3))
    np.testing.assert_allclose(sharp[:, 0], [0, 1, 0, 1, 0.5], atol=1e-6)
    far = TiledTexture(np.indices((64, 64)).sum(0)[..., None].repeat(3, 2) % 2.0, size=1.0)
    np.testing.assert_allclose(far.sample(np.array([[0.2, 0.4], [0.51, 0.9]]), np.full(2, 0.1)), 0.5, atol=1e-6)


def test_unknown_floors_are_named():
    with pytest.raises(ValueError, match="lava"):
        floor_texture("lava", np.random.default_rng(0))
