"""Polishing: the best of a few poses around one that is good already, then of a few around that, closer. Own.

Eq. 8 is not smooth: points come and go, so it has many small maxima, which no gradient shows. Nor is its largest one where the
object is: a patch feature says what is at a place, to a few degrees. How far the object reaches says more, so contours have
a say too (`contour.py`); what they add to eq. 8 at a pose is the caller's to tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import torch

from pasr_perception.config import RefineConfig
from pasr_perception.geometry.se3 import exp_so3
from pasr_perception.refine.problem import Cells, Hypotheses, Pose, Refined, RenderScene
from pasr_perception.refine.template import Problem, Visited, visit

DIAGONALS = 8
FIRST, CLOSER = 0.1, 0.65  # radians that poses of the first round are turned by, and the share of it a round later

# What poses [K] are worth beside eq. 8 [K]; poses of the hypotheses numbered [K], in the crops that these are refined in.
Worth = Callable[[Pose, torch.Tensor], torch.Tensor]


@torch.inference_mode()
def polish(
    start: Hypotheses, reached: Refined, cells: Cells, scene: RenderScene, rounds: int, more: Worth | None = None
) -> Refined:
    """The best by eq. 8, and what there is `more`, of poses around what was reached; shift and scale stay.

    A round looks at turns about the eight diagonals, by `FIRST` in the first and ever less from the best so far.
    """
    row = torch.arange(len(reached.rotation), device=reached.rotation.device)
    each = row.repeat_interleave(DIAGONALS)
    around = Hypotheses(start.rotation[each], start.cloud[each], start.crop[each])
    problem = Problem.of(around, cells.clouds, cells, scene, RefineConfig())
    best = _valued(Visited.settled_at(reached), row, more)
    for number in range(rounds):
        rotation = (_diagonal_turns(number, row.device) @ best.pose.rotation[:, None]).flatten(0, 1)
        found = _valued(visit(Pose(rotation, best.pose.shift[each], best.pose.log_scale[each]), problem), each, more)
        first = row * DIAGONALS + found.value.view(-1, DIAGONALS).argmax(1)
        best = best.replaced(found.chosen(first), found.value[first] > best.value)
    return best.settled


def _valued(visited: Visited, of: torch.Tensor, more: Worth | None) -> Visited:
    """The same, worth more."""
    return visited if more is None else replace(visited, value=visited.similarity + more(visited.pose, of))


@lru_cache(maxsize=32)
def _diagonal_turns(number: int, device: torch.device) -> torch.Tensor:
    """The turns [8, 3, 3] that a round looks at."""
    axes = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3) / math.sqrt(3)
    return exp_so3(FIRST * CLOSER**number * axes).to(device)
