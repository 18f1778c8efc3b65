"""On a GPU refinement queues operators without asking what came of any: checked with tensors that have shapes and no numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from pasr_perception.config import RefineConfig
from pasr_perception.refine import Boxes, Clouds, Contest, Hypotheses, polish, refine
from pasr_perception.refine.problem import Cells

NOWHERE = torch.device("meta")  # where tensors have shapes and no numbers
COUNT, CLOUDS, POINTS, CHANNELS, OUTER = 5, 2, 300, 16, 32


@dataclasses.dataclass(frozen=True)
class Given:
    """What refinement is given, anywhere but on a CPU."""

    start: Hypotheses
    clouds: Clouds
    cells: Cells


def given(grid: int) -> Given:
    def numbers(*shape: int) -> torch.Tensor:
        return torch.empty(shape, device=NOWHERE)

    def indices(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.long, device=NOWHERE)

    boxes = Boxes(numbers(COUNT, 4), torch.zeros(COUNT, 4, dtype=torch.bool, device=NOWHERE))
    contest = Contest((3, 2), numbers(COUNT), numbers(COUNT))
    start = Hypotheses(numbers(COUNT, 3, 3), indices(COUNT), indices(COUNT), boxes, contest)
    clouds = Clouds(
        numbers(CLOUDS, POINTS, 3), numbers(CLOUDS, POINTS, CHANNELS), numbers(CLOUDS, OUTER, 3), numbers(CHANNELS, 8)
    )
    return Given(start, clouds, Cells.of(numbers(2, CHANNELS, grid, grid), clouds))


@pytest.mark.parametrize(("unknowns", "iterations"), [(6, 2), (6, 5), (3, 2)])
def test_refinement_asks_for_no_number(
    stage: Any, unknowns: int, iterations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("eigh", "inv", "solve", "cholesky", "svd"):  # on a GPU their errors are looked at before they return
        monkeypatch.setattr(torch.linalg, name, None)
    it, config = given(stage.scene.splat.size), RefineConfig(unknowns=unknowns, iterations=iterations, finalists=1)
    found = refine(it.start, it.clouds, it.cells, stage.scene, config)
    assert found.rotation.device == NOWHERE
    assert found.rotation.shape == (COUNT, 3, 3)
    winner = torch.zeros(1, dtype=torch.long, device=NOWHERE)
    fine = polish(it.start.chosen(winner), found.chosen(winner), it.cells, stage.scene, rounds=2)
    assert fine.similarity.shape == (1,)


@pytest.mark.parametrize("ask", [lambda t: t.nonzero(), lambda t: int(t.max()), lambda t: t[t > 0], torch.bincount])
def test_the_check_notices_who_asks(ask: Callable[[torch.Tensor], object]) -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        ask(torch.empty(4, dtype=torch.long, device=NOWHERE))
