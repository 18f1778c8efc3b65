"""Refinement by Newton's method over 3, 5 or 6 unknowns (`quadratic.py`), two kinds of steps between true splats.

*Carried steps* go far. The splatted pixels are carried over the crop as the surface that they show moves, and their mean
cosine is climbed on their products with its cells (`products.py`), where a look costs next to nothing: Lucas and Kanade's
alignment (1981) of the rendering with the crop, but for eq. 8 itself and with its own second derivatives. Their gradient is
the mean of the crop's and of the rendering's own, as in efficient second-order minimisation (Benhimane and Malis 2004).

*Splat steps* finish. They follow the derivative of the splat, which is that of eq. 8 but for points that come and go, with
Gauss-Newton's curvature. The residual is not small, though: features of photos and meshes have cosines of 0.2 to 0.5. What
does not match has no curvature on average, so each pixel's is scaled by its cosine.

Only a pose whose value rises by the true splat (eq. 8 less the coverage cost) is taken; else the trust region shrinks. So no
result is worse than its start. `coverage.py` keeps a rendering that may scale from shrinking to where the crop matches best;
robust weights let pixels that something hides pull less.

After the first step only the `finalists` of each detection go on: who is far behind then does not win.

Two carried steps are the default, and `polish.py` after them; more are splat steps (docs/performance.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from pasr_perception.config import RefineConfig
from pasr_perception.geometry.placement import for_loops
from pasr_perception.kernels import newton as kernels
from pasr_perception.kernels.climb import BEYOND, CLIMB_STEPS, DAMPING, LATE_TRUST, RELAX, STIFFEN, Way
from pasr_perception.refine.outline import Outline
from pasr_perception.refine.problem import Cells, Clouds, Hypotheses, Pose, Refined, RenderScene
from pasr_perception.refine.products import look_up
from pasr_perception.refine.quadratic import (
    PixelTerms,
    Quadratic,
    assemble,
    distance,
    less_coverage,
    moved_by,
    newton_step,
    pixels_rate,
)
from pasr_perception.refine.template import (
    Problem,
    Template,
    Visited,
    cut_template,
    priced,
    splat,
    surface_pixels,
    visit,
)

LEAST_SIMILARITY = 0.05  # that the coverage cost is a share of
CARRIED = 2  # steps at least before the first splat step
TRUST = 0.25  # largest change between two splats at first; radians, crop sizes and log scale alike
SHRINK = 0.4  # of the trust region where the splat contradicts the model


@torch.inference_mode()
def refine_newton(start: Hypotheses, clouds: Clouds, cells: Cells, scene: RenderScene, config: RefineConfig) -> Refined:
    """Maximise similarity less coverage cost; returns the best pose that was splatted, start included."""
    problem = Problem.of(start, clouds, cells, scene, config)
    pose = Pose.by_outline(start.rotation)
    known = start.similarity
    found = visit(pose, problem) if known is None else Visited.settled_at(Refined.of(pose, known))
    settled = found.settled
    if not config.iterations:
        return settled
    # encoders differ in how similar a match is, and in how much of that a movement changes
    problem = replace(problem, toll=config.coverage_weight * found.similarity.clamp(min=LEAST_SIMILARITY))
    trust, damping = (torch.full_like(found.similarity, each) for each in (TRUST, DAMPING))
    state = Search(problem, priced(found, problem), trust, damping)
    left = torch.arange(len(trust), device=trust.device)  # of the hypotheses, those still refined
    finest = max(min(CARRIED, config.iterations), config.iterations - config.iterations // 2)  # begins with splat steps
    for iteration in range(config.iterations):
        far = iteration < finest
        ahead = next_pose(state.problem, state.best.pose, state.trust, state.damping, far)
        state = state.after(visit(ahead, state.problem), far)
        settled = settled.replaced(state.best.settled, left)
        if iteration == 0 and start.contest is not None:
            left = start.contest.finalists(state.best.value, config.finalists)
            state = state.chosen(left)
    return settled


@dataclass(frozen=True)
class Search:
    """How far H hypotheses have come."""

    problem: Problem
    best: Visited  # so far
    trust: torch.Tensor  # [H]
    damping: torch.Tensor  # [H]

    def chosen(self, index: torch.Tensor) -> Search:
        """Some of them."""
        return Search(self.problem.chosen(index), self.best.chosen(index), self.trust[index], self.damping[index])

    def after(self, found: Visited, far: bool) -> Search:
        """With what the next poses turned out to be: the better ones are taken."""
        better = found.value > self.best.value
        return replace(
            self,
            best=self.best.replaced(found, better),
            trust=torch.where(better, self.trust, SHRINK * self.trust),
            damping=self.damping if far else self.damping * torch.where(better, RELAX, STIFFEN),
        )


def next_pose(problem: Problem, pose: Pose, trust: torch.Tensor, damping: torch.Tensor, far: bool) -> Pose:
    """Where the splat at each pose says that there is more; on the CPU in one loop each."""
    if not for_loops(problem.cells.unit):
        return next_in_tensors(problem, pose, trust, damping, far)
    looked_at = problem.narrow if far else problem
    config, boxes = problem.config, problem.boxes
    box = (trust.new_zeros(len(trust), 4), torch.zeros(len(trust), 4, dtype=torch.bool), torch.zeros_like(trust))
    if boxes is not None:
        box = boxes.edges, boxes.clipped, problem.toll
    drawn = kernels.Drawn(*(t.contiguous().numpy() for t in (*box, trust, damping)))
    way = Way(config.unknowns, config.robust_scale, problem.margin, far)
    found = kernels.next_poses(pose.in_loops, drawn, looked_at.in_loops, problem.scene.raster, way)
    rotation, moved = torch.from_numpy(found.rotation), torch.from_numpy(found.moved)
    return Pose(rotation, moved[:, :2], moved[:, 2])


def next_in_tensors(problem: Problem, pose: Pose, trust: torch.Tensor, damping: torch.Tensor, far: bool) -> Pose:
    """`next_pose` on any device."""
    problem = problem.narrow if far else problem
    template = cut_template(splat(pose, problem), problem)
    if far:
        return climb(template, trust, problem)
    step = newton_step(splat_model(template, problem), damping, trust.clamp(max=LATE_TRUST))
    return moved_by(pose, step)


def splat_model(template: Template, problem: Problem) -> Quadratic:
    """The derivatives of the splat at the template's own pose."""
    pose, size = template.pose, problem.scene.splat.size
    at = problem.outline(pose.rotation)
    rate = pixels_rate(pose, template.surface, at, size, problem.config.unknowns)
    terms = PixelTerms(torch.zeros_like(template.weight), template.pull, template.metric)
    return less_coverage(assemble(terms, template.weight, rate), pose, at, problem)


