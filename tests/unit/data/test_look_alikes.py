from __future__ import annotations

import numpy as np
import pytest
import trimesh

from pasr_perception.data.look_alikes import find_look_alikes, unit_surface, write_look_alikes
from pasr_perception.data.split import read_look_alikes
from pasr_perception.library.manifest import sources_from_paths


def wedge() -> trimesh.Trimesh:
    return trimesh.util.concatenate(
        [trimesh.creation.box((1, 2, 3)), trimesh.creation.box((1, 1, 1)).apply_translation((1, 0.5, 1))]
    )


def test_turned_and_scaled_copies_look_alike_and_others_do_not(tmp_path):
    turn = trimesh.transformations.rotation_matrix(np.pi / 2, (1, 0, 0))
    wedge().export(tmp_path / "a.ply")
    wedge().apply_transform(turn).apply_scale(3).apply_translation((5, 5, 5)).export(tmp_path / "b.ply")
    trimesh.creation.box((1, 2, 3)).export(tmp_path / "c.ply")
    (tmp_path / "d.ply").write_text("ply\n")
    told = []
    groups = find_look_alikes(sources_from_paths([tmp_path]), lambda *what: told.append(what))
    assert groups == (("a", "b"),)
    assert told[0] == ("a", 0, 4)
    write_look_alikes(tmp_path / "groups.yaml", groups)
    assert read_look_alikes(tmp_path / "groups.yaml") == groups


def test_unit_surfaces_have_radius_one_about_their_mean():
    points = unit_surface(np.random.default_rng(0).normal(3, 7, (500, 3)))
    np.testing.assert_allclose(points.mean(0), 0, atol=1e-12)
    assert (points**2).sum(1).mean() == pytest.approx(1)
    with pytest.raises(ValueError, match="single spot"):
        unit_surface(np.ones((5, 3)))
