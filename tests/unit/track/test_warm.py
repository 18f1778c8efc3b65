"""A known object's new pose from a predicted one, on photos of the small library; and the box that it is seen through."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from pasr_perception.config import PasrConfig, TrackConfig
from pasr_perception.crop import CropError
from pasr_perception.geometry.se3 import make_T, rotation_angle
from pasr_perception.geometry.viewpoints import look_at, quarter_turn
from pasr_perception.library.store import MeshLibrary
from pasr_perception.pipeline import Pipeline
from pasr_perception.track.warm import BOX_GAIN, WarmStart, leaning_box, nearest_turn
from pasr_perception.types import Camera, Depth, Detection, Frame

CAMERA = Camera(320, 240, np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]]))
FRAME = Frame(np.zeros((240, 320, 3), np.uint8), CAMERA)
EXPECTED = np.array([100.0, 80, 200, 160])


@pytest.fixture(scope="module")
def pipeline(bench: Any, library_path: Path) -> Pipeline:
    return Pipeline(MeshLibrary.open(library_path), bench.encoder, PasrConfig(), torch.device("cpu"))


@pytest.fixture(scope="module")
def block(bench: Any) -> tuple[Frame, Detection, np.ndarray]:
    """A photo of the block, its box, and where it is."""
    return photo(bench, 0.8)


def photo(bench: Any, azimuth: float) -> tuple[Frame, Detection, np.ndarray]:
    R = look_at(0.5, azimuth, 0.3)
    T = make_T(R, np.array([0.1, -0.05, 1.4]) - R @ bench.meshes["block"].bounds.mean(0))
    return *bench.photograph("block", T), T


def off(T: np.ndarray, bench: Any, degrees: float) -> np.ndarray:
    """The block's pose turned about its middle."""
    turn = Rotation.from_rotvec(np.radians(degrees) * np.array([0.6, 0.8, 0.0])).as_matrix()
    middle = bench.meshes["block"].bounds.mean(0)
    return make_T(turn @ T[:3, :3], T[:3, :3] @ middle + T[:3, 3] - turn @ T[:3, :3] @ middle)


def error(T: np.ndarray, truth: np.ndarray) -> float:
    return float(np.degrees(rotation_angle(T[:3, :3], truth[:3, :3])))


def test_looks_mend_predicted_poses(bench, pipeline):
    left = []
    for azimuth in range(6):
        frame, detection, truth = photo(bench, azimuth)
        (look,) = WarmStart(pipeline, TrackConfig())(frame, detection, {"block": off(truth, bench, 20)})
        assert look.mesh_id == "block"
        assert np.linalg.norm(look.T_cam_obj[:3, 3] - truth[:3, 3]) < 0.17  # of 1.4 m
        assert not look.by_depth
        left.append(error(look.T_cam_obj, truth))
    assert max(left) < 16  # degrees, of twenty
    assert np.median(left) < 14


def test_the_right_mesh_stands_out_from_its_rivals(pipeline, block):
    frame, detection, truth = block
    middle = truth[:3, :3] @ pipeline.library.entries[0].center + truth[:3, 3]
    can = make_T(truth[:3, :3], middle)
    looks = WarmStart(pipeline, TrackConfig())(frame, detection, {"block": truth, "can": can})
    margins = {look.mesh_id: look.margin for look in looks}
    assert margins["block"] > margins["can"] + 1


def test_rivals_are_refined_however_far_behind_they_would_be_without_a_search(pipeline, block, monkeypatch):
    frame, detection, truth = block
    can = make_T(truth[:3, :3], truth[:3, :3] @ pipeline.library.entries[0].center + truth[:3, 3])
    started, refined, refine = [], [], pipeline.refine

    def noted(candidates, *rest, **more):
        found = refine(candidates, *rest, **more)
        started.extend(candidates[0].rotation)
        refined.extend(found[0].rotation)
        return found

    monkeypatch.setattr(pipeline, "refine", noted)
    spread = torch.full_like(pipeline.rivals.spread, 1e-4)  # so that offsets alone put meshes far apart
    monkeypatch.setattr(
        type(pipeline.rivals), "margin", lambda self, value, mesh: (value - self.offset[mesh]) / spread[mesh]
    )
    WarmStart(pipeline, TrackConfig())(frame, detection, {"block": truth, "can": can})
    assert len(refined) == 2
    assert not any(torch.equal(a, b) for a, b in zip(started, refined, strict=True))


def test_depth_settles_the_distance_of_a_look(bench, pipeline, block):
    frame, detection, truth = block
    near = truth.copy()
    near[:3, 3] *= 0.9
    metres = np.zeros((240, 320), np.float32)
    middle = truth[:3, :3] @ bench.meshes["block"].bounds.mean(0) + truth[:3, 3]
    x0, y0, x1, y1 = detection.box.astype(int)
    metres[y0:y1, x0:x1] = middle[2] - 0.12
    (look,) = WarmStart(pipeline, TrackConfig())(replace(frame, depth=Depth(metres)), detection, {"block": near})
    assert look.by_depth
    stale = replace(frame, depth=Depth(metres, stamp_ns=10**9))
    assert not WarmStart(pipeline, TrackConfig())(stale, detection, {"block": near})[0].by_depth


def test_a_look_out_of_the_image_is_a_crop_error(pipeline, block):
    frame, _, truth = block
    aside = truth.copy()
    aside[0, 3] += 5
    with pytest.raises(CropError):
        WarmStart(pipeline, TrackConfig())(frame, Detection(np.array([400.0, 10, 500, 60])), {"block": aside})


def moved(pixels: float) -> np.ndarray:
    """The expected box with its left edge further right."""
    return EXPECTED + np.array([pixels, 0, 0, 0])


def test_edges_move_towards_the_detected_ones_but_not_after_far_ones():
    exact = leaning_box(EXPECTED, Detection(EXPECTED), FRAME)
    np.testing.assert_allclose(exact, EXPECTED)
    near = leaning_box(EXPECTED, Detection(moved(1.0)), FRAME)
    assert near[0] - EXPECTED[0] == pytest.approx(BOX_GAIN, rel=0.01)
    hidden = leaning_box(EXPECTED, Detection(moved(60.0)), FRAME)
    assert 0 < hidden[0] - EXPECTED[0] < 1.0  # half of it may be hidden: hardly followed
    np.testing.assert_allclose(hidden[1:], EXPECTED[1:])


def test_edges_at_the_images_border_are_not_followed():
    out = np.array([-30.0, 80, 70, 160])
    seen = Detection(np.array([0.0, 80, 70, 160]))
    np.testing.assert_allclose(leaning_box(out, seen, FRAME), out)


@pytest.mark.parametrize("turns", range(4))
def test_the_turn_of_the_crop_is_the_nearest_to_the_poses_roll(turns):
    for roll in (-0.5, 0.0, 0.5):
        assert nearest_turn(quarter_turn(turns) @ look_at(0.4, 1.0, roll), "so3", "+y") == turns
    assert nearest_turn(quarter_turn(turns) @ look_at(0.4, 1.0), "upright", "+y") == 0
