"""The lift stage: metres from box geometry, intrinsics and the mesh's size (the RGB case of InexactCAD 3.1.3).

With the rotation known, a translation is three unknowns and a box four edges: the object is moved until the bounds of
its projected points agree with the box in least squares of pixels. Gauss-Newton over (x/z, y/z, log z) from a
weak-perspective start; the points that form the bounds are found anew in every step. Pixels are not weighted by the
box's sides: with rotations some degrees off, which is what the search gives, the longer side is the one to trust.

An edge that lies on the image border ("clipped") only says that the object reaches at least that far. It counts fully
while the object falls short of it, and next to nothing beyond. Three free edges still settle everything; where fewer do
(two opposite edges clipped leave the sideways shift open, two adjacent ones the depth), what is open is settled by the
smallest overshoot over the image border.

How far to trust it (errors of the translation in shares of the distance; 30 to 100 degrees of view, objects anywhere
in the image at 2 to 12 radii; measured by tests/unit/test_lift.py): exact boxes give the translation back to 1e-6,
also with one edge clipped. Edges that jitter evenly within 5 % of the box's side give a median of 2.3 % and a 90th
percentile of 5 %, nearly all of it depth (normal jitter of that deviation: 3.7 % and 8.6 %; the even one with
rotations about 8 degrees off: 2.7 % and 7 %). Two opposite edges clipped: about 5 %. Two adjacent: a bound rather
than an estimate, median 18 %.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pasr_perception.geometry.camera import distort_points, has_distortion, project, ray_limit
from pasr_perception.geometry.se3 import is_rotation, make_T
from pasr_perception.kernels.lift import (
    CONVERGED,
    HINGE_STEPS,
    MAX_LOG_STEP,
    MAX_STEPS,
    OVERSHOOT_WEIGHT,
    Pinhole,
    settle,
)
from pasr_perception.types import Camera, Crop

MIN_DEPTH = 1.05  # object radii from the camera to the object's centre
BANDS = (0.05, 0.02)  # of the outline's longer side: points this close to the bounds take part in the two rounds
FEW_POINTS = 1024  # so few may all take part, in one round
DIFFERENCE = 1e-6  # of the numerical derivative
AXIS = np.array([0, 1, 0, 1])  # of the edges x_min, y_min, x_max, y_max
OUTWARD = np.array([-1.0, -1.0, 1.0, 1.0])

Projection = Callable[[np.ndarray], np.ndarray]  # points [N, 3] in crop axes -> pixels [N, 2]


class LiftError(ValueError):
    """No translation can be computed; the message names the argument and what was wrong with it."""


@dataclass(frozen=True)
class _Target:
    """The box to agree with, and how points get into its image."""

    box: np.ndarray  # [4] pixels
    clipped: np.ndarray  # [4] bool
    pixels: Projection
    nearly: Projection  # without lens distortion: much cheaper, good enough to tell inner points from outer ones
    pinhole: Pinhole | None  # the same as numbers, where there is no distortion


def lift_translation(
    points_obj: np.ndarray, R_crop_obj: np.ndarray, crop: Crop, camera: Camera | None = None
) -> np.ndarray:
    """Translation [3] metres, in crop axes, of the object centre whose outline fills the detection's box.

    `points_obj` [N, 3] are surface points in metres relative to the object's centre (any set with the object's
    extremes; 4096 take about a millisecond, three with lens distortion); `R_crop_obj` [3, 3] turns them to crop axes.

    With `camera` (that of the frame the crop was cut from) the points are compared with the detection's box in the
    real image, distortion included: exact wherever the object is. Without it they are compared with `crop.box`; but
    what is an axis-aligned box in the image is none in the crop, which costs 0.3 % of the distance in the median, 2 %
    at the 90th percentile, and up to 16 % in the far corners of a wide image.

    The depth is kept above `MIN_DEPTH` object radii. Raises LiftError (a ValueError) for points, rotations or boxes
    that cannot be used; never returns NaN.
    """
    points = _rotated(points_obj, R_crop_obj)
    radius = float(np.sqrt((points * points @ np.ones(3)).max()))
    if radius <= 0:
        raise LiftError("points_obj: expected points of some extent, got all zeros")
    target = _crop_target(crop) if camera is None else _image_target(crop, camera)
    lowest = np.log(MIN_DEPTH * radius)
    state = _weak_perspective(points, crop, lowest)
    if len(points) <= FEW_POINTS and target.nearly is target.pixels:
        return _translation(_settled(points, state, target, lowest))
    for band, pixels in zip(BANDS, (target.nearly, target.pixels), strict=True):
        state = _settled(_outer_points(points, state, pixels, band), state, target, lowest)
    return _translation(state)


def lift_rate(
    points_obj: np.ndarray, R_crop_obj: np.ndarray, t_crop: np.ndarray, crop: Crop, camera: Camera
) -> np.ndarray:
    """Derivative [3, 3] of `lift_translation` by a turn of the object: metres per radian about the crop's axes.

    `t_crop` [3] is what it returned for the same arguments. While the same four points form the bounds, the least squares that it
    solves says how the translation follows. Raises LiftError where the camera sees nothing of the points.
    """
    points, target = _rotated(points_obj, R_crop_obj), _image_target(crop, camera)
    state = np.append(t_crop[:2] / t_crop[2], np.log(t_crop[2]))
    extremes = _extreme_points(points, state, target)
    if extremes is None:
        raise LiftError(f"t_crop: expected points that the camera sees, got none at {t_crop.tolist()}")
    residual = _residual(extremes, state + np.concatenate([np.zeros((1, 3)), DIFFERENCE * np.eye(3)]), target)
    turned = [_residual(extremes + DIFFERENCE * np.cross(axis, extremes), state[None], target)[0] for axis in np.eye(3)]
    by_state, by_turn = (residual[1:] - residual[0]).T, (np.array(turned) - residual[0]).T  # [4, 3], over DIFFERENCE
    weight = _weight(residual[0], target)[:, None]
    rate = -np.linalg.lstsq(weight * by_state, weight * by_turn, rcond=None)[0]  # [3 of the state, 3 axes]
    by_ray = t_crop[2] * np.eye(3)
    by_ray[:, 2] = t_crop  # of the translation by (x/z, y/z, log z)
    return by_ray @ rate


def displaced(t_crop: np.ndarray, displacement: np.ndarray, crop: Crop) -> np.ndarray:
    """The translation [3] after refinement moved the object in its crop.

    `t_crop` [3] is what the box says, `displacement` [3] the image's shift in x and y (crop sizes) and its log scale, relative to
    the placement by outline that the box stands for: the shift turns the ray, the scale divides the depth.
    """
    size = 2 * crop.K_crop[0, 2]  # the virtual camera looks through the crop's middle
    shift = np.asarray(displacement[:2], dtype=np.float64) * size / np.diag(crop.K_crop)[:2]
    depth = t_crop[2] * float(np.exp(-displacement[2]))
    return np.append((t_crop[:2] / t_crop[2] + shift) * depth, depth)


def pose_in_camera(R_crop_obj: np.ndarray, t_crop: np.ndarray, crop: Crop, center: np.ndarray) -> np.ndarray:
    """T_cam_obj [4, 4] metres of the mesh file's frame, from the pose of the centred object in the crop.

    `t_crop` [3] is where the object's centre is in crop axes, `center` [3] where it is in the mesh's frame (metres).
    """
    R_cam_obj = crop.R_cam_crop @ np.asarray(R_crop_obj, dtype=np.float64)
    return make_T(R_cam_obj, crop.R_cam_crop @ t_crop - R_cam_obj @ center)


def _rotated(points_obj: np.ndarray, R_crop_obj: np.ndarray) -> np.ndarray:
    points = np.asarray(points_obj, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise LiftError(f"points_obj: expected shape [N, 3] with N > 0, got {points.shape}")
    if not np.isfinite(points).all():
        raise LiftError("points_obj: expected finite numbers, got NaN or infinity")
    if not is_rotation(R_crop_obj, tol=1e-3):
        raise LiftError(f"R_crop_obj: expected a rotation matrix [3, 3], got {np.asarray(R_crop_obj).tolist()}")
    return points @ np.asarray(R_crop_obj, dtype=np.float64).T


def _check_box(box: np.ndarray, name: str) -> np.ndarray:
    box = np.asarray(box, dtype=np.float64)
    if box.shape != (4,) or not np.isfinite(box).all() or box[2] <= box[0] or box[3] <= box[1]:
        raise LiftError(f"{name}: expected 4 finite numbers with x_min < x_max and y_min < y_max, got {box.tolist()}")
    return box


def _crop_target(crop: Crop) -> _Target:
    def pixels(points: np.ndarray) -> np.ndarray:
        return project(points, crop.K_crop)

    pinhole = _pinhole(np.eye(3), crop.K_crop)
    return _Target(_check_box(crop.box, "crop.box"), crop.clipped, pixels, pixels, pinhole)


def _image_target(crop: Crop, camera: Camera) -> _Target:
    size = (camera.width, camera.height)
    box = _check_box(crop.detection.box, "crop.detection.box")
    box = _check_box(np.clip(box, 0, (*size, *size)), "crop.detection.box within the image")

    def ideal(points: np.ndarray) -> np.ndarray:
        return project(points @ crop.R_cam_crop.T, camera.K)

    if not has_distortion(camera):
        return _Target(box, crop.clipped, ideal, ideal, _pinhole(crop.R_cam_crop, camera.K))
    limit = ray_limit(camera)

    def distorted(points: np.ndarray) -> np.ndarray:
        return distort_points(ideal(points), camera, limit)

    return _Target(box, crop.clipped, distorted, ideal, None)


def _pinhole(rotation: np.ndarray, K: np.ndarray) -> Pinhole:
    return Pinhole(*(np.array(part, np.float64) for part in (rotation, np.diag(K)[:2], K[:2, 2])))


def _translation(state: np.ndarray) -> np.ndarray:
    """t [..., 3] of states (x/z, y/z, log z) [..., 3]."""
    z = np.exp(state[..., 2:])
    return np.concatenate([state[..., :2] * z, z], axis=-1)


def _weak_perspective(points: np.ndarray, crop: Crop, lowest: float) -> np.ndarray:
    """A first state [3]: the box's size gives the depth, its middle the direction."""
    box, K = _check_box(crop.box, "crop.box"), crop.K_crop
    xy = np.ascontiguousarray(points[:, :2].T)  # numpy is many times faster along long rows
    low, high = xy.min(axis=1), xy.max(axis=1)
    z = K[0, 0] * np.linalg.norm(high - low) / np.linalg.norm(box[2:] - box[:2])
    z = max(z, np.exp(lowest))
    aim = ((box[:2] + box[2:]) / 2 - K[:2, 2]) / np.diag(K)[:2] - (low + high) / 2 / z
    return np.append(aim, np.log(z))


