"""What the splat of H hypotheses shows, pixel by pixel, prepared for saying what a small movement of the object would change."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from pasr_perception.config import RefineConfig
from pasr_perception.geometry.placement import for_loops, project
from pasr_perception.kernels.missing import Boxed, missing_costs
from pasr_perception.kernels.splat import MIN_WEIGHT_SUM
from pasr_perception.kernels.surface import LEAST_COSINE, LEAST_LENGTH, PIXELS_ENOUGH, RESIDUAL_FLOOR
from pasr_perception.kernels.visit import Compared, visits
from pasr_perception.refine.coverage import coverage
from pasr_perception.refine.outline import Outline, outline
from pasr_perception.refine.problem import Boxes, Cells, Clouds, Hypotheses, Pose, Refined, RenderScene
from pasr_perception.refine.similarity import (
    Rendered,
    mean_cosine,
    render,
    seen_features,
    splat_margin,
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
    cells: Cells
    scene: RenderScene
    config: RefineConfig
    toll: torch.Tensor  # [H] weight of the coverage cost

    @classmethod
    def of(
        cls, start: Hypotheses, clouds: Clouds, maps: torch.Tensor | Cells, scene: RenderScene, config: RefineConfig
    ) -> Problem:
        """maps [B, D, g, g] hold unit features, or are their cells already."""
        boxes = start.boxes if config.moves_in_image else None  # else the outline fills the box by its placement
        outer = clouds.outer.index_select(0, start.cloud)
        cells = maps if isinstance(maps, Cells) else Cells.of(maps, clouds)
        toll = outer.new_full((len(start.crop),), config.coverage_weight)
        return cls(start.cloud, start.crop, boxes, clouds, outer, cells, scene, config, toll)

    def chosen(self, index: torch.Tensor) -> Problem:
        """That of some hypotheses."""
        boxes = None if self.boxes is None else self.boxes.chosen(index)
        mine = {name: getattr(self, name)[index] for name in ("cloud", "crop", "outer", "toll")}
        return replace(self, boxes=boxes, **mine)

    @property
    def narrow(self) -> Problem:
        """The same with leading channels for features."""
        return replace(self, clouds=self.clouds.narrow, cells=self.cells.narrow)

    @property
    def margin(self) -> float:
        """Log scale that a rendering which may scale ends below its object: see `splat_margin`."""
        return splat_margin(self.scene) if self.config.unknowns == 6 else 0.0

    @property
    def in_loops(self) -> Compared:
        """As the CPU's loops read it."""
        clouds, crops = self.clouds.in_loops, [self.cells.in_loops(c) for c in self.crop.tolist()]
        return Compared([clouds[c] for c in self.cloud.tolist()], [c for c, _ in crops], [n for _, n in crops])

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
    where_shown: torch.Tensor  # [H] the same over cells as much as they count; NaN where nobody looked

    @classmethod
    def settled_at(cls, reached: Refined) -> Visited:
        """What was reached, worth its similarity."""
        return cls(reached.pose, reached.similarity, reached.similarity, reached.where_shown)

    @property
    def settled(self) -> Refined:
        return Refined.of(self.pose, self.similarity, self.where_shown)

    def chosen(self, index: torch.Tensor) -> Visited:
        """Some of them."""
        return Visited(self.pose.chosen(index), *(t[index] for t in self._told))

    def replaced(self, by: Visited, where: torch.Tensor) -> Visited:
        """Those `where` [H] bool from others."""
        told = zip(by._told, self._told, strict=True)
        return Visited(self.pose.replaced(by.pose, where), *(torch.where(where, other, mine) for other, mine in told))

    @property
    def _told(self) -> tuple[torch.Tensor, ...]:
        return self.value, self.similarity, self.where_shown


@dataclass(frozen=True)
class Splatted(Visited):
    """The same with what the splat shows."""

    rendered: Rendered
    seen: torch.Tensor  # [M, D] the crop's feature at every pixel
    cosine: torch.Tensor  # [M] of the two


@dataclass(frozen=True)
class Template:
    """The pixels of H hypotheses, P = S * S, as pieces of surface; those that are not covered weigh 0."""

    pose: Pose  # that was splatted
    surface: torch.Tensor  # [H, P, 3] object frame
    middle: torch.Tensor  # [H, P, 2] of the cell, pixels
    weight: torch.Tensor  # [H, P], sum 1
    feature: torch.Tensor  # [H, P, D] unit
    pull: torch.Tensor  # [H, P, 2] derivative of the cosine by where the surface is in the image, through the splat
    metric: torch.Tensor  # [H, P, 2, 2] Gauss-Newton's negated second derivative


