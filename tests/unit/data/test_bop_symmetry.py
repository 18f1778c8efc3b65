"""Symmetries and depth as BOP lists them."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from pasr_perception.data.annotation import DatasetError
from pasr_perception.data.bop import BopReader, bop_models

SIZE = {"min_x": -10, "min_y": -20, "min_z": 0, "size_x": 30, "size_y": 40, "size_z": 50, "diameter": 70}
HALF_TURN = [-1, 0, 0, 100, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]


def models(tmp_path, **more):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "models_info.json").write_text(json.dumps({"5": {**SIZE, **more}}))
    return bop_models(tmp_path)[5]


def test_without_symmetries_there_is_the_identity_alone(tmp_path):
    model = models(tmp_path)
    np.testing.assert_array_equal(model.symmetries, np.eye(4)[None])
    assert model.diameter == pytest.approx(0.07)


def test_discrete_ones_are_in_metres(tmp_path):
    found = models(tmp_path, symmetries_discrete=[HALF_TURN]).symmetries
    assert found.shape == (2, 4, 4)
    np.testing.assert_allclose(found[1], [[-1, 0, 0, 0.1], [0, -1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def test_continuous_ones_go_round_their_offset_and_with_the_discrete_ones(tmp_path):
    axis = {"axis": [0, 0, 2], "offset": [10, 0, 0]}
    found = models(tmp_path, symmetries_continuous=[axis], symmetries_discrete=[HALF_TURN]).symmetries
    assert len(found) == 2 * 315  # ceil(pi / 0.01) steps, as in bop_toolkit
    np.testing.assert_allclose(found[:315] @ [0.01, 0, 7, 1], np.tile([0.01, 0, 7, 1], (315, 1)), atol=1e-12)
    steps = np.linalg.norm(np.diff(found[:315] @ [0.045, 0, 0, 1], axis=0), axis=1)
    assert steps.max() < 0.01 * 0.07 * 1.01


def test_what_is_no_symmetry_is_named(tmp_path):
    with pytest.raises(DatasetError, match="symmetries_discrete: expected rigid"):
        models(tmp_path, symmetries_discrete=[[2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]])


def test_an_axis_needs_a_length(tmp_path):
    with pytest.raises(DatasetError, match="symmetries_continuous"):
        models(tmp_path, symmetries_continuous=[{"axis": [0, 0, 0], "offset": [0, 0, 0]}])


def test_depth_in_metres_where_there_is_depth(tmp_path):
    scene = tmp_path / "000001"
    (scene / "depth").mkdir(parents=True)
    cv2.imwrite(str(scene / "depth" / "000003.png"), np.full((2, 3), 500, np.uint16))
    (scene / "scene_gt.json").write_text(json.dumps({"3": [], "12": []}))
    (scene / "scene_camera.json").write_text(json.dumps({k: {"depth_scale": 0.1} for k in ("3", "12")}))
    first, second = BopReader(tmp_path).depths()
    np.testing.assert_allclose(first, np.full((2, 3), 0.05))
    assert second is None
