"""The crop stage: a virtual camera that looks through a detection's box (the practice of MegaPose).

The virtual camera shares the real camera's centre and is turned until its axis passes through the middle of what the
box holds, then zoomed until that fills a set share of a square image. An object off the image's centre is thus seen
as if centred, without lens distortion, and a pose found in the crop goes back exactly: `T_cam_obj = T(R_cam_crop, 0)
@ T_crop_obj`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pasr_perception.geometry.camera import check_camera, project, ray_limit, rays, undistort_points
from pasr_perception.types import Camera, Crop, Detection, Frame

logger = logging.getLogger(__name__)

BACKGROUND = (124, 116, 104)  # RGB of what lies outside the image: ImageNet's mean, about 0 after normalisation
MIN_SIDE = 4.0  # pixels of the image; a smaller visible part shows nothing that could be recognised
BORDER_MARGIN = 2.0  # pixels; a box edge this near the image border may be the border's, not the object's
MAX_BOX_ANGLE = math.radians(75)  # between a box's middle and its edges, as seen from the camera
OUTLINE_POINTS = 64  # of the ellipse in the box; the sides' middles are among them
AIM_ITERATIONS = 5  # of the fixed point between the axis and the bounds' middle


class CropError(ValueError):
    """A detection that cannot be cropped; the message says why."""


@dataclass(frozen=True)
class CropSpec:
    """Size of the square crop in pixels, and the share of it that the box's longer side fills."""

    size: int
    fill: float

    def __post_init__(self) -> None:
        if self.size < 8:
            raise ValueError(f"crop.size: expected at least 8 pixels, got {self.size}")
        if not 0.1 <= self.fill <= 1.0:
            raise ValueError(f"crop.fill: expected 0.1..1.0, got {self.fill}")


def check_frame(frame: Frame) -> None:
    """Raise ValueError if the image is not RGB uint8 of the camera's size, or the camera is unusable."""
    check_camera(frame.camera)
    image, expected = frame.image, (frame.camera.height, frame.camera.width, 3)
    if image.dtype != np.uint8 or image.shape != expected:
        raise ValueError(f"frame.image: expected uint8 of shape {expected}, got {image.dtype} of shape {image.shape}")


def visible_part(box: np.ndarray, camera: Camera) -> np.ndarray:
    """The part [4] of a box that lies in the image; raises CropError where nothing usable does."""
    box = np.asarray(box, dtype=np.float64)
    if box.shape != (4,) or not np.isfinite(box).all():
        raise CropError(f"box: expected 4 finite numbers, got {box.tolist()}")
    if box[2] <= box[0] or box[3] <= box[1]:
        raise CropError(f"box: expected x_min < x_max and y_min < y_max, got {box.tolist()}")
    size = np.array([camera.width, camera.height], dtype=np.float64)
    visible = np.concatenate([np.maximum(box[:2], 0), np.minimum(box[2:], size)])
    sides = visible[2:] - visible[:2]
    if sides.min() <= 0:
        raise CropError(f"box {box.tolist()} lies outside the {camera.width} x {camera.height} image")
    if sides.min() < MIN_SIDE:
        shown = f"{sides[0]:.1f} x {sides[1]:.1f}"
        raise CropError(f"box {box.tolist()} shows {shown} pixels of the image, expected {MIN_SIDE:g} or more each way")
    return visible


def clipped_edges(box: np.ndarray, camera: Camera) -> np.ndarray:
    """Which edges [4] bool (x_min, y_min, x_max, y_max) lie within `BORDER_MARGIN` of the image border or beyond it."""
    return np.concatenate(
        [box[:2] <= BORDER_MARGIN, box[2:] >= np.array([camera.width, camera.height]) - BORDER_MARGIN]
    )


def look_through(ray: np.ndarray) -> np.ndarray:
    """R_cam_crop [3, 3] of a camera whose axis is `ray` [3], its "down" as near as can be to the real camera's."""
    forward = ray / np.linalg.norm(ray)
    right = np.cross((0.0, 1.0, 0.0), forward)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward], axis=1)


def inscribed_ellipse(box: np.ndarray) -> np.ndarray:
    """Points [OUTLINE_POINTS, 2] of the ellipse that touches the middle of each side of a box [4]."""
    angle = np.arange(OUTLINE_POINTS) * (2 * math.pi / OUTLINE_POINTS)
    return (box[:2] + box[2:]) / 2 + np.stack([np.cos(angle), np.sin(angle)], axis=1) * (box[2:] - box[:2]) / 2


