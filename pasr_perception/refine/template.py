"""What the splat of H hypotheses shows, pixel by pixel, prepared for saying what a small movement of the object would change."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch

from pasr_perception.config import RefineConfig
from pasr_perception.geometry.placement import for_loops, project
from pasr_perception.kernels.splat import Compared, mean_cosines
from pasr_perception.kernels.surface import LEAST_COSINE, LEAST_LENGTH, Placed, Shown, closer
from pasr_perception.refine.coverage import coverage
from pasr_perception.refine.outline import Outline, outline
from pasr_perception.refine.problem import Boxes, Clouds, Hypotheses, Pose, RenderScene
from pasr_perception.refine.similarity import (
    Rendered,
    grid_cells,
    mean_cosine,
    projected,
    render,
    seen_features,
    splat_margin,
)
from pasr_perception.render.splat import MIN_WEIGHT_SUM

PIXELS_ENOUGH = 200  # covered pixels of a hypothesis beyond which every second one says the same
RESIDUAL_FLOOR = (
    1.0  # robust weights are never narrower: in a clean image the pixels that disagree are the ones to learn from
)

AnyVisited = TypeVar("AnyVisited", bound="Visited")


@dataclass(frozen=True)
class Problem:
    """Everything that stays the same while H hypotheses move."""

    cloud: torch.Tensor  # [H] int64 into the clouds
    crop: torch.Tensor  # [H] int64 into the cells
    boxes: Boxes | None  # where the outlines cost what they are off by
    clouds: Clouds
    outer: torch.Tensor  # [H, K, 3] points that may form the outline
    cells: torch.Tensor  # [B, g * g, D] unit
    scene: RenderScene
    config: RefineConfig
    toll: torch.Tensor  # [H] weight of the coverage cost

    @classmethod
    def of(
        cls, start: Hypotheses, clouds: Clouds, maps: torch.Tensor, scene: RenderScene, config: RefineConfig
    ) -> Problem:
        used, crop = torch.unique(start.crop, return_inverse=True)
        boxes = start.boxes if config.moves_in_image else None  # else the outline fills the box by its placement
        outer, cells = clouds.outer_of(start.cloud), torch.nn.functional.normalize(grid_cells(maps[used]), dim=2)
        toll = outer.new_full((len(crop),), config.coverage_weight)
        return cls(start.cloud, crop, boxes, clouds, outer, cells, scene, config, toll)

    def chosen(self, index: torch.Tensor) -> Problem:
        """That of some hypotheses."""
        boxes = None if self.boxes is None else self.boxes.chosen(index)
        mine = {name: getattr(self, name)[index] for name in ("cloud", "crop", "outer", "toll")}
        return replace(self, boxes=boxes, **mine)

    @property
    def margin(self) -> float:
        """Log scale that a rendering which may scale ends below its object: see `splat_margin`."""
        return splat_margin(self.scene) if self.config.unknowns == 6 else 0.0

    def outline(self, rotation: torch.Tensor) -> Outline:
        return outline(self.outer, rotation, self.scene.view)

    def edges(self, pose: Pose, at: Outline) -> torch.Tensor:
        """Where the object ends [H, 4], in crop sizes."""
        return (
            Pose(pose.rotation, pose.shift, pose.log_scale + self.margin)
            .move(at.edges.unflatten(1, (2, 2)), 1)
            .flatten(1)
        )


@dataclass(frozen=True)
class Visited:
    """H poses and what they are worth."""

    pose: Pose
    value: torch.Tensor  # [H] what is maximised: similarity less coverage cost
    similarity: torch.Tensor  # [H] eq. 8


@dataclass(frozen=True)
class Splatted(Visited):
    """The same with what the splat shows."""

    rendered: Rendered
    seen: torch.Tensor  # [M, D] the crop's feature at every covered pixel
    cosine: torch.Tensor  # [M] of the two

    def chosen(self, index: torch.Tensor) -> Splatted:
        """Some of the hypotheses, by ascending index."""
        rendered, kept = self.rendered.chosen(index, len(self.value))
        scores = self.pose.chosen(index), self.value[index], self.similarity[index]
        return Splatted(*scores, rendered, self.seen[kept], self.cosine[kept])


@dataclass(frozen=True)
class Template:
    """Covered pixels of H hypotheses, as pieces of surface; empty slots weigh 0."""

    pose: Pose  # that was splatted
    surface: torch.Tensor  # [H, P, 3] object frame
    middle: torch.Tensor  # [H, P, 2] of the cell, pixels
    weight: torch.Tensor  # [H, P], sum 1
    feature: torch.Tensor  # [H, P, R] leading channels of a unit feature
    pull: torch.Tensor  # [H, P, 2] derivative of the cosine by where the surface is in the image, through the splat
    metric: torch.Tensor  # [H, P, 2, 2] Gauss-Newton's negated second derivative

    def chosen(self, index: torch.Tensor) -> Template:
        """Some of the hypotheses."""
        pixels = (getattr(self, f.name)[index] for f in fields(self) if f.name != "pose")
        return Template(self.pose.chosen(index), *pixels)

    def replaced(self, by: Template, where: torch.Tensor) -> Template:
        """The hypotheses `where` [H] bool from another template."""
        if where.all():
            return by
        slots = max(self.weight.shape[1], by.weight.shape[1])

        def pick(mine: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
            picked = mine.new_zeros(len(mine), slots, *mine.shape[2:])
            picked[~where, : mine.shape[1]] = mine[~where]
            picked[where, : other.shape[1]] = other[where]
            return picked

        pixels = (field.name for field in fields(self) if field.name != "pose")
        picked = (pick(getattr(self, name), getattr(by, name)) for name in pixels)
        return Template(self.pose.replaced(by.pose, where), *picked)


def splat(pose: Pose, problem: Problem) -> Splatted:
    """Render every hypothesis at its pose and compare it with its crop and box."""
    rendered = render(pose, problem.cloud, problem.clouds, problem.scene)
    seen = seen_features(rendered, problem.crop, problem.cells)
    cosine = (rendered.feature * seen).sum(1) / rendered.feature.norm(dim=1).clamp(min=1e-8)
    similarity = mean_cosine(rendered, cosine, len(problem.crop))
    return priced(Splatted(pose, similarity, similarity, rendered, seen, cosine), problem)


def visit(pose: Pose, problem: Problem) -> Visited:
    """What `splat` says of every pose, without what it shows; on the CPU in one loop."""
    if problem.cells.device.type != "cpu":
        return splat(pose, problem)
    clouds, splatting = problem.clouds, problem.scene.splat.splatting
    uv, depth = projected(pose, problem.cloud, clouds, problem.scene)
    compared = (problem.cloud, problem.crop, clouds.features, problem.cells)
    found = mean_cosines(uv.numpy(), depth.numpy(), splatting, Compared(*(t.numpy() for t in compared)))
    similarity = torch.from_numpy(found)
    return priced(Visited(pose, similarity, similarity), problem)


def priced(visited: AnyVisited, problem: Problem) -> AnyVisited:
    """The same with its value by the problem's coverage cost."""
    if problem.boxes is None:
        return visited
    edges = problem.edges(visited.pose, problem.outline(visited.pose.rotation))
    return replace(visited, value=visited.similarity - coverage(edges, problem.boxes, problem.toll).cost)


