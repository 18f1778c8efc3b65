"""Eq. 8 (PASR): the mean, over the pixels that a splatted cloud covers, of the cosine between image and cloud features."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from pasr_perception.geometry.placement import for_loops, place, project
from pasr_perception.kernels import placement as kernels
from pasr_perception.kernels.splat import LEAST_COVERED
from pasr_perception.refine.problem import Clouds, Pose, RenderScene, grid_cells
from pasr_perception.render.splat import composite, rasterise, rasterise_all


@dataclass(frozen=True)
class Rendered:
    """The covered pixels of every hypothesis, or all of them, hypothesis by hypothesis."""

    hypothesis: torch.Tensor  # [M] int64, ascending
    cell: torch.Tensor  # [M] int64, row * size + column
    feature: torch.Tensor  # [M, D] splatted, of any length
    index: torch.Tensor  # [M, K] int64, the points that it takes, -1 = empty
    weight: torch.Tensor  # [M, K] of these
    uv: torch.Tensor  # [H, N, 2] pixels of all points

    def area(self, count: int) -> torch.Tensor:
        """Covered pixels [count] of each hypothesis."""
        return self.covered.new_zeros(count, dtype=torch.long).index_add_(0, self.hypothesis, self.covered.long())

    @property
    def covered(self) -> torch.Tensor:
        """[M] bool"""
        return self.index[:, 0] >= 0


def projected(pose: Pose, cloud: torch.Tensor, clouds: Clouds, scene: RenderScene) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels [H, N, 2] and depth [H, N] of the points of clouds [H] at poses [H]."""
    if for_loops(clouds.points) and not torch.is_grad_enabled():
        rotation, shift, log_scale = (t.detach().numpy() for t in (pose.rotation, pose.shift, pose.log_scale))
        moved = kernels.Moved(clouds.points.numpy(), cloud.numpy(), rotation, shift, log_scale, scene.splat.size)
        found = kernels.project(moved, scene.view.numbers)
        return torch.from_numpy(found[0]), torch.from_numpy(found[1])
    rotated = clouds.points[cloud] @ pose.rotation.transpose(1, 2)  # [H, N, 3]
    uv, depth = project(rotated, place(rotated, scene.view), scene.splat.size)
    return pose.move(uv, scene.splat.size), depth


def render(pose: Pose, cloud: torch.Tensor, clouds: Clouds, scene: RenderScene, everywhere: bool = False) -> Rendered:
    """Splat clouds [H] at poses [H]: the covered pixels, or `everywhere` all of them (`rasterise_all`)."""
    size = scene.splat.size
    uv, depth = projected(pose, cloud, clouds, scene)
    fragments = (rasterise_all if everywhere else rasterise)(uv, depth, scene.splat)
    hypothesis = fragments.pixel // (size * size)
    feature = composite(fragments, clouds.features, cloud[hypothesis])
    return Rendered(hypothesis, fragments.pixel % (size * size), feature, fragments.index, fragments.weight, uv)


def seen_features(rendered: Rendered, crop: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """What every pixel's cell of crop [H] shows, from cells [B, g * g, D]: [M, D]."""
    return cells.flatten(0, 1).index_select(0, crop[rendered.hypothesis] * cells.shape[1] + rendered.cell)


def mean_cosine(rendered: Rendered, cosine: torch.Tensor, counts: torch.Tensor, count: int) -> torch.Tensor:
    """Masked mean [count] of cosines [M], each counting as much as counts [M] say."""
    weight, none = counts * rendered.covered, cosine.new_zeros(count)
    total = none.index_add(0, rendered.hypothesis, cosine * weight)
    return total / none.index_add(0, rendered.hypothesis, weight).clamp(min=LEAST_COVERED)


def splat_margin(scene: RenderScene) -> float:
    """Log scale by which a splatted outline passes the points' own: a splat reaches one radius beyond them.

    An image's object ends where its points end, so a rendering that may scale settles this much below the object's size.
    """
    return math.log1p(2 * scene.splat.radius_px / (scene.view.fill * scene.splat.size))


def similarity(
    rotation: torch.Tensor,
    cloud: torch.Tensor,
    crop: torch.Tensor,
    clouds: Clouds,
    maps: torch.Tensor,
    scene: RenderScene,
) -> torch.Tensor:
    """Masked mean cosine [H] of hypotheses: rotation [H, 3, 3] of clouds [H] against maps [B, D, g, g] of crops [H]."""
    return similarity_to_cells(rotation, cloud, crop, clouds, grid_cells(maps), scene)


def similarity_to_cells(
    rotation: torch.Tensor,
    cloud: torch.Tensor,
    crop: torch.Tensor,
    clouds: Clouds,
    cells: torch.Tensor,
    scene: RenderScene,
) -> torch.Tensor:
    """`similarity` to cells [B, g * g, D] of crops [H]."""
    rendered = render(Pose.by_outline(rotation), cloud, clouds, scene)
    seen = seen_features(rendered, crop, cells)
    cosine = torch.nn.functional.cosine_similarity(rendered.feature, seen, dim=-1)
    return mean_cosine(rendered, cosine, torch.ones_like(cosine), len(rotation))
