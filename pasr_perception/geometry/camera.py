"""The camera model: a pinhole with OpenCV's plumb_bob / rational_polynomial lens distortion.

Pixel coordinates are continuous with pixel centres at +0.5, and `K` is in the same coordinates: its principal point
is half a pixel larger than that of a calibration that puts the first pixel's centre at 0 (OpenCV, ROS). OpenCV's
point functions only use the difference of the two, so both are handed to them as they are; only image warps need the
half pixel taken off.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from pasr_perception.types import Camera

# ROS, OpenCV and BOP put pixel centres at whole numbers, this project at +0.5: K here = their K + HALF_A_PIXEL
HALF_A_PIXEL = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
DISTORTION_LENGTHS = (0, 4, 5, 8)
MAX_RAY_ANGLE = math.radians(80)  # from the optical axis; what lies further out is not pinhole imagery
UNDISTORT_CRITERIA = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 200, 1e-10)
UNDISTORT_TOLERANCE = 1e-2  # pixels; beyond it the inverse did not converge


def check_camera(camera: Camera) -> None:
    """Raise ValueError, naming the field, if `camera` cannot be used: size, K, or distortion."""
    if camera.width <= 0 or camera.height <= 0:
        raise ValueError(f"camera size: expected positive width and height, got {camera.width} x {camera.height}")
    K = np.asarray(camera.K, dtype=np.float64)
    if K.shape != (3, 3):
        raise ValueError(f"camera.K: expected shape (3, 3), got {K.shape}")
    if not np.isfinite(K).all():
        raise ValueError(f"camera.K: expected finite numbers, got {K.tolist()}")
    if K[0, 0] <= 0 or K[1, 1] <= 0:
        raise ValueError(f"camera.K: expected positive focal lengths, got fx={K[0, 0]}, fy={K[1, 1]} (uncalibrated?)")
    if not np.allclose(K[2], (0, 0, 1)):
        raise ValueError(f"camera.K: expected bottom row (0, 0, 1), got {K[2].tolist()}")
    if abs(K[0, 1]) > 1e-9 * K[0, 0] or K[1, 0] != 0:
        raise ValueError(f"camera.K: expected no skew, got K[0, 1]={K[0, 1]}, K[1, 0]={K[1, 0]}")
    distortion = np.asarray(camera.distortion, dtype=np.float64)
    if distortion.ndim != 1 or len(distortion) not in DISTORTION_LENGTHS:
        raise ValueError(f"camera.distortion: expected {DISTORTION_LENGTHS} numbers, got shape {distortion.shape}")
    if not np.isfinite(distortion).all():
        raise ValueError(f"camera.distortion: expected finite numbers, got {distortion.tolist()}")


def has_distortion(camera: Camera) -> bool:
    """Whether the lens model does anything: an empty or all-zero vector is a plain pinhole."""
    return bool(np.any(camera.distortion))


def project(points_cam: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Pixels [N, 2] of points [N, 3] in camera coordinates, without lens distortion.

    Raises ValueError for a wrong shape. Points at or behind the camera's plane (z <= 0) give NaN.
    """
    points = np.asarray(points_cam, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"points_cam: expected shape [N, 3], got {points.shape}")
    z = np.where(points[:, 2] > 0, points[:, 2], np.nan)
    return points[:, :2] / z[:, None] @ K[:2, :2].T + K[:2, 2]


def rays(uv: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Rays [N, 3] at z = 1 through ideal (undistorted) pixels [N, 2]."""
    xy = (_check_pixels(uv) - K[:2, 2]) / np.diag(K)[:2]
    return np.concatenate([xy, np.ones((len(xy), 1))], axis=1)


def distort_points(uv: np.ndarray, camera: Camera, limit: float | None = None) -> np.ndarray:
    """Pixels [N, 2] of the real (distorted) image for ideal pinhole pixels [N, 2] of the same K.

    Pixels whose ray the lens model cannot image (see `ray_limit`) give NaN: past the radius where its polynomial turns
    back, they would be folded into the picture again. `limit` is `ray_limit(camera)` where the caller already knows it.
    """
    uv = _check_pixels(uv)
    ray = rays(uv, camera.K)
    seen = np.hypot(ray[:, 0], ray[:, 1]) <= (ray_limit(camera) if limit is None else limit)
    if has_distortion(camera) and len(uv):
        uv = cv2.projectPoints(ray, np.zeros(3), np.zeros(3), camera.K, camera.distortion)[0].reshape(-1, 2)
    return np.where(seen[:, None], uv, np.nan)


def undistort_points(uv: np.ndarray, camera: Camera) -> np.ndarray:
    """Ideal pinhole pixels [N, 2], with the same K, of pixels [N, 2] of the real (distorted) image.

    Pixels that no ray reaches through this lens give NaN; they lie outside the image unless the calibration is wrong.
    """
    uv = _check_pixels(uv)
    ideal = uv
    if has_distortion(camera) and len(uv):
        source = np.ascontiguousarray(uv[:, None])
        ideal = cv2.undistortPoints(
            source, camera.K, camera.distortion, P=camera.K, criteria=UNDISTORT_CRITERIA
        ).reshape(-1, 2)
    with np.errstate(invalid="ignore"):  # a diverged inverse may be infinite
        reached = np.abs(distort_points(ideal, camera) - uv).max(axis=1, initial=0) < UNDISTORT_TOLERANCE
    return np.where(reached[:, None], ideal, np.nan)


def ray_limit(camera: Camera) -> float:
    """The largest |(x, y)| of a ray at z = 1 that the camera can image.

    The radial polynomial of a calibration is only good up to where it stops growing; rays further out would be folded
    back into the image. Without such a turn the limit is `MAX_RAY_ANGLE`.
    """
    limit = math.tan(MAX_RAY_ANGLE)
    if not has_distortion(camera):
        return limit
    k = np.zeros(8)
    k[: len(camera.distortion)] = camera.distortion
    r = np.linspace(0, limit, 512)
    r2 = r * r
    denominator = 1 + r2 * (k[5] + r2 * (k[6] + r2 * k[7]))
    imaged = r * (1 + r2 * (k[0] + r2 * (k[1] + r2 * k[4]))) / np.where(denominator > 0, denominator, np.nan)
    turned = ~(np.diff(imaged) > 0)  # also where the denominator has vanished
    return float(r[turned.argmax()]) if turned.any() else limit


def _check_pixels(uv: np.ndarray) -> np.ndarray:
    uv = np.asarray(uv, dtype=np.float64)
    if uv.ndim != 2 or uv.shape[1] != 2:
        raise ValueError(f"uv: expected shape [N, 2], got {uv.shape}")
    return uv
