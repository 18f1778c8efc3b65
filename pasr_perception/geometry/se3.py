"""Rigid transforms: matrices `T_a_b`, quaternions at the borders (transforms3d), the exponential map in torch."""

from __future__ import annotations

import math

import numpy as np
import torch
from transforms3d.quaternions import mat2quat, quat2mat

ROTATION_TOLERANCE = 1e-6
SMALL_ANGLE_SQUARED = 1e-4  # below it the series of sin(a)/a and (1 - cos(a))/a^2 are exact to float64's last digits


def make_T(R: np.ndarray, t: np.ndarray) -> np.ndarray:  # noqa: N802
    """T [4, 4] float64 from a rotation [3, 3] and a translation [3]."""
    T = np.eye(4)
    T[:3, :3] = R
    T[:3, 3] = t
    return T


def invert_T(T: np.ndarray) -> np.ndarray:  # noqa: N802
    """T_b_a [4, 4] of a rigid T_a_b [4, 4]; the rotation is transposed, so no digits are lost."""
    R = T[:3, :3]
    return make_T(R.T, -R.T @ T[:3, 3])


def is_rotation(R: np.ndarray, tol: float = ROTATION_TOLERANCE) -> bool:
    """Whether `R` is a finite, proper rotation [3, 3], every entry of R R^T within `tol` of the identity."""
    R = np.asarray(R, dtype=np.float64)
    return R.shape == (3, 3) and bool(are_rotations(R[None], tol)[0])


def are_rotations(R: np.ndarray, tol: float = ROTATION_TOLERANCE) -> np.ndarray:
    """Which of the matrices [N, 3, 3] float64 are rotations, as `is_rotation` has it: [N] bool."""
    small = (np.abs(R) < 10).all(axis=(1, 2))  # false for NaN as well; what is far off must not overflow below
    R = np.where(small[:, None, None], R, 0.0)
    error = np.abs(R @ R.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2), initial=0.0)
    rotations: np.ndarray = small & (error <= tol) & (np.linalg.det(R) > 0)
    return rotations


def rotation_angle(R_a: np.ndarray, R_b: np.ndarray) -> float:
    """Angle in radians [0, pi] between two rotations [3, 3]; as exact for tiny angles and half turns as in between."""
    R = np.asarray(R_a, dtype=np.float64).T @ np.asarray(R_b, dtype=np.float64)
    twice_sine = math.hypot(R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1])
    return math.atan2(twice_sine, float(np.trace(R)) - 1)


def quaternion_xyzw(R: np.ndarray) -> np.ndarray:
    """Unit quaternion [4] in ROS order x, y, z, w of a rotation [3, 3], with w >= 0.

    Raises ValueError if `R` is not a rotation: nothing improper may leave as a quaternion.
    """
    if not is_rotation(R, tol=1e-4):
        raise ValueError(f"R: expected a rotation matrix [3, 3], got {np.asarray(R).tolist()}")
    w, x, y, z = mat2quat(np.asarray(R, dtype=np.float64))
    q = np.array([x, y, z, w])
    return (-q if w < 0 else q) / np.linalg.norm(q)


def _outer_of_quaternion(R: np.ndarray) -> np.ndarray:
    """4 q qᵀ [4, 4] of the unit quaternion q = x, y, z, w of a rotation [3, 3]; linear in R but for its constant."""
    (a, b, c), (d, e, f), (g, h, i) = R
    return np.array(
        [
            [1 + a - e - i, b + d, c + g, h - f],
            [b + d, 1 - a + e - i, f + h, c - g],
            [c + g, f + h, 1 - a - e + i, d - b],
            [h - f, c - g, d - b, 1 + a + e + i],
        ]
    )


OUTER_CONSTANT = _outer_of_quaternion(np.zeros((3, 3))).ravel()  # [16]
OUTER_LINEAR = np.array(
    [_outer_of_quaternion(E).ravel() - OUTER_CONSTANT for E in np.eye(9).reshape(9, 3, 3)]
)  # [9, 16]


def quaternions_xyzw(R: np.ndarray) -> np.ndarray:
    """Unit quaternions [N, 4], as `quaternion_xyzw` gives them, of rotations [N, 3, 3] that were checked already.

    All at once, in few steps: one by one, or with scipy's checks and projection, they would be most of what publishing costs.
    Of the rows of 4 q qᵀ, each of them a multiple of q, that of the largest diagonal element is the most exact.
    """
    rows = (R.reshape(-1, 9) @ OUTER_LINEAR + OUTER_CONSTANT).reshape(-1, 4, 4)
    q = rows[range(len(rows)), np.argmax(np.diagonal(rows, axis1=1, axis2=2), axis=1)]
    length = np.copysign(np.sqrt((q * q).sum(1)), q[:, 3])
    return q / length[:, None]


def rotation_from_quaternion_xyzw(q: np.ndarray) -> np.ndarray:
    """Rotation [3, 3] of a quaternion [4] in ROS order x, y, z, w; it is normalised first.

    Raises ValueError for a wrong shape, non-finite numbers, or a quaternion of zero length.
    """
    q = np.asarray(q, dtype=np.float64)
    if q.shape != (4,) or not np.isfinite(q).all():
        raise ValueError(f"q: expected 4 finite numbers x, y, z, w, got {q.tolist()}")
    length = np.linalg.norm(q)
    if length < 1e-9:
        raise ValueError("q: expected a quaternion of non-zero length, got all zeros")
    x, y, z, w = q / length
    return quat2mat((w, x, y, z))


def exp_so3(v: torch.Tensor) -> torch.Tensor:
    """Rotations [..., 3, 3] of rotation vectors [..., 3] (axis times radians); differentiable everywhere."""
    squared = (v * v).sum(-1)
    small = squared < SMALL_ANGLE_SQUARED
    # torch.where alone would let the infinite gradient of sqrt at 0 through: the unused branch is kept away from 0
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    sine = torch.where(small, 1 - squared / 6 * (1 - squared / 20), angle.sin() / angle)
    half = (angle / 2).sin()
    cosine = torch.where(small, 0.5 - squared / 24 * (1 - squared / 30), 2 * half * half / (angle * angle))
    x, y, z = v.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    identity = torch.eye(3, dtype=v.dtype, device=v.device)
    return identity + sine[..., None, None] * skew + cosine[..., None, None] * (skew @ skew)
