"""Which crops are looked at again and through which boxes; and what a second look is worth where boxes are loose."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pasr_perception.config import BoxConfig, PasrConfig, RankConfig, RefineConfig, ReframeConfig
from pasr_perception.geometry.se3 import make_T
from pasr_perception.geometry.viewpoints import random_rotations
from pasr_perception.library.store import MeshLibrary
from pasr_perception.lift import LiftError
from pasr_perception.pipeline import Pipeline
from pasr_perception.reframe import Searched, better_boxes, reframed
from pasr_perception.types import Camera, Candidates, Crop, Detection, Rivals, StageTimings

CAMERA = Camera(320, 240, np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]]))
SHOWN = np.array([130.0, 90, 190, 150])  # the box of what `Stand` places
UNCUT = np.zeros(4, dtype=bool)
CONFIG = ReframeConfig(gain=0.5, least_change=0.05)
AGAIN = ReframeConfig(rounds=1)
AS_GIVEN = BoxConfig(tighten=False)


class Stand:
    """A pipeline that finds mesh 1 best, at one depth, or where it cannot be placed."""

    rivals = Rivals(torch.tensor([0.5, 0.0]), torch.ones(2))

    def __init__(self, depth: float | None = 1.0) -> None:
        self.depth, self.asked = depth, RefineConfig()
        self.placing = self

    def refine(self, candidates: Any, maps: torch.Tensor, crops: Any, config: RefineConfig) -> list[Candidates]:
        self.asked = config
        return [dataclasses.replace(c, displacement=torch.zeros(2, 3)) for c in candidates]

    def place(self, mesh: int, rotation: torch.Tensor, displacement: torch.Tensor, crop: Crop, camera: Camera) -> Any:
        assert mesh == 1
        if self.depth is None:
            raise LiftError("no")
        return make_T(np.eye(3), np.array([0, 0, self.depth]))

    def outer_points(self, mesh: int) -> np.ndarray:
        return np.array([[-0.1, -0.1, 0.0], [0.1, 0.1, 0.0]])


def candidates(number: int) -> Candidates:
    """Two meshes: the first has the larger value, the second stands out more from what strangers reach."""
    value = torch.tensor([0.7, 0.4])
    return Candidates(torch.tensor([0, 1]), torch.eye(3).expand(2, 3, 3), torch.full((2,), number), value, value)


def searched(*boxes: np.ndarray, clipped: np.ndarray = UNCUT) -> Searched:
    image, axes = np.zeros((8, 8, 3), np.uint8), np.eye(3)
    crops = tuple(Crop(image, axes, axes, box, clipped, Detection(box, id=str(i))) for i, box in enumerate(boxes))
    maps = torch.arange(len(boxes)).float().view(-1, 1, 1, 1, 1)
    return Searched(crops, maps, tuple(candidates(i) for i in range(len(boxes))), StageTimings(encode=1.0))


def test_a_loose_box_is_replaced_by_one_nearer_to_what_the_best_hypothesis_shows():
    stand = Stand()
    loose = SHOWN + np.array([-20.0, 0, 0, 10])
    boxes = better_boxes(searched(SHOWN, loose), CAMERA, stand, RefineConfig(), CONFIG)
    assert list(boxes) == [1]  # the first one will do
    np.testing.assert_allclose(boxes[1], (SHOWN + loose) / 2)
    assert (stand.asked.unknowns, stand.asked.polish, stand.asked.iterations) == (6, 0, CONFIG.iterations)


def test_an_edge_at_the_images_border_stays():
    cut = SHOWN + np.array([-40.0, 0, 0, 20])
    boxes = better_boxes(
        searched(cut, clipped=np.array([True, False, False, False])), CAMERA, Stand(), RefineConfig(), CONFIG
    )
    np.testing.assert_allclose(boxes[0], [cut[0], SHOWN[1], SHOWN[2], SHOWN[3] + 10])


@pytest.mark.parametrize("depth", [None, -1.0])
def test_what_cannot_be_placed_is_not_looked_at_again(depth: float | None):
    assert better_boxes(searched(SHOWN + 30), CAMERA, Stand(depth), RefineConfig(), CONFIG) == {}


def test_detections_keep_all_but_their_box():
    (detection,) = reframed(searched(SHOWN, SHOWN).crops, {1: SHOWN + 1})
    assert detection.id == "1"
    np.testing.assert_allclose(detection.box, SHOWN + 1)


def test_some_crops_are_replaced_and_times_add_up():
    first, again = searched(SHOWN, SHOWN, SHOWN), searched(SHOWN + 1)
    both = first.replaced(dataclasses.replace(again, candidates=(candidates(7),), maps=again.maps + 9), [1])
    assert [int(c.turn[0]) for c in both.candidates] == [0, 7, 2]
    assert both.maps.flatten().tolist() == [0, 9, 2]
    assert both.crops[1] is again.crops[0]
    assert both.timings.encode == 2.0
    assert first.maps.flatten().tolist() == [0, 1, 2]


@pytest.fixture(scope="module")
def loose(bench: Any) -> list[tuple[Any, Detection, np.ndarray, str]]:
    """Photos of the small library's meshes with boxes that are off by a sixth, all towards one side."""
    found = []
    for i, R in enumerate(random_rotations(4, np.random.default_rng(5))):
        for mesh_id, z in (("block", 1.4), ("can", 0.6)):
            T = make_T(R, np.array([0, 0, z]) - R @ bench.meshes[mesh_id].bounds.mean(0))
            frame, detection = bench.photograph(mesh_id, T)
            sides = np.tile(detection.box[2:] - detection.box[:2], 2)
            off = np.array([(-1.0, -1, 0, 0), (0, 0, 1, 1), (1, 1, 0, 0), (0, 0, -1, -1)][i]) * sides / 6
            found.append((frame, dataclasses.replace(detection, box=detection.box + off), T, mesh_id))
    return found