def splat(pose: Pose, problem: Problem) -> Splatted:
    """Render every hypothesis at its pose and compare it with its crop and box."""
    rendered = render(pose, problem.cloud, problem.clouds, problem.scene, everywhere=True)
    seen = seen_features(rendered, problem.crop, problem.cells.unit)
    cosine = (rendered.feature * seen).sum(1) / rendered.feature.norm(dim=1).clamp(min=1e-8)
    counts = seen_features(rendered, problem.crop, problem.cells.counts[..., None])[:, 0]
    alike, where_shown = (
        mean_cosine(rendered, cosine, c, len(problem.crop)) for c in (torch.ones_like(counts), counts)
    )
    return priced(Splatted(pose, alike, alike, where_shown, rendered, seen, cosine), problem)


def visit(pose: Pose, problem: Problem) -> Visited:
    """What `splat` says of every pose, without what it shows; on the CPU in one loop each."""
    if not for_loops(problem.cells.unit):
        return splat(pose, problem)
    found = visits(pose.in_loops, problem.in_loops, problem.scene.raster)
    similarity, where_shown = torch.from_numpy(found).unbind(1)
    return priced(Visited(pose, similarity, similarity, where_shown), problem)


def priced(visited: AnyVisited, problem: Problem) -> AnyVisited:
    """The same with its value by the problem's coverage cost."""
    if problem.boxes is None:
        return visited
    if not for_loops(problem.outer):
        edges = problem.edges(visited.pose, problem.outline(visited.pose.rotation))
        return replace(visited, value=visited.similarity - coverage(edges, problem.boxes, problem.toll).cost)
    boxed = Boxed(*(t.numpy() for t in (problem.boxes.edges, problem.boxes.clipped, problem.toll)))
    poses, raster = visited.pose.in_loops, problem.scene.raster
    cost = missing_costs(problem.outer.numpy(), boxed, poses, raster, problem.margin)
    return replace(visited, value=visited.similarity - torch.from_numpy(cost))


def cut_template(splatted: Splatted, problem: Problem) -> Template:
    """All pixels. The covered ones weigh, where they are many every second: the squares of one colour on a chess board."""
    rendered, shape, size = splatted.rendered, (len(problem.crop), -1), problem.scene.splat.size
    checked = 1 + (rendered.area(len(problem.crop)) > PIXELS_ENOUGH).long()[rendered.hypothesis]
    kept = rendered.covered & ((rendered.cell % size + rendered.cell // size) % checked == 0)
    residual = 1 - splatted.cosine.view(shape)
    weight = robust_weight(residual, kept.to(residual.dtype).view(shape), problem.config.robust_scale)
    surface, unit, pull, metric = (v.unflatten(0, shape) for v in closer(splatted, problem))
    middle = middles(rendered.cell, size).unflatten(0, shape)
    return Template(splatted.pose, surface, middle, weight, unit, pull, metric)


def middles(cell: torch.Tensor, size: int) -> torch.Tensor:
    """The middles [m, 2] of cells [m], pixels."""
    return torch.stack([cell % size, cell // size], -1) + 0.5


def closer(splatted: Splatted, problem: Problem) -> tuple[torch.Tensor, ...]:
    """Surface, unit feature, pull and metric (see `Template`) of every pixel [M].

    A pixel shows m = sum_k w_k M_k / W with W = sum_k w_k and w_k = 1 - d_k^2 / r^2. With its points moving together, u = m / |m|
    changes by du = (A - (A u) u^T) / (W |m|) with A = sum_k dw_k M_k, and pull = du . F. The metric is cos * du . du: the second
    derivative of u . F where F is a share `cos` of u and something else across it.
    """
    rendered, splatting = splatted.rendered, problem.scene.splat
    hypothesis, cell, index, weight = rendered.hypothesis, rendered.cell, rendered.index, rendered.weight  # [M, K]
    filled, index = index >= 0, index.clamp(min=0)
    total = weight.sum(1, keepdim=True).clamp(min=MIN_WEIGHT_SUM)
    shown = problem.clouds.points[problem.cloud[hypothesis, None], index]  # [M, K, 3]
    surface = (shown * weight[..., None]).sum(1) / total
    to_middle = middles(cell, splatting.size)[:, None] - rendered.uv[hypothesis[:, None], index]  # [M, K, 2]
    rate = to_middle * filled[..., None] * (2 / splatting.radius_px**2)  # of the weights
    points = index + (problem.cloud[hypothesis] * problem.clouds.points.shape[1])[:, None]
    features = problem.clouds.features.flatten(0, 1).index_select(0, points.flatten()).unflatten(0, points.shape)
    change = rate.transpose(1, 2) @ features  # [M, 2, D]
    length = rendered.feature.norm(dim=1, keepdim=True).clamp(min=LEAST_LENGTH)
    unit = rendered.feature / length
    along = (change @ unit[..., None])[..., 0]  # [M, 2]
    cosine = splatted.cosine[:, None]
    pull = ((change @ splatted.seen[..., None])[..., 0] - along * cosine) / (total * length)
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
