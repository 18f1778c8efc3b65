"""Second-order models of what refinement maximises, and steps on them: 3, 5 or 6 unknowns, derivatives by hand.

The unknowns are a rotation tangent w (R = exp(w) R_0), the shift in crop sizes and the log scale, in this order; fewer
unknowns are the first of them. Gradients hold all that the unknowns move, the placement by outline included.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pasr_perception.geometry.se3 import exp_so3
from pasr_perception.refine.coverage import coverage
from pasr_perception.refine.outline import Outline, image_rate
from pasr_perception.refine.problem import Pose
from pasr_perception.refine.template import Problem

SIGN_STEPS = 9  # each trebles what is small, and cubes the error of what is not
SQUARINGS = 7
SMALL = 1e-30


@dataclass(frozen=True)
class Quadratic:
    """Value, gradient and negated Hessian."""

    value: torch.Tensor  # [H]
    gradient: torch.Tensor  # [H, n]
    curvature: torch.Tensor  # [H, n, n]

    def replaced(self, by: Quadratic, where: torch.Tensor) -> Quadratic:
        """The hypotheses `where` [H] bool from others."""
        return Quadratic(
            torch.where(where, by.value, self.value),
            torch.where(where[:, None], by.gradient, self.gradient),
            torch.where(where[:, None, None], by.curvature, self.curvature),
        )


@dataclass(frozen=True)
class PixelTerms:
    """What the pixels [H, P] add, and how it changes with where each is in the image."""

    value: torch.Tensor  # [H, P]
    gradient: torch.Tensor  # [H, P, 2]
    curvature: torch.Tensor  # [H, P, 2, 2]


def assemble(terms: PixelTerms, weight: torch.Tensor, rate: torch.Tensor) -> Quadratic:
    """The weighted sum [H, P] of pixel terms, whose pixels move with the unknowns by rate [H, P, 2, n]."""
    value = (weight * terms.value).sum(1)
    gradient = (rate * (weight[..., None] * terms.gradient)[..., None]).sum((1, 2))
    pulled = (weight[..., None, None] * terms.curvature) @ rate
    return Quadratic(value, gradient, rate.flatten(1, 2).transpose(1, 2) @ pulled.flatten(1, 2))


def less_coverage(of_pixels: Quadratic, pose: Pose, at: Outline, problem: Problem) -> Quadratic:
    """The same less the coverage cost of poses."""
    if problem.boxes is None:
        return of_pixels
    cost = coverage(problem.edges(pose, at), problem.boxes, problem.toll)
    by_edge = edges_rate(pose, at, of_pixels.gradient.shape[-1], problem.margin)  # [H, 4, n]
    return Quadratic(
        of_pixels.value - cost.cost,
        of_pixels.gradient - (cost.gradient[..., None] * by_edge).sum(1),
        of_pixels.curvature + by_edge.transpose(1, 2) @ (cost.curvature[..., None] * by_edge),
    )


def pixels_rate(pose: Pose, surface: torch.Tensor, at: Outline, size: int, unknowns: int) -> torch.Tensor:
    """Derivatives [H, P, 2, n] of the pixels of points [H, P, 3] of the object."""
    rotated = surface @ pose.rotation.transpose(1, 2)
    in_view = rotated + at.placement.offset[:, None]
    zoom = size * at.placement.focal[:, None, None]
    from_middle = zoom * in_view[..., :2] / in_view[..., 2:]
    turning = image_rate(rotated, at.placement.offset) + at.offset_rate[:, None] / in_view[..., 2, None, None]
    turning = zoom[..., None] * turning + from_middle[..., None] * at.zoom_rate[:, None, None]
    return _all_rates(pose, turning, from_middle, float(size), unknowns)


def edges_rate(pose: Pose, at: Outline, unknowns: int, margin: float = 0.0) -> torch.Tensor:
    """Derivatives [H, 4, n] of the outline's edges, crop sizes; `margin` is added to the log scale."""
    pose = Pose(pose.rotation, pose.shift, pose.log_scale + margin)
    corners = at.edges.unflatten(1, (2, 2)) - 0.5  # [H, 2 (low, high), 2 (x, y)]
    return _all_rates(pose, at.edges_rate.unflatten(1, (2, 2)), corners, 1.0, unknowns).flatten(1, 2)


