"""Metric refinement by a registered depth map, where a frame has one (InexactCAD 3.2 for translation).

With rotation known, an object is moved until the surface that it shows lies on what the depth camera measured: points of the
mesh that are seen at the pose are compared with the depth at their pixels. First along the ray, by the commonest difference,
which neither holes nor an occluder nor the wall behind change; then the whole translation, point to plane, by iteratively
reweighted least squares with Tukey's biweight. Rotations stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from pasr_perception.config import DepthConfig
from pasr_perception.geometry.camera import distort_points, project
from pasr_perception.types import Camera, Depth, Frame

REACH = 0.35  # of the object's distance: depths farther off are of something else
BIN = 0.02  # of the object's diameter: width of the bins that the commonest difference is found in, at least 2 mm
WIDTH = 0.06  # of the object's diameter: where Tukey's weight vanishes, in the last round
ROUNDS = 6
CELL = 3.0  # pixels: of points that fall into one such cell only the nearest is seen
PRIOR = 0.02  # share of the points: holds what planes leave open


@dataclass(frozen=True)
class DepthFit:
    """What depth made of a pose."""

    T_cam_obj: np.ndarray  # [4, 4]; as it was where `reason` is not empty
    pixels: int  # that depth explains
    residual: float  # metres, median distance of those from the surface
    reason: str = ""  # why depth was not used


def usable_depth(frame: Frame, config: DepthConfig) -> tuple[Depth | None, str]:
    """A frame's depth map, or None and why there is none to use. Raises ValueError for one of the wrong shape or type."""
    depth = frame.depth
    if depth is None or not config.enabled:
        return None, ""
    expected = (frame.camera.height, frame.camera.width)
    if depth.metres.shape != expected or depth.metres.dtype != np.float32:
        raise ValueError(
            f"frame.depth.metres: expected float32 of shape {expected}, got {depth.metres.dtype} of {depth.metres.shape}"
        )
    age = abs(depth.stamp_ns - frame.stamp_ns) * 1e-9
    if age > config.max_age_s:
        return None, f"depth is {age:.3f} s off the image (at most {config.max_age_s:g} s): not used"
    return depth, ""


def excess(
    points_obj: np.ndarray, T_cam_obj: np.ndarray, depth: Depth, camera: Camera, config: DepthConfig
) -> float | None:
    """By which share of its distance a pose [4, 4] has its surface points [N, 3] farther off than the depth map, along its ray.

    Infinite where depth shows nothing near; None where it shows too little to say anything.
    """
    points = np.asarray(points_obj, np.float64) @ T_cam_obj[:3, :3].T + T_cam_obj[:3, 3]
    seen = points[visible(points, camera)]
    gap = _measured(seen, depth, camera) - seen[:, 2]
    if np.isfinite(gap).sum() < config.min_pixels:
        return None
    distance, reach = float(points[:, 2].mean()), REACH * float(points[:, 2].mean())
    if (np.abs(gap) < reach).sum() < config.min_pixels:
        return np.inf
    return distance / (distance + _commonest(gap, _bin(points), reach)) - 1


def refine_by_depth(
    points_obj: np.ndarray, T_cam_obj: np.ndarray, depth: Depth, camera: Camera, config: DepthConfig
) -> DepthFit:
    """Move a pose [4, 4] along x, y, z until the surface points [N, 3] (metres, object frame) lie on the depth map."""
    points = np.asarray(points_obj, np.float64) @ T_cam_obj[:3, :3].T + T_cam_obj[:3, 3]
    diameter = float(np.linalg.norm(np.ptp(points, axis=0)))
    shift = np.zeros(3)
    seen = visible(points, camera)
    measured = _measured(points[seen], depth, camera)
    if np.isfinite(measured).sum() < config.min_pixels:
        return DepthFit(T_cam_obj, int(np.isfinite(measured).sum()), np.inf, "depth has holes where the object is")
    ray = points.mean(0) / points.mean(0)[2]
    along = _commonest(measured - points[seen, 2], _bin(points), REACH * float(points[:, 2].mean()))
    shift = ray * along
    width = max(4 * WIDTH * diameter, 0.02)
    kept, gap = np.zeros(0, dtype=bool), np.zeros(0)
    for _ in range(ROUNDS):
        moved = points + shift
        seen = visible(moved, camera)
        surface, normals = moved[seen], _normals(moved[seen])
        z = _measured(surface, depth, camera)
        target = surface * (z / surface[:, 2])[:, None]
        gap = ((target - surface) * normals).sum(1)
        kept = np.isfinite(gap) & (np.abs(gap) < width)
        if kept.sum() < config.min_pixels:
            return DepthFit(T_cam_obj, int(kept.sum()), np.inf, "depth shows another surface than the object's")
        weight = (1 - (gap[kept] / width) ** 2) ** 2
        A, b = normals[kept], gap[kept]
        normal = (A * weight[:, None]).T @ A + PRIOR * weight.sum() * np.eye(3)
        shift = shift + np.linalg.solve(normal, (A * weight[:, None]).T @ b)
        width = max(width / 1.6, WIDTH * diameter, 0.004)
    T = T_cam_obj.copy()
    T[:3, 3] += shift
    return DepthFit(T, int(kept.sum()), float(np.median(np.abs(gap[kept]))))


def visible(points: np.ndarray, camera: Camera) -> np.ndarray:
    """Indices of the points [N, 3] (camera frame) that lie in the image with no other point before them."""
    uv = distort_points(project(points, camera.K), camera)
    inside = np.isfinite(uv).all(1) & (uv >= 0).all(1) & (uv < (camera.width, camera.height)).all(1)
    index = np.flatnonzero(inside)
    cell = (uv[index] // CELL).astype(int)
    key = cell[:, 1] * (int(camera.width // CELL) + 1) + cell[:, 0]
    order = np.lexsort((points[index, 2], key))
    first = np.ones(len(order), dtype=bool)
    first[1:] = key[order][1:] != key[order][:-1]
    return index[order[first]]


def _bin(points: np.ndarray) -> float:
    """Width of the bins that the commonest difference is found in, for an object's points [N, 3]."""
    return max(BIN * float(np.linalg.norm(np.ptp(points, axis=0))), 0.002)


def _measured(points: np.ndarray, depth: Depth, camera: Camera) -> np.ndarray:
    """Depth [N] at the points' pixels, NaN in holes."""
    uv = distort_points(project(points, camera.K), camera)
    at = np.where(np.isfinite(uv), uv, -1).astype(int)
    inside = (at >= 0).all(1) & (at[:, 0] < camera.width) & (at[:, 1] < camera.height)
    z = np.full(len(points), np.nan)
    z[inside] = depth.metres[at[inside, 1], at[inside, 0]]
    return np.where(np.isfinite(z) & (z > 0), z, np.nan)


def _commonest(values: np.ndarray, width: float, reach: float) -> float:
    """The middle of where the values [N] lie densest, within `reach` of 0; 0 where none does."""
    values = np.sort(values[np.isfinite(values) & (np.abs(values) < reach)])
    if not len(values):
        return 0.0
    count = np.searchsorted(values, values + 2 * width, side="right") - np.arange(len(values))
    begin = int(count.argmax())
    return float(np.median(values[begin : begin + count[begin]]))


def _normals(points: np.ndarray) -> np.ndarray:
    """Unit normals [N, 3] of a surface's points by their eight nearest neighbours."""
    index = cKDTree(points).query(points, k=min(8, len(points)))[1]
    spread = points[index] - points[index].mean(1, keepdims=True)
    return np.linalg.eigh(np.einsum("nki,nkj->nij", spread, spread))[1][:, :, 0]
