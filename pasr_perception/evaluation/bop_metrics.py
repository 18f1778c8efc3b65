"""BOP's VSD and the average recalls of its three pose errors, as bop_toolkit computes them (Hodan et al. 2020).

MSSD and MSPD themselves are in `metrics.py`. An estimate is right where its error is under a threshold; the average recall is the
mean over the thresholds of the share of targets that are right, a target without an estimate being wrong.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from pasr_perception.render.mesh import Raycaster, camera_rays
from pasr_perception.types import Camera

SHARES = np.arange(0.05, 0.51, 0.05)  # VSD's tau and theta, MSSD's theta: of the diameter, or of the union
MSPD_PIXELS = np.arange(5.0, 51.0, 5.0)  # MSPD's theta in an image of MSPD_WIDTH
MSPD_WIDTH = 640
DELTA = 0.015  # metres: how far behind what the sensor saw a surface still counts as seen


def depth_image(caster: Raycaster, T_cam_obj: np.ndarray, camera: Camera) -> np.ndarray:
    """Depth [H, W] in metres of a mesh alone at T_cam_obj [4, 4], 0 where it is not; lens distortion is left out."""
    depth = np.zeros((camera.height, camera.width))
    left, top, right, bottom = _window(caster.mesh.bounds, T_cam_obj, camera)
    if left >= right or top >= bottom:
        return depth
    shifted = camera.K - np.array([[0, 0, left], [0, 0, top], [0, 0, 0]])
    rays = camera_rays(shifted, right - left, bottom - top, 1)
    R, t = T_cam_obj[:3, :3], T_cam_obj[:3, 3]
    hits = caster.cast(-R.T @ t, rays @ R)
    seen = np.zeros(len(rays))
    seen[hits.ray] = hits.distance
    depth[top:bottom, left:right] = seen.reshape(bottom - top, right - left)
    return depth


def _window(bounds: np.ndarray, T_cam_obj: np.ndarray, camera: Camera) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the pixels that something within bounds [2, 3] of the object frame may cover."""
    corners = np.array(list(itertools.product(*bounds.T))) @ T_cam_obj[:3, :3].T + T_cam_obj[:3, 3]
    size = np.array([camera.width, camera.height])
    if corners[:, 2].min() <= 1e-6 * np.linalg.norm(bounds[1] - bounds[0]):  # reaches behind the camera
        return 0, 0, camera.width, camera.height
    projected = corners @ camera.K.T
    uv = projected[:, :2] / projected[:, 2:]
    left, top = np.clip(np.floor(uv.min(0)), 0, size).astype(int).tolist()
    right, bottom = np.clip(np.ceil(uv.max(0)), 0, size).astype(int).tolist()
    return left, top, right, bottom


def distance_image(depth: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Distance to the camera's centre [H, W] of depth along the optical axis [H, W]; 0 stays 0."""
    row, column = np.nonzero(depth)
    x, y = (column + 0.5 - K[0, 2]) / K[0, 0], (row + 0.5 - K[1, 2]) / K[1, 1]
    distance = np.zeros(depth.shape)
    distance[row, column] = depth[row, column] * np.sqrt(x * x + y * y + 1)
    return distance


def visible_mask(distance_seen: np.ndarray, distance: np.ndarray, delta: float = DELTA) -> np.ndarray:
    """Where a rendered surface would be seen [H, W]: at most `delta` behind the sensor's distance, or where that is unknown (0)."""
    return (distance > 0) & ((distance - distance_seen <= delta) | (distance_seen == 0))


def vsd(
    distance_estimated: np.ndarray,
    distance_true: np.ndarray,
    distance_seen: np.ndarray,
    diameter: float,
    taus: np.ndarray = SHARES,
) -> np.ndarray:
    """VSD [T] in 0..1, one for each misalignment tolerance `taus` [T] (shares of the diameter).

    The three distance images [H, W], metres, 0 = nothing: the mesh at the estimated and at the true pose, and the sensor's.
    """
    seen_true = visible_mask(distance_seen, distance_true)
    # what is seen at the true pose is not held to be hidden at the estimated one
    seen_estimated = visible_mask(distance_seen, distance_estimated) | (seen_true & (distance_estimated > 0))
    both, either = seen_true & seen_estimated, seen_true | seen_estimated
    if not either.any():
        return np.ones(len(taus))
    apart = np.abs(distance_true[both] - distance_estimated[both]) / diameter
    misaligned = (apart[None] >= np.asarray(taus)[:, None]).sum(1)
    return (misaligned + either.sum() - both.sum()) / either.sum()


def average_recall(errors: Sequence[float | None], thresholds: np.ndarray) -> float | None:
    """Mean over thresholds [K] of the share of errors below; None among the errors is a wrong target. None for no targets."""
    if not len(errors):
        return None
    values = np.array([np.inf if error is None else error for error in errors])
    return float((values[None] < np.asarray(thresholds)[:, None]).mean())


def mssd_recall(errors: Sequence[float | None]) -> float | None:
    """Average recall of MSSD; errors as shares of the diameter."""
    return average_recall(errors, SHARES)


def mspd_recall(errors: Sequence[float | None], width: int) -> float | None:
    """Average recall of MSPD; errors in pixels of images `width` pixels wide, for which the thresholds are scaled."""
    return average_recall(errors, MSPD_PIXELS * width / MSPD_WIDTH)


def vsd_recall(errors: Sequence[np.ndarray | None]) -> float | None:
    """Average recall of VSD over tolerances and thresholds; each error is [T] as `vsd` gives them."""
    if not len(errors):
        return None
    tables = [np.ones(len(SHARES)) if error is None else error for error in errors]
    values = [average_recall([float(table[i]) for table in tables], SHARES) for i in range(len(SHARES))]
    return float(np.mean([value for value in values if value is not None]))
