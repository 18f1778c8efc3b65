"""The translation that makes an outline fill a box, through a camera without lens distortion. Twin: `lift.settled_in_arrays`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pasr_perception.kernels.compiled import exact_kernel, trial

MAX_STEPS = 12  # Gauss-Newton steps per round; 3 to 5 is usual
CONVERGED = 1e-7  # of a step in (x/z, y/z, log z)
MAX_LOG_STEP = 0.5  # of log z in one step
HINGE_STEPS = 5  # changes of mind, per step, over which clipped edges count
OVERSHOOT_WEIGHT = 1e-4  # of a clipped edge that the object goes beyond


@dataclass(frozen=True)
class Pinhole:
    """A camera as the loop reads it."""

    rotation: np.ndarray  # [3, 3] to its axes
    focal: np.ndarray  # [2] pixels, x and y
    middle: np.ndarray  # [2]


@exact_kernel
def _see(
    point: np.ndarray, t: np.ndarray, rotation: np.ndarray, focal: np.ndarray, middle: np.ndarray, q: np.ndarray
) -> None:
    """Where a point [3] moved by t [3] is before the camera, and its pixel, to q [5]; the pixel is none where q[2] <= 0."""
    x, y, z = point[0] + t[0], point[1] + t[1], point[2] + t[2]
    for k in range(3):
        q[k] = rotation[k, 0] * x + rotation[k, 1] * y + rotation[k, 2] * z
    for axis in range(2):
        q[3 + axis] = q[axis] / q[2] * focal[axis] + middle[axis] if q[2] > 0 else 0.0


@exact_kernel
def _extremes(
    points: np.ndarray,
    t: np.ndarray,
    rotation: np.ndarray,
    focal: np.ndarray,
    middle: np.ndarray,
    forming: np.ndarray,
) -> None:
    """Which points form x_min, y_min, x_max and y_max, to forming [4]; -1 where the camera sees none."""
    q, bound = np.empty(5), np.empty(4)
    forming[:] = -1
    for i in range(points.shape[0]):
        _see(points[i], t, rotation, focal, middle, q)
        if not q[2] > 0:
            continue
        first = forming[0] < 0
        for axis in range(2):
            if first or q[3 + axis] < bound[axis]:
                bound[axis], forming[axis] = q[3 + axis], i
            if first or q[3 + axis] > bound[axis + 2]:
                bound[axis + 2], forming[axis + 2] = q[3 + axis], i


@exact_kernel
def _weights(residual: np.ndarray, clipped: np.ndarray, weight: np.ndarray) -> None:
    for e in range(4):
        weight[e] = OVERSHOOT_WEIGHT if clipped[e] and residual[e] > 0 else 1.0


@exact_kernel
def _step(residual: np.ndarray, jacobian: np.ndarray, clipped: np.ndarray, step: np.ndarray) -> None:
    """The step [3] that is best for the linearised residual [4], with weights that hold where it ends."""
    weight, settled = np.empty(4), np.empty(4)
    _weights(residual, clipped, weight)
    for _ in range(HINGE_STEPS):
        step[:] = -np.linalg.lstsq(weight.reshape(4, 1) * jacobian, weight * residual)[0]
        _weights(residual + jacobian @ step, clipped, settled)
        if (settled == weight).all():
            break
        weight[:] = settled


@exact_kernel
def _settle(
    points: np.ndarray,
    rotation: np.ndarray,
    focal: np.ndarray,
    middle: np.ndarray,
    box: np.ndarray,
    clipped: np.ndarray,
    lowest: float,
    best: np.ndarray,
) -> None:
    """From the state `best` [3] to that of least cost met on the way."""
    current, t, q, least = best.copy(), np.empty(3), np.empty(5), np.inf
    forming, by_state = np.empty(4, np.int64), np.empty((3, 3))
    residual, jacobian, weight, step = np.empty(4), np.empty((4, 3)), np.empty(4), np.empty(3)
    for _ in range(MAX_STEPS):
        z = np.exp(current[2])
        t[0], t[1], t[2] = current[0] * z, current[1] * z, z
        _extremes(points, t, rotation, focal, middle, forming)
        if forming[0] < 0:
            return
        for k in range(3):  # of the camera's coordinates by (x/z, y/z, log z)
            by_state[k, 0], by_state[k, 1] = rotation[k, 0] * z, rotation[k, 1] * z
            by_state[k, 2] = rotation[k, 0] * t[0] + rotation[k, 1] * t[1] + rotation[k, 2] * t[2]
        for e in range(4):
            axis, outward = e % 2, -1.0 if e < 2 else 1.0
            _see(points[forming[e]], t, rotation, focal, middle, q)
            residual[e] = (q[3 + axis] - box[e]) * outward
            for s in range(3):
                rate = (by_state[axis, s] - q[axis] / q[2] * by_state[2, s]) / q[2]
                jacobian[e, s] = focal[axis] * rate * outward
        _weights(residual, clipped, weight)
        cost = ((weight * residual) ** 2).sum()
        if cost < least:
            best[:], least = current, cost
        if not (np.isfinite(jacobian).all() and np.isfinite(residual).all()):
            return
        _step(residual, jacobian, clipped, step)
        step *= min(1.0, MAX_LOG_STEP / max(abs(step[2]), 1e-12))
        step[2] = max(current[2] + step[2], lowest) - current[2]
        if np.abs(step).max() < CONVERGED:
            return
        current += step


def settle(
    points: np.ndarray, state: np.ndarray, camera: Pinhole, box: np.ndarray, clipped: np.ndarray, lowest: float
) -> np.ndarray:
    """The state (x/z, y/z, log z) [3] of least cost met on the way from `state`, at which points [N, 3] fill a box [4]."""
    best = np.array(state, np.float64)
    _settle(np.ascontiguousarray(points), camera.rotation, camera.focal, camera.middle, box, clipped, lowest, best)
    return best


@trial
def _on_two_points() -> None:
    corners, ones = np.array([[-1.0, -1.0, 0.0], [1.0, 1.0, 0.0]]), np.ones(2)
    box, never = np.array([-1.0, -1.0, 1.0, 1.0]), np.zeros(4, np.bool_)
    settle(corners, np.array([0.0, 0.0, 1.0]), Pinhole(np.eye(3), ones, ones - 1), box, never, 0.0)
