"""Coverage cost: how far a rendering's outline is from the detection's box.

A mean over the covered pixels (eq. 8) does not mind which part of the object's image it covers, so a rendering that may scale
would shrink to where the crop matches best. What the object covers is known, though: the box. Each of the four edges costs the
pseudo-Huber function of its distance to the outline's edge; an edge cut by the image border costs nothing beyond the box.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pasr_perception.kernels.climb import TOLERANCE
from pasr_perception.refine.problem import Boxes

OUTWARD = (-1.0, -1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Coverage:
    """Cost of H outlines and its first two derivatives by each edge."""

    cost: torch.Tensor  # [H]
    gradient: torch.Tensor  # [H, 4] by the edges
    curvature: torch.Tensor  # [H, 4] by the edges, at least 0


def coverage(edges: torch.Tensor, boxes: Boxes, weight: torch.Tensor) -> Coverage:
    """Cost of outlines that end at edges [H, 4] (x_min, y_min, x_max, y_max in crop sizes).

    `weight` [H] is what it costs, in units of similarity, that each edge is off by 1.7 tolerances.
    """
    off = edges - boxes.edges
    beyond = off * off.new_tensor(OUTWARD) > 0
    off = torch.where(boxes.clipped & beyond, 0.0, off) / TOLERANCE
    root = (1 + off * off).sqrt()
    share = weight[:, None] / 4
    counts = (~(boxes.clipped & beyond)).to(off.dtype)
    return Coverage(
        (share * (root - 1)).sum(1),
        share / TOLERANCE * off / root,
        share / TOLERANCE**2 * counts / root,
    )
