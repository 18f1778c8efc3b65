"""Eq. 8 over cells that count differently: by hand, in loops as in tensors, and what it is good for."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from pasr_perception.config import RefineConfig
from pasr_perception.refine import Hypotheses, Pose, Refined, counting_shown, polish, refine, shown_similarity
from pasr_perception.refine.problem import Cells
from pasr_perception.refine.shown import LEAST
from pasr_perception.refine.similarity import render, seen_features
from pasr_perception.types import Crop, Detection


def crop(shown: np.ndarray | None) -> Crop:
    nothing = np.zeros(4)
    return Crop(np.zeros((1, 1, 3), np.uint8), np.eye(3), np.eye(3), nothing, nothing > 0, Detection(nothing), shown)


def cells_of(stage: Any, pose: Pose) -> Cells:
    return Cells.of(stage.maps(pose, backdrop_seed=3), stage.clouds)


def reached(pose: Pose) -> tuple[Refined, Hypotheses]:
    count = len(pose.rotation)
    start = Hypotheses(pose.rotation, torch.zeros(count, dtype=torch.long), torch.arange(count))
    return Refined.of(pose, torch.zeros(count)), start


def test_it_is_the_mean_cosine_of_pixels_by_how_much_they_count(stage: Any) -> None:
    pose = Pose.by_outline(stage.poses(3, seed=1))
    off = Pose.by_outline(stage.poses(3, seed=2))
    cells = cells_of(stage, off)
    counts = torch.rand(cells.counts.shape, generator=torch.Generator().manual_seed(0))
    found = shown_similarity(*reached(pose), dataclasses.replace(cells, counts=counts), stage.scene)
    each = torch.arange(3)
    rendered = render(pose, torch.zeros_like(each), stage.clouds, stage.scene)
    seen = seen_features(rendered, each, cells.unit)
    cosine = torch.nn.functional.cosine_similarity(rendered.feature, seen)
    for h in range(3):
        mine = rendered.hypothesis == h
        weight = counts[h, rendered.cell[mine]]
        assert float(found[h]) == pytest.approx(float((weight * cosine[mine]).sum() / weight.sum()), abs=1e-5)


def test_tensors_say_what_loops_say(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pose = Pose.by_outline(stage.poses(4, seed=4))
    cells = cells_of(stage, Pose.by_outline(stage.poses(4, seed=5)))
    uneven = dataclasses.replace(cells, counts=torch.linspace(0.02, 1, cells.counts.numel()).view_as(cells.counts))
    loops = shown_similarity(*reached(pose), uneven, stage.scene)
    monkeypatch.setattr("pasr_perception.refine.template.for_loops", lambda tensor: False)
    torch.testing.assert_close(shown_similarity(*reached(pose), uneven, stage.scene), loops, atol=2e-5, rtol=0)


@pytest.mark.parametrize("polished", [False, True])
def test_refinement_says_what_a_look_says_and_nothing_of_where_it_did_not_look(stage: Any, polished: bool) -> None:
    truth, config = Pose.by_outline(stage.poses(6, seed=7)), RefineConfig(unknowns=3)
    maps = stage.maps(truth)
    noise = torch.randn(maps.shape, generator=torch.Generator().manual_seed(8))
    cells = Cells.of(torch.nn.functional.normalize(maps + 0.3 * noise, dim=1), stage.clouds)
    rows = torch.linspace(0.02, 1, maps.shape[-1]).repeat_interleave(maps.shape[-1])
    counting = dataclasses.replace(cells, counts=rows.repeat(len(maps), 1))
    start = stage.start(truth, 10, 3)
    asked = dataclasses.replace(start, similarity=torch.tensor([2.0, 0, 0, 0, 0, 0]))  # nothing is above 2
    found = refine(asked, stage.clouds, counting, stage.scene, config)
    assert found.where_shown.isnan().tolist() == [True] + [False] * 5
    if polished:
        found = polish(start, found, counting, stage.scene, rounds=2)
    looked = dataclasses.replace(found, where_shown=torch.full((6,), torch.nan))
    told = shown_similarity(found, start, counting, stage.scene)
    torch.testing.assert_close(told, shown_similarity(looked, start, counting, stage.scene))
    assert (told[1:] - found.similarity[1:]).abs().min() > 1e-4


def test_what_hides_the_object_has_no_say(stage: Any) -> None:
    """Half of each crop shows something else: the right pose is as similar there as if nothing hid it."""
    pose = Pose.by_outline(stage.poses(5, seed=6))
    maps = stage.maps(pose)
    grid = maps.shape[-1]
    hidden = maps.clone()
    hidden[..., : grid // 2] = torch.nn.functional.normalize(torch.randn(hidden[..., : grid // 2].shape), dim=1)
    shown = np.ones((grid, grid), np.float32)
    shown[:, : grid // 2] = 0
    cells = Cells.of(hidden, stage.clouds)
    counting = counting_shown(cells, [crop(shown)] * 5, 1)
    alike, where_shown = (shown_similarity(*reached(pose), c, stage.scene) for c in (cells, counting))
    assert (alike < 0.75).all()
    assert (where_shown > 0.9).all()


def test_counts_turn_with_the_crops_and_never_vanish(stage: Any) -> None:
    shown = np.zeros((16, 16), np.float32)
    shown[0, 15] = 1  # upper right
    cells = Cells.of(torch.ones(4, 3, 16, 16), stage.clouds)
    counting = counting_shown(cells, [crop(shown)], 4)
    corners = counting.counts.unflatten(1, (16, 16))[:, [0, 0, 15, 15], [0, 15, 15, 0]]
    expected = torch.full((4, 4), LEAST)
    expected[0, 1] = expected[1, 0] = expected[2, 3] = expected[3, 2] = 1  # anticlockwise by quarters
    assert torch.equal(corners, expected)


def test_where_nothing_is_known_all_cells_count(stage: Any) -> None:
    cells = Cells.of(torch.ones(2, 3, 16, 16), stage.clouds)
    assert (counting_shown(cells, [crop(None), crop(None)], 1).counts == 1).all()
    mixed = counting_shown(cells, [crop(None), crop(np.full((16, 16), 0.5, np.float32))], 1)
    assert (mixed.counts[0] == 1).all()
    assert (mixed.counts[1] == 0.5).all()