def virtual_camera(box: np.ndarray, camera: Camera, spec: CropSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """K_crop [3, 3], R_cam_crop [3, 3] and the box in crop pixels [4] of the camera that looks through `box` [4].

    Turning the camera shears and bends an off-centre box; the bounds of its corners would be up to 20 % too large for
    the object in it. The object's outline is therefore taken as the box's inscribed ellipse, whose bounds in the crop
    are those of the object without bias (boxes, plates and balls, random poses: median ratio 1.00 up to 50 degrees
    off the axis). The virtual camera looks through their middle at the crop's middle, and their longer side is
    exactly `fill * size`.
    """
    outline = undistort_points(inscribed_ellipse(box), camera)
    if not np.isfinite(outline).all():
        raise CropError(f"box {box.tolist()} reaches where this camera's lens model shows nothing")
    ray = rays(outline, camera.K)
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    axis = ray.mean(axis=0)
    for _ in range(AIM_ITERATIONS):
        R = look_through(axis)
        border = ray @ R
        if (border[:, 2] < math.cos(MAX_BOX_ANGLE)).any():
            raise CropError(f"box {box.tolist()} spans more than {2 * math.degrees(MAX_BOX_ANGLE):.0f} degrees of view")
        plane = project(border, np.eye(3))
        low, high = plane.min(axis=0), plane.max(axis=0)
        axis = R @ np.append((low + high) / 2, 1)
    focal = spec.fill * spec.size / (high - low).max()
    K = np.array([[focal, 0, spec.size / 2], [0, focal, spec.size / 2], [0, 0, 1]])
    return K, R, np.concatenate([low, high]) * focal + spec.size / 2


def warp(
    frame: Frame,
    K_crop: np.ndarray,
    R_cam_crop: np.ndarray,
    size: int,
    beyond: tuple[int, int, int] = BACKGROUND,
) -> np.ndarray:
    """The virtual camera's view [size, size, 3] uint8: anti-aliased where it shrinks, `beyond` off the image."""
    camera, half = frame.camera, np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    # OpenCV's warps count from the first pixel's centre: both principal points lose half a pixel
    x, y = cv2.initUndistortRectifyMap(
        camera.K - half, camera.distortion, R_cam_crop.T, K_crop - half, (size, size), cv2.CV_32FC1
    )
    _hide_unseen_rays(x, y, camera, K_crop, R_cam_crop)
    source, origin, shrink = _prepare_source(frame.image, x, y)
    x, y = ((m + 0.5 - o) / shrink - 0.5 for m, o in zip((x, y), origin, strict=True))
    return cv2.remap(source, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=beyond)


def _hide_unseen_rays(x: np.ndarray, y: np.ndarray, camera: Camera, K: np.ndarray, R: np.ndarray) -> None:
    """Point map entries [S, S] off the image, in place, whose ray the lens cannot image but its model would fold in."""
    size, limit = len(x), ray_limit(camera)

    def unseen(uv: np.ndarray) -> np.ndarray:
        ray = rays(uv, K) @ R.T
        return ~(np.hypot(ray[:, 0], ray[:, 1]) <= limit * ray[:, 2])

    # rays within the limit form a convex cone, so four good corners mean a good crop: the common case
    if unseen(np.array([[0, 0], [size, 0], [0, size], [size, size]])).any():
        v, u = np.indices((size, size)) + 0.5
        hidden = unseen(np.stack([u.ravel(), v.ravel()], axis=1)).reshape(size, size)
        x[hidden] = y[hidden] = -2


def _prepare_source(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, tuple[int, int], int]:
    """The part of an image [H, W, 3] that a map [S, S] needs, smoothed for its zoom; its (u, v) origin; shrinkage."""
    c = len(x) // 2
    ux, uy = x[c, c + 1] - x[c, c], x[c + 1, c] - x[c, c]
    vx, vy = y[c, c + 1] - y[c, c], y[c + 1, c] - y[c, c]
    ratio = math.sqrt(abs(ux * vy - uy * vx))  # image pixels per crop pixel
    shrink = max(int(ratio), 1)
    margin = 4 * shrink
    u0, v0 = (max(int(m.min()) - margin, 0) for m in (x, y))
    u1, v1 = int(x.max()) + margin, int(y.max()) + margin
    part = image[v0 : v1 + (v0 - v1) % shrink, u0 : u1 + (u0 - u1) % shrink]
    if shrink > 1:  # whole blocks are averaged first: cheap and exact
        height, width = part.shape[:2]
        down, right = -height % shrink, -width % shrink
        if down or right:  # only at the image's own border
            part = cv2.copyMakeBorder(part, 0, down, 0, right, cv2.BORDER_REPLICATE)
        size = (part.shape[1] // shrink, part.shape[0] // shrink)
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    sigma = 0.5 * math.sqrt(max((ratio / shrink) ** 2 - 1, 0))  # what a factor of 1..2 is still missing
    if sigma > 0.15:
        part = cv2.GaussianBlur(part, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return part, (u0, v0), shrink


def _crop(frame: Frame, detection: Detection, spec: CropSpec) -> Crop:
    box = np.asarray(detection.box, dtype=np.float64)
    visible = visible_part(box, frame.camera)
    try:
        K, R, box_crop = virtual_camera(box, frame.camera, spec)
    except CropError:
        # far outside the image there may be no ray to look along; what lies in the image can still be used
        logger.debug("cropping the visible part of box %s", box.tolist())
        K, R, box_crop = virtual_camera(visible, frame.camera, spec)
    image = warp(frame, K, R, spec.size)
    return Crop(image, K, R, box_crop, clipped_edges(box, frame.camera), detection)


def crop_detection(frame: Frame, detection: Detection, spec: CropSpec) -> Crop:
    """Crop one detection; a box that reaches over the image border is cropped whole, `BACKGROUND` beyond the border.

    Raises ValueError for an unusable frame, and CropError (a ValueError) for an unusable box: not four finite ordered
    numbers, outside the image, or with less than `MIN_SIDE` pixels to see.
    """
    check_frame(frame)
    return _crop(frame, detection, spec)


def crop_detections(
    frame: Frame, detections: Sequence[Detection], spec: CropSpec
) -> tuple[list[Crop], list[tuple[Detection, str]]]:
    """Crop what can be cropped, in order; the rest comes back as (detection, reason). ValueError for a bad frame."""
    check_frame(frame)
    crops: list[Crop] = []
    rejected: list[tuple[Detection, str]] = []
    for detection in detections:
        try:
            crops.append(_crop(frame, detection, spec))
        except CropError as error:
            rejected.append((detection, str(error)))
    return crops, rejected