def depth_errors(pipeline: Pipeline, photos: Any) -> list[float]:
    errors = []
    for frame, detection, T, mesh_id in photos:
        (estimate,) = pipeline.detect(frame, [detection], only=[mesh_id]).objects
        assert estimate.detection is detection  # the one that was asked about, not the one that was looked through
        errors.append(abs(np.log(estimate.best.T_cam_obj[2, 3] / T[2, 3])))
    return errors


def test_loose_boxes_cost_less_distance_with_a_second_look(bench: Any, library_path: Path, loose: Any):
    library, device = MeshLibrary.open(library_path), torch.device("cpu")
    trusting = RefineConfig(unknowns=3, iterations=1)  # that takes boxes as they are; moving in them mends much itself
    config = PasrConfig(boxes=AS_GIVEN, rank=RankConfig(known_margin=0.0), refine=trusting)
    once = depth_errors(Pipeline(library, bench.encoder, config, device), loose)
    twice = dataclasses.replace(config, reframe=AGAIN)
    again = depth_errors(Pipeline(library, bench.encoder, twice, device), loose)
    assert np.mean(again) < 0.9 * np.mean(once)


def test_a_second_look_can_be_declined(bench: Any, library_path: Path, loose: Any):
    config = PasrConfig(boxes=AS_GIVEN, reframe=AGAIN)
    pipeline = Pipeline(MeshLibrary.open(library_path), bench.encoder, config, torch.device("cpu"))
    frame, detection, _, mesh_id = loose[0]
    asked = []
    pipeline.encode, encode = lambda crops: asked.append(len(crops)) or encode(crops), pipeline.encode  # type: ignore
    pipeline.detect(frame, [detection], only=[mesh_id], loose=False)
    assert asked == [1]
    pipeline.detect(frame, [detection], only=[mesh_id])
    assert asked == [1, 1, 1]