def _seen(points: np.ndarray, state: np.ndarray, pixels: Projection) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Those of the points [N, 3] that the camera sees at `state`, and their pixels u and v."""
    u, v = np.ascontiguousarray(pixels(points + _translation(state)).T)  # numpy is many times faster along long rows
    seen = np.isfinite(u)  # unseen ones are NaN in both
    return (points, u, v) if seen.all() else (points[seen], u[seen], v[seen])


def _outer_points(points: np.ndarray, state: np.ndarray, pixels: Projection, band: float) -> np.ndarray:
    """Those of the points [N, 3] that form the bounds at `state` or are close to doing so."""
    points, u, v = _seen(points, state, pixels)
    if not len(points):
        return points
    u_min, u_max, v_min, v_max = u.min(), u.max(), v.min(), v.max()
    margin = band * max(u_max - u_min, v_max - v_min)
    near = (u <= u_min + margin) | (u >= u_max - margin) | (v <= v_min + margin) | (v >= v_max - margin)
    return points[near]


def _extreme_points(points: np.ndarray, state: np.ndarray, target: _Target) -> np.ndarray | None:
    """The points [4, 3] that form the four bounds at `state`; None where the camera sees nothing of them."""
    points, u, v = _seen(points, state, target.pixels)
    if not len(points):
        return None
    return points[[u.argmin(), v.argmin(), u.argmax(), v.argmax()]]


def _residual(points: np.ndarray, states: np.ndarray, target: _Target) -> np.ndarray:
    """Pixels [S, 4] by which bound-forming points [4, 3] pass the box's edges (positive outwards), at states [S, 3]."""
    placed = points + _translation(states)[:, None]  # [S, 4, 3]
    uv = target.pixels(placed.reshape(-1, 3)).reshape(-1, 4, 2)
    return (uv[:, range(4), AXIS] - target.box) * OUTWARD


