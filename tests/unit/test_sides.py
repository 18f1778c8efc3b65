"""The other sides of meshes: which there are, and that a winner found from a wrong one ends at the right one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pasr_perception import refinement
from pasr_perception.config import PasrConfig, RefineConfig
from pasr_perception.crop import crop_detections
from pasr_perception.geometry.se3 import make_T, rotation_angle
from pasr_perception.geometry.symmetry_group import NO_SYMMETRY, Fold, Symmetry, turn
from pasr_perception.geometry.viewpoints import UP_AXES, look_at, nearest_turns, up_rotation
from pasr_perception.library.store import MeshLibrary
from pasr_perception.pipeline import Pipeline
from pasr_perception.sides import Sides, other_sides, turns_about
from pasr_perception.types import Candidates

X, Y, Z = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
ALL = RefineConfig(sides=1000.0, polish=0, window=0.0)  # whatever they look like
NONE = dataclasses.replace(ALL, sides=0.0)


def test_a_thing_that_may_lie_anyhow_is_turned_over_its_axes() -> None:
    turns = turns_about("so3", "+z")
    assert np.array_equal(turns[0], np.eye(3))
    assert [np.diag(R).tolist() for R in turns[1:]] == [[1, -1, -1], [-1, 1, -1], [-1, -1, 1]]
    assert np.array_equal(np.abs(turns), np.tile(np.eye(3), (4, 1, 1)))


@pytest.mark.parametrize("up", UP_AXES)
def test_a_thing_that_stands_upright_is_turned_about_its_own_axis_alone(up: str) -> None:
    turns = turns_about("upright", up)
    assert len(turns) == 4
    assert np.array_equal(turns[0], np.eye(3))
    axis = up_rotation(up)[1]
    assert all(np.array_equal(R @ axis, axis) for R in turns)


@pytest.mark.parametrize(
    ("symmetry", "count"),
    [
        (NO_SYMMETRY, 3),
        (Symmetry(folds=(Fold(Z, 2),)), 1),  # over x is the same as over y
        (Symmetry(folds=(Fold(Z, 6),)), 1),
        (Symmetry(folds=(Fold(Z, 5),)), 3),  # a half turn is 36 degrees from two fifths
        (Symmetry(continuous_axes=(Z,)), 1),
        (Symmetry(continuous_axes=(Z,), folds=(Fold(X, 2),)), 0),
        (Symmetry(continuous_axes=(X, Y, Z)), 0),
    ],
)
def test_what_a_symmetry_makes_equal_is_one_side(symmetry: Symmetry, count: int) -> None:
    assert len(other_sides(turns_about("so3", "+y"), symmetry)) == count


def test_a_quarter_that_is_near_a_fifth_is_no_other_side() -> None:
    fifths, thirds = (Symmetry(folds=(Fold(Y, n),)) for n in (5, 3))
    assert len(other_sides(turns_about("upright", "+y"), fifths)) == 1  # the half turn
    assert len(other_sides(turns_about("upright", "+y"), thirds)) == 3


@pytest.fixture(scope="module")
def pipeline(bench: Any, library_path: Path) -> Pipeline:
    return Pipeline(MeshLibrary.open(library_path), bench.encoder, PasrConfig(), torch.device("cpu"))


@dataclasses.dataclass(frozen=True)
class Wrong:
    """What a search might have found in a photo of a mesh: one candidate, of a wrong side of it."""

    mesh: int
    truth: np.ndarray  # R_crop_obj
    found: Candidates
    maps: torch.Tensor
    crop: Any


def wrong(pipeline: Pipeline, bench: Any, mesh_id: str, R: np.ndarray, by: np.ndarray) -> Wrong:
    frame, detection = bench.photograph(mesh_id, make_T(R, np.array([0, 0, 5.0 if mesh_id == "truck" else 1.0])))
    crops, _ = crop_detections(frame, [detection], pipeline.crop_spec)
    mesh = pipeline.library.index_of(mesh_id)
    entry = pipeline.library.entries[mesh]
    truth = crops[0].R_cam_crop.T @ R
    turned = int(nearest_turns((truth @ by)[None], entry.pose_set, entry.up)[0])
    rotation = torch.as_tensor(truth @ by, dtype=torch.float32)[None]
    low = torch.tensor([-1.0])  # nobody looked there: whatever refinement sees is better
    found = Candidates(torch.tensor([mesh]), rotation, torch.tensor([turned]), low, low)
    return Wrong(mesh, truth, found, pipeline.encode(crops), crops[0])


def off(it: Wrong, found: Candidates) -> float:
    """Degrees."""
    return float(np.degrees(rotation_angle(it.truth, found.rotation[0].double().numpy())))


@pytest.mark.parametrize(
    ("mesh_id", "R", "by"),
    [
        ("truck", look_at(0.5, 0.8), turn(Y, np.pi)),
        ("truck", look_at(0.4, 2.3), turn(Y, np.pi / 2)),
        ("block", look_at(0.5, 2.6), turn(Z, np.pi)),
        ("block", look_at(-0.4, 0.6), turn(X, np.pi)),
        ("block", look_at(0.3, 4.2), turn(Y, np.pi)),
        ("block", look_at(0.1, 0.1), turn(Z, np.pi)),  # which lies in another turn of the crop
    ],
)
def test_a_winner_that_was_found_from_a_wrong_side_ends_at_the_right_one(
    pipeline: Pipeline, bench: Any, mesh_id: str, R: np.ndarray, by: np.ndarray
) -> None:
    it = wrong(pipeline, bench, mesh_id, R, by)
    stayed, turned = (pipeline.refine([it.found], it.maps, [it.crop], c)[0] for c in (NONE, ALL))
    assert off(it, stayed) > 45
    assert off(it, turned) < 20
    assert turned.value[0] > stayed.value[0]
    assert turned.similarity[0] > stayed.similarity[0]
    entry = pipeline.library.entries[it.mesh]
    assert turned.turn.tolist() == nearest_turns(it.truth[None], entry.pose_set, entry.up).tolist()


def test_the_right_side_stays(pipeline: Pipeline, bench: Any) -> None:
    it = wrong(pipeline, bench, "truck", look_at(0.5, 0.8), np.eye(3))
    stayed, turned = (pipeline.refine([it.found], it.maps, [it.crop], c)[0] for c in (NONE, ALL))
    for name in ("rotation", "turn", "similarity", "value", "displacement"):
        assert torch.equal(getattr(stayed, name), getattr(turned, name))


def test_only_the_winner_is_turned_and_each_crops_own(pipeline: Pipeline, bench: Any) -> None:
    """Two crops, in the second of which the winner is right; behind both winners their mesh from a wrong side."""
    half = turn(Y, np.pi)
    first = wrong(pipeline, bench, "truck", look_at(0.5, 0.8), half)
    second = wrong(pipeline, bench, "truck", look_at(0.4, 2.3), np.eye(3))
    other = torch.as_tensor(second.truth @ turn(Y, np.pi / 2), dtype=torch.float32)[None]
    behind = dataclasses.replace(second.found, rotation=other)
    both = [joined(first.found, first.found), joined(second.found, behind)]
    maps, crops = torch.cat([first.maps, second.maps]), [first.crop, second.crop]
    stayed, turned = (pipeline.refine(both, maps, crops, c) for c in (NONE, ALL))
    moved = [(s.rotation != t.rotation).flatten(1).any(1).tolist() for s, t in zip(stayed, turned, strict=True)]
    assert moved == [[True, False], [False, False]]
    assert off(first, turned[0]) < 20


def test_crops_none_of_whose_sides_is_near_are_passed_over(pipeline: Pipeline, bench: Any) -> None:
    """The wrong one is among crops whose winners are right; a window says whose contours are looked at."""
    right = wrong(pipeline, bench, "truck", look_at(0.4, 2.3), np.eye(3))
    astray = wrong(pipeline, bench, "truck", look_at(0.5, 0.8), turn(Y, np.pi))
    maps, crops = torch.cat([right.maps, right.maps, astray.maps]), [right.crop, right.crop, astray.crop]
    config = dataclasses.replace(ALL, sides=1.0, window=5.0)
    together = pipeline.refine([right.found, right.found, astray.found], maps, crops, config)
    assert off(astray, together[2]) < 20
    assert torch.equal(together[0].rotation, together[1].rotation)


def joined(a: Candidates, b: Candidates) -> Candidates:
    names = ("mesh_index", "rotation", "turn", "similarity", "value")
    return Candidates(*(torch.cat([getattr(a, n), getattr(b, n)]) for n in names))


def test_sides_that_look_worse_than_the_window_are_not_refined(
    pipeline: Pipeline, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    refine = refinement.refine

    def counted(start: Any, *rest: Any) -> Any:
        counts.append(len(start.crop))
        return refine(start, *rest)

    monkeypatch.setattr(refinement, "refine", counted)
    it = wrong(pipeline, bench, "block", look_at(0.5, 0.6), np.eye(3))
    for window in (0.0, 1e-3, 1000.0):
        pipeline.refine([it.found], it.maps, [it.crop], dataclasses.replace(ALL, sides=window))
    assert counts == [1, 1, 1, 3]


def test_candidates_that_a_search_did_not_compare_are_not_turned(pipeline: Pipeline, bench: Any) -> None:
    """Tracks look at one turn of a crop, at poses that were predicted."""
    it = wrong(pipeline, bench, "truck", look_at(0.5, 0.8), turn(Y, np.pi))
    stayed, asked = (pipeline.refine([it.found], it.maps, [it.crop], c, compared=False)[0] for c in (NONE, ALL))
    assert torch.equal(stayed.rotation, asked.rotation)


def test_a_mesh_is_asked_for_its_symmetry_once(pipeline: Pipeline) -> None:
    sides = Sides(pipeline.library.entries)
    truck = pipeline.library.index_of("truck")
    assert sides.of(truck) is sides.of(truck)
    assert sides.of(truck).shape == (3, 3, 3)
