"""Boxes [4] xyxy in pixels: how much they overlap, and the one around an object at a pose."""

from __future__ import annotations

import numpy as np

from pasr_perception.geometry.camera import distort_points, project
from pasr_perception.types import Camera

NEAREST = 1e-3  # metres in front of the camera; nearer points have no place in the image


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Overlap over union [A, B] of boxes [A, 4] and [B, 4]."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    inner = np.clip(high - low, 0, None).prod(-1)
    area = [(x[:, 2:] - x[:, :2]).prod(-1) for x in (a, b)]
    return inner / np.maximum(area[0][:, None] + area[1][None] - inner, 1e-9)


def sides(box: np.ndarray) -> np.ndarray:
    """What shares of a box's edges [4] are taken of: width, height, width, height."""
    return np.tile(np.maximum(box[2:] - box[:2], 1e-9), 2)


def expected_box(points_obj: np.ndarray, T_cam_obj: np.ndarray, camera: Camera) -> np.ndarray | None:
    """The box of points [N, 3] of an object, not cut at the image's border; None where it is not in front."""
    points = points_obj @ T_cam_obj[:3, :3].T + T_cam_obj[:3, 3]
    if points[:, 2].min() <= NEAREST:
        return None
    uv = distort_points(project(points, camera.K), camera)
    if not np.isfinite(uv).all():
        return None
    return np.concatenate([uv.min(0), uv.max(0)])