def _all_rates(
    pose: Pose, turning: torch.Tensor, from_middle: torch.Tensor, size: float, unknowns: int
) -> torch.Tensor:
    """Derivatives [H, P, 2, n] of moved image points, from those by rotation [H, P, 2, 3] before shift and scale."""
    scale = pose.log_scale.exp()[:, None, None]
    rates = [scale[..., None] * turning]
    if unknowns >= 5:
        shifting = size * torch.eye(2, dtype=turning.dtype, device=turning.device)
        rates.append(shifting.expand(*turning.shape[:2], 2, 2))
    if unknowns >= 6:
        rates.append((scale * from_middle)[..., None])
    return torch.cat(rates, -1)


def magnitude(matrix: torch.Tensor) -> torch.Tensor:
    """Symmetric matrices [H, n, n] with their eigenvalues' magnitudes in place of these.

    |A| = A sign(A), the sign by Halley's iteration X (3 + X^2) (1 + 3 X^2)^-1: no decomposition, for which a GPU's host would
    have to wait. Eigenvalues below a thousandth of the largest may come out too small.
    """
    one = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    sign = matrix / _length(matrix)
    for _ in range(SIGN_STEPS):
        square = sign @ sign
        sign = torch.linalg.solve_ex(one + 3 * square, sign @ (3 * one + square))[0]
    found = matrix @ sign
    return (found + found.transpose(1, 2)) / 2


def largest(matrix: torch.Tensor) -> torch.Tensor:
    """The largest eigenvalue [H] of matrices [H, n, n] that have none below 0; to half a percent where another is close."""
    power = matrix
    for _ in range(SQUARINGS):
        power = power / _length(power)
        power = power @ power
    return (power * matrix).sum((1, 2)) / power.diagonal(dim1=1, dim2=2).sum(1).clamp(min=SMALL)


def _length(matrix: torch.Tensor) -> torch.Tensor:
    return matrix.flatten(1).norm(dim=1).clamp(min=SMALL)[:, None, None]


def newton_step(at: Quadratic, damping: torch.Tensor, longest: torch.Tensor) -> torch.Tensor:
    """Steps [H, n] uphill, at most `longest` [H] long: Levenberg-Marquardt with eigenvalues taken by their magnitude."""
    curved = magnitude(at.curvature)
    damped = torch.diag_embed((damping * largest(curved) + 1e-9)[:, None].expand_as(at.gradient))
    step = torch.linalg.solve_ex(curved + damped, at.gradient[..., None])[0][..., 0]
    return step * (longest / torch.maximum(step.norm(dim=1), longest))[:, None]


def moved_by(pose: Pose, step: torch.Tensor) -> Pose:
    """Poses after steps [H, n]."""
    shift = pose.shift + step[:, 3:5] if step.shape[1] >= 5 else pose.shift
    log_scale = pose.log_scale + step[:, 5] if step.shape[1] >= 6 else pose.log_scale
    return Pose(exp_so3(step[:, :3]) @ pose.rotation, shift, log_scale)


def distance(a: Pose, b: Pose) -> torch.Tensor:
    """How far apart poses are [H], over radians, crop sizes and log scale."""
    chord = (a.rotation - b.rotation).square().sum((1, 2))  # 8 sin^2(angle / 2)
    angle = 2 * (chord / 8).sqrt().clamp(max=1).asin()
    return (angle**2 + (a.shift - b.shift).square().sum(1) + (a.log_scale - b.log_scale) ** 2).sqrt()