def cut_template(splatted: Splatted, problem: Problem) -> Template:
    """The covered pixels; where there are many, every second one, like the squares of one colour on a chess board."""
    rendered = splatted.rendered
    count, size = len(problem.crop), problem.scene.splat.size
    checked = 2 if len(rendered.cell) > PIXELS_ENOUGH * count else 1
    kept = ((rendered.cell % size + rendered.cell // size) % checked == 0).nonzero()[:, 0]
    hypothesis = rendered.hypothesis[kept]
    area = torch.bincount(hypothesis, minlength=count)
    slot = torch.arange(len(kept), device=kept.device) - (area.cumsum(0) - area)[hypothesis]
    slots = max(1, int(area.max()))

    def by_hypothesis(values: torch.Tensor) -> torch.Tensor:
        rows = values.new_zeros(count, slots, *values.shape[1:])
        return rows.index_put((hypothesis, slot), values)

    cosine = splatted.cosine[kept]
    weight = robust_weight(
        1 - by_hypothesis(cosine), by_hypothesis(torch.ones_like(cosine)), problem.config.robust_scale
    )
    look = closer_in_loops if for_loops(splatted.seen) else closer_in_tensors
    surface, unit, pull, metric = (by_hypothesis(v) for v in look(splatted, kept, problem))
    middle = by_hypothesis(middles(rendered.cell[kept], size))
    feature = problem.clouds.leading(unit)
    return Template(splatted.pose, surface, middle, weight, feature, pull, metric)


def middles(cell: torch.Tensor, size: int) -> torch.Tensor:
    """The middles [m, 2] of cells [m], pixels."""
    return torch.stack([cell % size, cell // size], -1) + 0.5


def closer_in_loops(splatted: Splatted, kept: torch.Tensor, problem: Problem) -> tuple[torch.Tensor, ...]:
    """`closer_in_tensors` on the CPU."""
    rendered, clouds = splatted.rendered, problem.clouds
    of_pixels = rendered.hypothesis, rendered.cell, rendered.index, rendered.weight, rendered.feature
    shown = Shown(*(t[kept].numpy() for t in (*of_pixels, splatted.seen, splatted.cosine)))
    placed = Placed(*(t.numpy() for t in (rendered.uv, problem.cloud, clouds.points, clouds.features)))
    found = closer(shown, placed, problem.scene.splat.splatting, MIN_WEIGHT_SUM)
    return tuple(torch.from_numpy(each) for each in (found.surface, found.unit, found.pull, found.metric))


def closer_in_tensors(splatted: Splatted, kept: torch.Tensor, problem: Problem) -> tuple[torch.Tensor, ...]:
    """Surface, unit feature, pull and metric (see `Template`) of the pixels `kept` [m], on any device.

    A pixel shows m = sum_k w_k M_k / W with W = sum_k w_k and w_k = 1 - d_k^2 / r^2. With its points moving together, u = m / |m|
    changes by du = (A - (A u) u^T) / (W |m|) with A = sum_k dw_k M_k, and pull = du . F. The metric is cos * du . du: the second
    derivative of u . F where F is a share `cos` of u and something else across it.
    """
    rendered, splatting = splatted.rendered, problem.scene.splat
    hypothesis, cell = rendered.hypothesis[kept], rendered.cell[kept]
    index, weight = rendered.index[kept], rendered.weight[kept]  # [m, K]
    filled, index = index >= 0, index.clamp(min=0)
    total = weight.sum(1, keepdim=True).clamp(min=MIN_WEIGHT_SUM)
    shown = problem.clouds.points[problem.cloud[hypothesis, None], index]  # [m, K, 3]
    surface = (shown * weight[..., None]).sum(1) / total
    to_middle = middles(cell, splatting.size)[:, None] - rendered.uv[hypothesis[:, None], index]  # [m, K, 2]
    rate = to_middle * filled[..., None] * (2 / splatting.radius_px**2)  # of the weights
    points = index + (problem.cloud[hypothesis] * problem.clouds.points.shape[1])[:, None]
    features = problem.clouds.features.flatten(0, 1).index_select(0, points.flatten()).unflatten(0, points.shape)
    change = rate.transpose(1, 2) @ features  # [m, 2, D]
    unit = rendered.feature.index_select(0, kept)
    length = unit.norm(dim=1, keepdim=True).clamp(min=LEAST_LENGTH)
    unit = unit / length
    along = (change @ unit[..., None])[..., 0]  # [m, 2]
    seen = splatted.seen.index_select(0, kept)
    cosine = splatted.cosine[kept, None]
    pull = ((change @ seen[..., None])[..., 0] - along * cosine) / (total * length)
    metric = change @ change.transpose(1, 2) - along[..., None] * along[:, None]
    metric = metric * (cosine.clamp(min=LEAST_COSINE) / (total * length).square())[..., None]
    return surface, unit, pull, metric


def surface_pixels(pose: Pose, surface: torch.Tensor, at: Outline, size: int) -> torch.Tensor:
    """Pixels [H, P, 2] of points [H, P, 3] of the object."""
    return pose.move(project(surface @ pose.rotation.transpose(1, 2), at.placement, size)[0], size)


def robust_weight(residual: torch.Tensor, covered: torch.Tensor, scale: float) -> torch.Tensor:
    """Weights [H, P], sum 1, of residuals [H, P] >= 0 where covered [H, P] is 1: Geman and McClure's, `scale` medians wide.

    A scale of 0 weighs all alike.
    """
    weight = covered
    if scale > 0:
        median = torch.where(covered > 0, residual, torch.nan).nanmedian(1, keepdim=True).values.nan_to_num(1.0)
        weight = covered / (1 + (residual / (scale * median).clamp(min=RESIDUAL_FLOOR)).square()).square()
    return weight / weight.sum(1, keepdim=True).clamp(min=1e-6)
