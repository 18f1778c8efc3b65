"""How sure a refined pose is: its covariance from the curvature of eq. 8 at the optimum.

With unit features u of the rendering and F of the crop, P pixels have the loss sum |u - F|^2 / 2 = P (1 - c), c their mean
cosine. Least squares with this loss has the covariance s^2 (P A)^-1: A is the negated Hessian of c, Gauss and Newton's, and
s^2 = 2 (1 - c) / D the residual's variance per channel. Neighbouring cells share most of what they show and channels are not
independent, so there is less information than that: by how much was measured (`Noise`), as were the floors, which stand
for what no curvature knows of (a library's few views, a wrong small maximum next to the right one); docs/performance.md.

Shift and scale come from the detection's box where refinement does not move them; its edges are off by `Noise.edge`, and a
clipped one says nothing. Through the lift, the scale's error is the depth's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from pasr_perception.geometry.placement import for_loops
from pasr_perception.kernels.newton import splat_models
from pasr_perception.lift import displaced, lift_rate, lift_translation
from pasr_perception.refine.newton import splat_model
from pasr_perception.refine.problem import Boxes, Pose
from pasr_perception.refine.quadratic import edges_rate
from pasr_perception.refine.template import Problem, cut_template, splat
from pasr_perception.types import Camera, Crop

TURN_VARIANCE = math.pi**2 / 3  # of an angle of which nothing is known


@dataclass(frozen=True)
class Noise:
    """What is not in the curvature. The defaults are measured."""

    inflation: float = 1600.0  # of the covariance by the curvature
    edge: float = 0.045  # standard deviation of a box's edge, of the box's longer side
    cut_edge: float = 1.0  # the same of an edge that the image border cuts, crop sizes
    floor: tuple[float, float, float] = (0.06, 0.003, 0.01)  # standard deviations: radians, crop sizes, log scale


@torch.inference_mode()
def unknowns_covariance(problem: Problem, pose: Pose, boxes: Boxes, noise: Noise) -> torch.Tensor:
    """The covariances [H, 6, 6] of rotation tangents (radians, crop axes), shifts (crop sizes) and log scales.

    `boxes` are the detections' in the crops, whether or not refinement looked at them.
    """
    unknowns = problem.config.unknowns if problem.config.moves_in_image else 3
    problem = replace(problem, boxes=None, config=replace(problem.config, unknowns=unknowns))
    similarity, pixels, curvature = (_curved_in_loops if for_loops(problem.cells.unit) else _curved)(pose, problem)
    variance = 2 * (1 - similarity).clamp(min=1e-3) / problem.cells.unit.shape[-1]
    information = _by_boxes(pose, boxes, problem, noise)
    information[:, :unknowns, :unknowns] += (
        _positive(curvature) * (pixels.clamp(min=1) / (noise.inflation * variance))[:, None, None]
    )
    information[:, :3, :3] += torch.eye(3, device=information.device) / TURN_VARIANCE
    turn, shift, scale = noise.floor
    floor = information.new_tensor([turn] * 3 + [shift] * 2 + [scale]).square().diag()
    return torch.linalg.inv(information.double()) + floor.double()


def _curved(pose: Pose, problem: Problem) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of splats: similarity [H], covered pixels [H] and curvature [H, n, n]."""
    found = splat(pose, problem)
    model = splat_model(cut_template(found, problem), problem)
    return found.similarity, found.rendered.area(len(pose.rotation)), model.curvature


def _curved_in_loops(pose: Pose, problem: Problem) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`_curved` on the CPU."""
    raster, robust, n = problem.scene.raster, problem.config.robust_scale, problem.config.unknowns
    found = splat_models(pose.in_loops, problem.in_loops, raster, robust)
    similarity, covered, curvature = map(torch.from_numpy, (found.similarity, found.covered, found.curvature))
    return similarity, covered, curvature[:, :n, :n]


def _positive(curvature: torch.Tensor) -> torch.Tensor:
    """Symmetric matrices [H, n, n] without what rounding made negative: it would take information away."""
    values, vectors = torch.linalg.eigh(curvature)
    return vectors @ (values.clamp(min=0)[..., None] * vectors.transpose(1, 2))


def _by_boxes(pose: Pose, boxes: Boxes, problem: Problem, noise: Noise) -> torch.Tensor:
    """What boxes say of shift and scale: information [H, 6, 6], nothing in the rotation's rows."""
    rate = edges_rate(pose, problem.outline(pose.rotation), 6, problem.margin)  # [H, 4, 6]
    rate[..., :3] = 0  # the outline is fitted to the box at every rotation
    longer = (boxes.edges[:, 2:] - boxes.edges[:, :2]).amax(1, keepdim=True)
    deviation = torch.where(boxes.clipped, noise.cut_edge, noise.edge * longer)
    return rate.transpose(1, 2) @ (rate / deviation.square()[..., None])


def turned_back(covariance: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """Covariances [H, 6, 6] in the axes of crops as they were, from those in crops that `turn` [H, 3, 3] leads back from."""
    J = torch.zeros_like(covariance)
    J[:, :3, :3], J[:, 3:5, 3:5], J[:, 5, 5] = turn, turn[:, :2, :2], 1
    return J @ covariance @ J.transpose(1, 2)


def spun(covariance: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """A pose's covariance [6, 6] where turns about axes [A, 3] cannot be told: unit vectors in the parent's axes."""
    C = covariance.copy()
    C[3:, 3:] += TURN_VARIANCE * axes.T @ axes
    return C


def pose_rate(
    R_crop_obj: np.ndarray, displacement: np.ndarray, points: np.ndarray, crop: Crop, camera: Camera
) -> np.ndarray:
    """Derivatives [6, 6] of the middle's pose (x y z rx ry rz, camera axes) by the unknowns, through the lift.

    displacement [3] is off the placement by outline, `points` [N, 3] the outline's in metres about the middle. Raises LiftError.
    """
    by_box = lift_translation(points, R_crop_obj, crop, camera)
    t = displaced(by_box, displacement, crop)
    rate = np.zeros((6, 6))
    by_place = np.stack([displaced(by_box + axis, displacement, crop) - t for axis in np.eye(3)], 1)  # it is linear
    rate[:3, :3] = by_place @ lift_rate(points, R_crop_obj, by_box, crop, camera)
    rate[[0, 1], [3, 4]] = t[2] * 2 * crop.K_crop[0, 2] / np.diag(crop.K_crop)[:2]  # it looks through the crop's middle
    rate[:3, 5] = -t
    rate[3:, :3] = np.eye(3)
    return np.kron(np.eye(2), crop.R_cam_crop) @ rate