def _weight(residual: np.ndarray, target: _Target) -> np.ndarray:
    """Weights [4] of the residuals [4]: all but none for a clipped edge that the object goes beyond."""
    return np.where(target.clipped & (residual > 0), OVERSHOOT_WEIGHT, 1.0)


def _step(residual: np.ndarray, jacobian: np.ndarray, target: _Target) -> np.ndarray:
    """The step [3] that is best for the linearised residual [4], with weights that hold where it ends."""
    weight = _weight(residual, target)
    for _ in range(HINGE_STEPS):
        step = -np.linalg.lstsq(weight[:, None] * jacobian, weight * residual, rcond=None)[0]
        settled = _weight(residual + jacobian @ step, target)
        if (settled == weight).all():
            break
        weight = settled
    return step


def _settled(points: np.ndarray, state: np.ndarray, target: _Target, lowest: float) -> np.ndarray:
    """The state of least cost met on Gauss-Newton's way from `state`."""
    if target.pinhole is None:
        return settled_in_arrays(points, state, target, lowest)
    return settle(points, state, target.pinhole, target.box, np.asarray(target.clipped, bool), lowest)


def settled_in_arrays(points: np.ndarray, state: np.ndarray, target: _Target, lowest: float) -> np.ndarray:
    """The same through any camera."""
    best, least, current = state, np.inf, state
    probes = np.concatenate([np.zeros((1, 3)), DIFFERENCE * np.eye(3)])
    for _ in range(MAX_STEPS):
        extremes = _extreme_points(points, current, target)
        if extremes is None:
            break
        residual = _residual(extremes, current + probes, target)  # [4, 4]
        cost = float(((_weight(residual[0], target) * residual[0]) ** 2).sum())
        if cost < least:
            best, least = current, cost
        jacobian = (residual[1:] - residual[0]).T / DIFFERENCE
        if not np.isfinite(jacobian).all():
            break
        step = _step(residual[0], jacobian, target)
        step *= min(1.0, MAX_LOG_STEP / max(abs(step[2]), 1e-12))
        moved = current + step
        moved[2] = max(moved[2], lowest)
        if np.abs(moved - current).max() < CONVERGED:
            break
        current = moved
    return best
