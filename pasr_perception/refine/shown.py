"""Eq. 8 where a crop shows the object. Own; PASR takes the mean over all that a pose covers.

What hides the object, or stands behind it, has features that say nothing of it. The more is hidden, the less is the mean of the
right pose above that of wrong ones that keep clear of what hides it. So cells count as surely as they show the object
(`boxes/shown.py` sees that without knowing what it is). Candidates are judged so where they end, not moved by it: moved by it,
wrong meshes come to hide what does not fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from pasr_perception.config import RefineConfig
from pasr_perception.refine.problem import Cells, Hypotheses, Refined, RenderScene
from pasr_perception.refine.template import Problem, visit
from pasr_perception.types import Crop

LEAST = 0.02  # that a cell counts: a pose that covers nothing of the object is as similar as by all cells


def counting_shown(cells: Cells, crops: Sequence[Crop], turns: int) -> Cells:
    """Cells [B * turns] of crops in so many quarter turns, counting as surely as they show objects; alike where it is not known."""
    if all(crop.shown is None for crop in crops):
        return cells
    grid = round(cells.unit.shape[1] ** 0.5)
    alike = np.ones((grid, grid), np.float32)
    shown = torch.from_numpy(np.stack([alike if crop.shown is None else crop.shown for crop in crops])).clamp(min=LEAST)
    turned = torch.stack([torch.rot90(shown, turn, (1, 2)) for turn in range(turns)], 1).flatten(0, 1)
    return replace(cells, counts=turned.flatten(1).to(cells.unit.device))


@torch.inference_mode()
def shown_similarity(reached: Refined, start: Hypotheses, cells: Cells, scene: RenderScene) -> torch.Tensor:
    """Eq. 8 [H] of what hypotheses reached, over cells as much as they count; what refinement did not look at is looked at now."""
    unknown = reached.where_shown.isnan().nonzero()[:, 0]
    alone, left = start.chosen(unknown), reached.chosen(unknown)
    problem = Problem.of(replace(alone, boxes=None), cells.clouds, cells, scene, RefineConfig())
    return reached.where_shown.index_copy(0, unknown, visit(left.pose, problem).where_shown)
