"""ROS messages in: CameraInfo, Detection2DArray and whole frames to the types of `pasr_perception.types`.

Messages are checked here, in `images` and in `checks`, nowhere else; what cannot be used raises `BadMessage`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection2D, Detection2DArray

from pasr_perception.geometry.camera import HALF_A_PIXEL, check_camera
from pasr_perception.ros.checks import BadMessage, check_header, require, stamp_to_ns
from pasr_perception.ros.images import depth_from_msg, image_from_compressed, image_from_msg
from pasr_perception.types import Camera, Depth, Detection, Frame

DISTORTION_LENGTHS = {"plumb_bob": (4, 5), "rational_polynomial": (8,)}  # OpenCV's order, without trailing zeros
MAX_COORDINATE = 1e6  # pixels; beyond it a box is damaged, and its edges would fall together


def camera_from_msg(info: CameraInfo, rectified: bool = False) -> Camera:
    """The camera of an image as published (after binning and region of interest).

    `rectified`: the image went through rectification already, so its intrinsics are P and it has no distortion.
    """
    require(info.width > 0 and info.height > 0, "camera_info size", "a positive size", f"{info.width}x{info.height}")
    source, name = (np.reshape(info.p, (3, 4))[:, :3], "p") if rectified else (np.reshape(info.k, (3, 3)), "k")
    K = np.array(source, np.float64)
    require(bool(K.any()), f"camera_info.{name}", "a calibrated camera", "all zeros (the driver has no calibration)")
    require(bool(np.isfinite(K).all()), f"camera_info.{name}", "finite numbers", K.tolist())
    distortion = np.zeros(0) if rectified else _distortion(info)
    K, width, height = _as_published(info, K + HALF_A_PIXEL)
    camera = Camera(width=width, height=height, K=K, distortion=distortion)
    try:
        check_camera(camera)
    except ValueError as error:
        raise BadMessage(f"camera_info.{name}", "a usable camera", error) from error
    return camera


def _distortion(info: CameraInfo) -> np.ndarray:
    values = np.array(info.d, np.float64)
    require(bool(np.isfinite(values).all()), "camera_info.d", "finite numbers", values.tolist())
    if not values.any():
        return np.zeros(0)
    model = info.distortion_model
    supported = model in DISTORTION_LENGTHS
    expected = f"one of {', '.join(DISTORTION_LENGTHS)} (else rectify the image first and set `rectified`)"
    require(supported, "camera_info.distortion_model", expected, repr(model))
    longest = max(DISTORTION_LENGTHS[model])
    if len(values) > longest and not values[longest:].any():
        values = values[:longest]
    lengths = DISTORTION_LENGTHS[model]
    expected = f"{' or '.join(map(str, lengths))} numbers for {model}"
    require(len(values) in lengths, "camera_info.d", expected, f"{len(values)}: {values.tolist()}")
    return values


def _as_published(info: CameraInfo, K: np.ndarray) -> tuple[np.ndarray, int, int]:
    """K and size after the driver cut out the region of interest and binned it (CameraInfo holds the full sensor)."""
    bin_x, bin_y = max(info.binning_x, 1), max(info.binning_y, 1)
    width, height = info.roi.width or info.width, info.roi.height or info.height
    move = np.array([[1, 0, -info.roi.x_offset], [0, 1, -info.roi.y_offset], [0, 0, 1]], np.float64)
    shrink = np.diag([1.0 / bin_x, 1.0 / bin_y, 1.0])
    return shrink @ move @ K, width // bin_x, height // bin_y


class RememberedCamera:
    """`camera_from_msg` that reads a camera_info only if it differs from the last one: drivers repeat it with every image."""

    def __init__(self) -> None:
        self._known: tuple[tuple[object, ...], Camera] | None = None

    def __call__(self, info: CameraInfo, rectified: bool = False) -> Camera:
        numbers = (info.k.tobytes(), info.p.tobytes(), info.d.tobytes(), info.distortion_model)
        roi, binning = info.roi, (info.binning_x, info.binning_y)
        window = (roi.x_offset, roi.y_offset, roi.width, roi.height)
        said = (rectified, info.width, info.height, *numbers, *binning, *window)
        if self._known is None or self._known[0] != said:
            self._known = (said, camera_from_msg(info, rectified))
        return self._known[1]


def frame_from_msgs(
    image: Image | CompressedImage,
    info: CameraInfo,
    rectified: bool = False,
    read_camera: Callable[[CameraInfo, bool], Camera] = camera_from_msg,
) -> Frame:
    """One frame from an image and its camera_info."""
    check_header(image.header, "image")
    pixels = image_from_msg(image) if isinstance(image, Image) else image_from_compressed(image)
    camera = read_camera(info, rectified)
    height, width = pixels.shape[:2]
    same = (width, height) == (camera.width, camera.height)
    require(same, "image size", f"camera_info's {camera.width}x{camera.height}", f"{width}x{height}")
    return Frame(image=pixels, camera=camera, stamp_ns=stamp_to_ns(image.header), frame_id=image.header.frame_id)


def depth_for(frame: Frame, message: Image | None, slop_s: float) -> Depth:
    """The depth of a frame. Raises BadMessage if there is none, or it is stale, damaged, or of another camera or size."""
    require(message is not None, "depth", "a depth image with every image", "none so far")
    stamp_ns = stamp_to_ns(message.header)
    apart = abs(stamp_ns - frame.stamp_ns) * 1e-9
    require(apart < slop_s, "depth.header.stamp", f"less than {slop_s:g} s from the image's", f"{apart:.3f} s")
    name = message.header.frame_id
    require(name == frame.frame_id, "depth.header.frame_id", f"the image's {frame.frame_id!r}", repr(name))
    metres = depth_from_msg(message)
    (height, width), expected = metres.shape, f"the image's {frame.camera.width}x{frame.camera.height}"
    same = (width, height) == (frame.camera.width, frame.camera.height)
    require(same, "depth size", expected, f"{width}x{height}")
    return Depth(metres, stamp_ns)


def detections_from_msg(message: Detection2DArray, anonymous: bool = False) -> tuple[list[Detection], list[BadMessage]]:
    """The usable detections in their order, ids unique within this message, and what was wrong with the rest.

    The id is the message's own where it is set and not taken, else the index in the array, or none if they may be `anonymous`.
    """
    good: list[Detection] = []
    bad: list[BadMessage] = []
    taken: set[str] = set()
    for index, item in enumerate(message.detections):
        name = item.id
        if not name or name in taken:
            name = "" if anonymous else _free_name(str(index), taken)
        try:
            good.append(detection_from_msg(item, name))
            taken.add(name)
        except BadMessage as error:
            bad.append(error)
    return good, bad


def _free_name(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def detection_from_msg(message: Detection2D, name: str) -> Detection:
    """One detection; a rotated box becomes its axis-aligned bounds. Raises BadMessage."""
    box = message.bbox
    x, y, theta = box.center.position.x, box.center.position.y, box.center.theta
    width, height = box.size_x, box.size_y
    got = f"x={x} y={y} theta={theta} size_x={width} size_y={height} (detection {name!r})"
    require(all(map(math.isfinite, (x, y, theta, width, height))), "detection.bbox", "finite numbers", got)
    require(width > 0 and height > 0, "detection.bbox", "a size above 0", got)
    within = max(map(abs, (x, y, width, height))) <= MAX_COORDINATE
    require(within, "detection.bbox", f"numbers within ±{MAX_COORDINATE:g} pixels", got)
    c, s = abs(math.cos(theta)), abs(math.sin(theta))
    half_x, half_y = 0.5 * (width * c + height * s), 0.5 * (width * s + height * c)
    left, top, right, bottom = x - half_x, y - half_y, x + half_x, y + half_y
    require(right > left and bottom > top, "detection.bbox", "a size that floating point can tell from 0", got)
    best = max((r.hypothesis for r in message.results), key=lambda h: h.score, default=None)
    score = 1.0 if best is None else float(best.score)
    require(math.isfinite(score), "detection.score", "a finite number", f"{score} (detection {name!r})")
    class_id = "" if best is None else best.class_id
    return Detection(box=np.array([left, top, right, bottom], np.float64), score=score, class_id=class_id, id=name)
