"""Refinement of the best candidates: `newton.py` and `polish.py` by default, `adamw.py` as published (PASR 3.3)."""

from __future__ import annotations

import torch

from pasr_perception.config import RefineConfig
from pasr_perception.refine.adamw import refine_adamw
from pasr_perception.refine.newton import refine_newton
from pasr_perception.refine.outline import outer_points
from pasr_perception.refine.polish import Worth, polish
from pasr_perception.refine.problem import Boxes, Cells, Clouds, Contest, Hypotheses, Pose, Refined, RenderScene
from pasr_perception.refine.shown import counting_shown, shown_similarity
from pasr_perception.refine.similarity import similarity, splat_margin

__all__ = [
    "Boxes",
    "Cells",
    "Clouds",
    "Contest",
    "Hypotheses",
    "Pose",
    "Refined",
    "RenderScene",
    "Worth",
    "counting_shown",
    "outer_points",
    "polish",
    "refine",
    "shown_similarity",
    "similarity",
    "splat_margin",
]


def refine(
    start: Hypotheses, clouds: Clouds, maps: torch.Tensor | Cells, scene: RenderScene, config: RefineConfig
) -> Refined:
    """Raise each hypothesis' similarity (eq. 8) with its crop; never below its start.

    maps [B, D, g, g] hold unit features, or are their cells already.
    Raises ValueError where shift and scale are asked for and the boxes are missing.
    """
    if config.moves_in_image and start.boxes is None:
        raise ValueError(f"start.boxes: expected the detections' boxes to refine {config.unknowns} unknowns, got None")
    method = {"adamw": refine_adamw, "newton": refine_newton}[config.method]
    return method(start, clouds, maps if isinstance(maps, Cells) else Cells.of(maps, clouds), scene, config)
