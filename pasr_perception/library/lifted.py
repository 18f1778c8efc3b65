"""Lifted point features, training-free: back-project the features of rendered views onto the points, average (InexactCAD 3.1.2).

What is averaged is what a query compares: each view's features are centred over its box first, as a crop's are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from pasr_perception.geometry.placement import project
from pasr_perception.library.sample import SurfaceSamples
from pasr_perception.library.views import RenderedView

DEPTH_TOLERANCE = 0.02  # of the object's radius; a point this much behind the rendered surface is hidden


@dataclass(frozen=True)
class LiftedFeatures:
    features: torch.Tensor  # [N, D] float32, unit length
    weight: torch.Tensor  # [N] sum over views of the cosine between surface and line of sight; 0 = seen in none


def visibility(samples: SurfaceSamples, view: RenderedView) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the samples fall in a view: uv [N, 2] in image sizes (0..1) and weight [N], 0 where hidden."""
    rotation = torch.as_tensor(view.rotation)
    rotated = torch.as_tensor(samples.points) @ rotation.T
    size = len(view.depth)
    uv, depth = (x[0] for x in project(rotated[None], view.placement, size))
    cell = uv.long().clamp(0, size - 1)
    surface = torch.as_tensor(view.depth)[cell[:, 1], cell[:, 0]]
    sight = torch.nn.functional.normalize(rotated + view.placement.offset, dim=1)
    facing = (
        (torch.as_tensor(samples.normals) @ rotation.T * sight).sum(1).abs()
    )  # windings of CAD faces are not to be trusted
    return uv / size, torch.where(depth <= surface + DEPTH_TOLERANCE, facing, torch.zeros_like(facing))


def sample_map(feature_map: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
    """Features [N, D] of a map [D, g, g] at places uv [N, 2] in image sizes (0..1), bilinear."""
    grid = (uv * 2 - 1)[None, :, None]  # [1, N, 1, 2]
    at = torch.nn.functional.grid_sample(feature_map[None], grid, align_corners=False, padding_mode="border")
    return at[0, :, :, 0].T


def lift_features(samples: SurfaceSamples, views: Sequence[RenderedView], maps: torch.Tensor) -> LiftedFeatures:
    """Average of the views' maps [V, D, g, g] at the places where each sample is seen."""
    total = torch.zeros(len(samples.points), maps.shape[1])
    weight = torch.zeros(len(samples.points))
    for view, feature_map in zip(views, maps, strict=True):
        uv, seen = visibility(samples, view)
        total += sample_map(feature_map.cpu(), uv) * seen[:, None]
        weight += seen
    return LiftedFeatures(torch.nn.functional.normalize(_fill_unseen(samples, total, weight), dim=1), weight)


def _fill_unseen(samples: SurfaceSamples, total: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Samples that no view shows (inner faces) take the nearest seen one's feature: they may still be splatted."""
    seen = (weight > 0).numpy()
    if seen.all() or not seen.any():
        return total
    nearest = cKDTree(samples.points[seen]).query(samples.points[~seen])[1]
    filled = total.clone()
    filled[torch.as_tensor(~seen)] = total[torch.as_tensor(np.flatnonzero(seen)[nearest])]
    return filled
