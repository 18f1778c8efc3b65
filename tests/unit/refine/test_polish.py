"""Polishing: the best neighbour by eq. 8, and by what else poses are worth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pasr_perception.config import RefineConfig
from pasr_perception.refine import Hypotheses, Pose, polish, refine
from pasr_perception.refine.polish import DIAGONALS, FIRST
from pasr_perception.refine.problem import Cells

AS_IT_IS = RefineConfig(iterations=0)


@pytest.fixture
def truth(stage: Any) -> Pose:
    return Pose.by_outline(stage.poses(8, 4))


@pytest.fixture
def start(stage: Any, truth: Pose) -> Hypotheses:
    return stage.start(truth, 5, 9)


@pytest.fixture
def cells(stage: Any, truth: Pose) -> Cells:
    return Cells.of(stage.maps(truth, 3), stage.clouds)


def test_it_takes_the_best_of_its_neighbours(stage: Any, start: Hypotheses, cells: Cells) -> None:
    reached = refine(start, stage.clouds, cells, stage.scene, AS_IT_IS)
    found = polish(start, reached, cells, stage.scene, rounds=1)
    assert (found.similarity >= reached.similarity).all()
    risen = found.similarity > reached.similarity
    assert risen.any()
    moved = stage.off_degrees(found.rotation, Pose.by_outline(reached.rotation))
    torch.testing.assert_close(moved[risen], torch.full_like(moved[risen], np.degrees(FIRST)), rtol=1e-3, atol=1e-3)
    assert (moved[~risen] < 0.05).all()
    longer = polish(start, reached, cells, stage.scene, rounds=3)
    assert (longer.similarity >= found.similarity).all()
    assert (longer.similarity > found.similarity).any()
    for polished in (found, longer):
        again = refine(replace(start, rotation=polished.rotation), stage.clouds, cells, stage.scene, AS_IT_IS)
        torch.testing.assert_close(again.similarity, polished.similarity)  # what is said of a pose is eq. 8 there


def test_what_else_poses_are_worth_has_a_say(stage: Any, start: Hypotheses, cells: Cells) -> None:
    """Of every second hypothesis only nearness to another pose counts, of the others eq. 8 alone."""
    reached = refine(start, stage.clouds, cells, stage.scene, AS_IT_IS)
    wanted = stage.start(Pose.by_outline(start.rotation), 8, 11).rotation
    drawn = torch.arange(len(wanted)) % 2 == 0

    def nearness(pose: Pose, of: torch.Tensor) -> torch.Tensor:
        off = stage.off_degrees(pose.rotation, Pose.by_outline(wanted[of]))
        return torch.where(drawn[of], -100 * off, torch.zeros_like(off))

    found = polish(start, reached, cells, stage.scene, 3, nearness)
    alone = polish(start, reached, cells, stage.scene, 3)
    off = stage.off_degrees(found.rotation, Pose.by_outline(wanted))
    assert (off[drawn] < 4).all()  # of 8, and three rounds go 6, 4 and 2 degrees
    assert torch.equal(found.rotation[~drawn], alone.rotation[~drawn])
    again = refine(replace(start, rotation=found.rotation), stage.clouds, cells, stage.scene, AS_IT_IS)
    torch.testing.assert_close(again.similarity, found.similarity)  # which is told without what else it is worth


def test_worth_is_asked_of_the_poses_that_are_looked_at(stage: Any, start: Hypotheses, cells: Cells) -> None:
    reached = refine(start, stage.clouds, cells, stage.scene, AS_IT_IS)
    asked: list[tuple[int, list[int]]] = []

    def worth(pose: Pose, of: torch.Tensor) -> torch.Tensor:
        asked.append((len(pose.rotation), of.tolist()))
        return torch.zeros_like(pose.log_scale)

    found = polish(start, reached, cells, stage.scene, 2, worth)
    each = [h for h in range(8) for _ in range(DIAGONALS)]
    assert asked == [(8, list(range(8))), (8 * DIAGONALS, each), (8 * DIAGONALS, each)]
    assert torch.equal(found.rotation, polish(start, reached, cells, stage.scene, 2).rotation)
