"""Covariances of poses: six numbers, x y z in metres, then a rotation vector in radians, all in the axes of the parent frame.

Errors are small: T = (exp(e_r) R, t + e_t). This is the order and meaning of geometry_msgs/PoseWithCovariance.
"""

from __future__ import annotations

import numpy as np


def cross_matrix(v: np.ndarray) -> np.ndarray:
    """The matrix [3, 3] that takes a vector w to v x w."""
    x, y, z = v
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])


def covariance_of_origin(C_mid: np.ndarray, R_cam_obj: np.ndarray, center: np.ndarray) -> np.ndarray:
    """The covariance [6, 6] of T_cam_obj from that of the pose of the object's middle, both in camera axes.

    Turning about the middle moves the mesh's origin: t_obj = t_mid - R c, so e_t += (R c) x e_r.
    """
    lever = np.eye(6)
    lever[:3, 3:] = cross_matrix(R_cam_obj @ center)
    return lever @ C_mid @ lever.T


def settled_along(C: np.ndarray, direction: np.ndarray, variance: float) -> np.ndarray:
    """A covariance [6, 6] once the position along a unit direction [3] has been measured with a variance in m^2 (Kalman's)."""
    seen = C[:, :3] @ direction
    return C - np.outer(seen, seen) / (direction @ seen[:3] + variance)