def climb(template: Template, trust: torch.Tensor, problem: Problem) -> Pose:
    """The poses that the product maps hold for the best within trust [H] of the template's own."""
    carried = Carried(template, problem)
    pose, now = template.pose, carried.at_template
    damping = torch.full_like(trust, DAMPING)
    for _ in range(CLIMB_STEPS):
        moved = moved_by(pose, newton_step(now, damping, trust))
        there = carried.model(moved)
        good = (there.value > now.value) & (distance(moved, template.pose) <= BEYOND * trust)
        pose, now = pose.replaced(moved, good), now.replaced(there, good)
        damping = torch.where(good, RELAX * damping, STIFFEN * damping)
    return pose


class Carried:
    """A template's pixels on the product maps of its crop."""

    def __init__(self, template: Template, problem: Problem) -> None:
        self._template, self._problem, self._size = template, problem, problem.scene.splat.size
        cells = problem.cells.unit[problem.crop]  # [H, g * g, D]
        self._products = template.feature @ cells.transpose(1, 2)  # [H, P, g * g]
        at = problem.outline(template.pose.rotation)
        # a surface lies where its points are on average, its pixel where the cell is
        self._correction = template.middle - surface_pixels(template.pose, template.surface, at, self._size)
        self._tilt = (template.pull - look_up(self._products, template.middle, self._size)[1]) / 2  # [H, P, 2]
        self.at_template = self._model(template.pose, template.middle, at)

    def model(self, pose: Pose) -> Quadratic:
        """What the product maps and the box say of poses."""
        at = self._problem.outline(pose.rotation)
        uv = surface_pixels(pose, self._template.surface, at, self._size) + self._correction
        return self._model(pose, uv, at)

    def _model(self, pose: Pose, uv: torch.Tensor, at: Outline) -> Quadratic:
        """The same where its pixels are at uv [H, P, 2]: at the template's own pose exactly at their middles."""
        template, unknowns = self._template, self._problem.config.unknowns
        value, gradient, hessian = look_up(self._products, uv, self._size)
        value = value + (self._tilt * (uv - template.middle)).sum(-1)
        terms = PixelTerms(value, gradient + self._tilt, -hessian)
        rate = pixels_rate(pose, template.surface, at, self._size, unknowns)
        return less_coverage(assemble(terms, template.weight, rate), pose, at, self._problem)
