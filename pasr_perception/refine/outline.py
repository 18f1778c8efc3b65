"""How an object's outline, and so its place in the crop, changes with its rotation.

The placement by outline (`geometry/placement.py`) centres and scales the bounds of the projected points. At any rotation four
points form these bounds; while they stay the same, aim, zoom and edges are smooth functions of the rotation with the
derivatives computed here. Rotations vary as R = exp(w) R_0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from pasr_perception.geometry.placement import Placement, ViewSpec, for_loops, place
from pasr_perception.kernels import outline as kernels

OUTER_POINTS = 512  # 0.4 % of a sphere's radius is lost at most, a 25th of a pixel
X_AND_Y = (0, 1, 0, 1)  # axis of the edges x_min, y_min, x_max, y_max


@dataclass(frozen=True)
class Outline:
    """The placement of H rotations and its derivatives with respect to w."""

    placement: Placement
    offset_rate: torch.Tensor  # [H, 2, 3] of the placement's offset in x and y
    zoom_rate: torch.Tensor  # [H, 3] of log focal
    edges: torch.Tensor  # [H, 4] x_min, y_min, x_max, y_max of the outline in crop sizes
    edges_rate: torch.Tensor  # [H, 4, 3]


def outer_points(points: torch.Tensor) -> torch.Tensor:
    """Those of points [N, 3] that lie farthest in `OUTER_POINTS` directions: indices, repeated where directions share one."""
    index = torch.arange(OUTER_POINTS, dtype=points.dtype, device=points.device)
    z = 1 - (2 * index + 1) / OUTER_POINTS  # Fibonacci lattice
    around, level = index * (math.pi * (3 - math.sqrt(5))), (1 - z * z).sqrt()
    directions = torch.stack([level * around.cos(), level * around.sin(), z], 1)
    return (directions @ points.T).argmax(1)


def image_rate(rotated: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """Derivatives [H, N, 2, 3] of the image points (x / z, y / z) of rotated [H, N, 3] + offset [H, 3] by w."""
    x, y, z = rotated.unbind(-1)
    at = rotated + offset[:, None]
    u, v, depth = at[..., 0] / at[..., 2], at[..., 1] / at[..., 2], at[..., 2]
    # w x p = (w_y z - w_z y, w_z x - w_x z, w_x y - w_y x)
    along_u = torch.stack([-u * y, z + u * x, -y], -1)
    along_v = torch.stack([-z - v * y, v * x, x], -1)
    return torch.stack([along_u, along_v], -2) / depth[..., None, None]


def outline(outer: torch.Tensor, rotation: torch.Tensor, view: ViewSpec) -> Outline:
    """The outline of outer points [H, K, 3] at rotations [H, 3, 3]; carries no gradient."""
    if not for_loops(outer):
        return outline_in_tensors(outer, rotation, view)
    found = kernels.outlines(outer.contiguous().numpy(), rotation.contiguous().numpy(), view.numbers)
    placed, *others = map(torch.from_numpy, found)
    return Outline(Placement(placed[:, :3], placed[:, 3]), *others)


def outline_in_tensors(outer: torch.Tensor, rotation: torch.Tensor, view: ViewSpec) -> Outline:
    """`outline` on any device."""
    rotated = outer @ rotation.transpose(1, 2)
    placement = place(rotated, view)
    at = rotated + placement.offset[:, None]
    image = at[..., :2] / at[..., 2:]  # [H, K, 2]
    forming = torch.cat([image.argmin(1), image.argmax(1)], 1)  # [H, 4]
    axis, four = torch.tensor(X_AND_Y, device=outer.device), torch.arange(4, device=outer.device)
    row = torch.arange(len(outer), device=outer.device)
    edge = image[row[:, None], forming, axis]  # [H, 4]
    near = 1 / at[row[:, None], forming, 2]
    rate = image_rate(rotated[row[:, None], forming], placement.offset)[:, four, axis]  # [H, 4, 3] at a fixed aim
    # the aim follows so that opposite edges stay opposite
    offset_rate = -(rate[:, :2] + rate[:, 2:]) / (near[:, :2] + near[:, 2:])[..., None]
    rate = rate + offset_rate.repeat(1, 2, 1) * near[..., None]
    extent, extent_rate = edge[:, 2:] - edge[:, :2], rate[:, 2:] - rate[:, :2]
    longer = extent.argmax(1)
    zoom_rate = -extent_rate[row, longer] / extent[row, longer].clamp(min=1e-6)[:, None]
    focal = placement.focal[:, None]
    edges_rate = focal[..., None] * (rate + edge[..., None] * zoom_rate[:, None])
    return Outline(placement, offset_rate, zoom_rate, 0.5 + focal * edge, edges_rate)
