"""ROS messages in: Image, CompressedImage, CameraInfo and Detection2DArray to the types of `pasr_perception.types`.

Every message is checked here and nowhere else; what cannot be used raises `BadMessage`.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray

from pasr_perception.geometry.camera import HALF_A_PIXEL, check_camera
from pasr_perception.ros.compat import CvBridge, CvBridgeError
from pasr_perception.types import Camera, Detection, Frame

BYTES_PER_PIXEL = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1, "mono16": 2}
DISTORTION_LENGTHS = {"plumb_bob": (4, 5), "rational_polynomial": (8,)}  # OpenCV's order, without trailing zeros
BRIDGE = CvBridge()
MAX_PIXELS = 100_000_000  # a message that claims more is damaged


class BadMessage(ValueError):  # noqa: N818 (it is the message that is bad)
    """A message that cannot be used. `what` names the field and stays the same for repetitions of the same fault."""

    def __init__(self, what: str, expected: str, got: object) -> None:
        super().__init__(f"{what}: expected {expected}, got {got}")
        self.what = what


def _require(rule: bool, what: str, expected: str, got: object) -> None:
    if not rule:
        raise BadMessage(what, expected, got)


def stamp_to_ns(header: Header) -> int:
    """Nanoseconds of a header's stamp, without checks."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def check_header(header: Header, where: str) -> None:
    """Raise BadMessage for an empty frame id or a stamp that is no time."""
    _require(bool(header.frame_id), f"{where}.header.frame_id", "the name of the camera's optical frame", "''")
    got = f"sec={header.stamp.sec} nanosec={header.stamp.nanosec}"
    valid = header.stamp.sec >= 0 and header.stamp.nanosec < 1_000_000_000
    _require(valid, f"{where}.header.stamp", "sec >= 0 and nanosec < 1e9", got)


def image_from_msg(message: Image) -> np.ndarray:
    """A raw image as [H, W, 3] uint8 RGB; it may share memory with the message."""
    encoding, width, height = message.encoding, message.width, message.height
    _require(encoding in BYTES_PER_PIXEL, "image.encoding", f"one of {', '.join(BYTES_PER_PIXEL)}", repr(encoding))
    size_is_sane = width > 0 and height > 0 and width * height <= MAX_PIXELS
    _require(size_is_sane, "image size", f"1 to {MAX_PIXELS} pixels", f"{width}x{height}")
    row = width * BYTES_PER_PIXEL[encoding]
    _require(message.step >= row, "image.step", f"at least {row} bytes for {width} {encoding} pixels", message.step)
    expected = message.step * height
    _require(len(message.data) == expected, "image.data", f"step*height = {expected} bytes", f"{len(message.data)}")
    try:
        return BRIDGE.imgmsg_to_cv2(message, "rgb8")
    except CvBridgeError as error:
        raise BadMessage("image", "something cv_bridge can convert to rgb8", error) from error


def image_from_compressed(message: CompressedImage) -> np.ndarray:
    """A JPEG or PNG message as [H, W, 3] uint8 RGB, unturned by EXIF: camera_info describes the sensor."""
    depth = "compressedDepth" in message.format
    _require(not depth, "image.format", "a colour image (jpeg, png)", repr(message.format))
    _require(len(message.data) > 0, "image.data", "a compressed image", "0 bytes")
    try:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(np.frombuffer(message.data, np.uint8), flags)
    except cv2.error as error:
        raise BadMessage("image.data", "bytes that OpenCV can decode", f"{len(message.data)} bytes: {error}") from error
    got = f"{len(message.data)} bytes of format {message.format!r}"
    _require(image is not None, "image.data", "bytes that OpenCV can decode", got)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def camera_from_msg(info: CameraInfo, rectified: bool = False) -> Camera:
    """The camera of an image as published (after binning and region of interest).

    `rectified`: the image went through rectification already, so its intrinsics are P and it has no distortion.
    """
    _require(info.width > 0 and info.height > 0, "camera_info size", "a positive size", f"{info.width}x{info.height}")
    source, name = (np.reshape(info.p, (3, 4))[:, :3], "p") if rectified else (np.reshape(info.k, (3, 3)), "k")
    K = np.array(source, np.float64)
    _require(bool(K.any()), f"camera_info.{name}", "a calibrated camera", "all zeros (the driver has no calibration)")
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
    _require(bool(np.isfinite(values).all()), "camera_info.d", "finite numbers", values.tolist())
    if not values.any():
        return np.zeros(0)
    model = info.distortion_model
    supported = model in DISTORTION_LENGTHS
    expected = f"one of {', '.join(DISTORTION_LENGTHS)} (else rectify the image first and set `rectified`)"
    _require(supported, "camera_info.distortion_model", expected, repr(model))
    longest = max(DISTORTION_LENGTHS[model])
    if len(values) > longest and not values[longest:].any():
        values = values[:longest]
    lengths = DISTORTION_LENGTHS[model]
    expected = f"{' or '.join(map(str, lengths))} numbers for {model}"
    _require(len(values) in lengths, "camera_info.d", expected, f"{len(values)}: {values.tolist()}")
    return values


def _as_published(info: CameraInfo, K: np.ndarray) -> tuple[np.ndarray, int, int]:
    """K and size after the driver cut out the region of interest and binned it (CameraInfo holds the full sensor)."""
    bin_x, bin_y = max(info.binning_x, 1), max(info.binning_y, 1)
    width, height = info.roi.width or info.width, info.roi.height or info.height
    move = np.array([[1, 0, -info.roi.x_offset], [0, 1, -info.roi.y_offset], [0, 0, 1]], np.float64)
    shrink = np.diag([1.0 / bin_x, 1.0 / bin_y, 1.0])
    return shrink @ move @ K, width // bin_x, height // bin_y


def frame_from_msgs(image: Image | CompressedImage, info: CameraInfo, rectified: bool = False) -> Frame:
    """One frame from an image and its camera_info."""
    check_header(image.header, "image")
    pixels = image_from_msg(image) if isinstance(image, Image) else image_from_compressed(image)
    camera = camera_from_msg(info, rectified)
    height, width = pixels.shape[:2]
    same = (width, height) == (camera.width, camera.height)
    _require(same, "image size", f"camera_info's {camera.width}x{camera.height}", f"{width}x{height}")
    return Frame(image=pixels, camera=camera, stamp_ns=stamp_to_ns(image.header), frame_id=image.header.frame_id)


def detections_from_msg(message: Detection2DArray) -> tuple[list[Detection], list[BadMessage]]:
    """The usable detections in their order, ids unique within this message, and what was wrong with the rest.

    The id is the message's own where it is set and not taken, else the index in the array.
    """
    good: list[Detection] = []
    bad: list[BadMessage] = []
    taken: set[str] = set()
    for index, item in enumerate(message.detections):
        name = item.id if item.id and item.id not in taken else _free_name(str(index), taken)
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
    _require(all(map(math.isfinite, (x, y, theta, width, height))), "detection.bbox", "finite numbers", got)
    _require(width > 0 and height > 0, "detection.bbox", "a size above 0", got)
    c, s = abs(math.cos(theta)), abs(math.sin(theta))
    half = 0.5 * np.array([width * c + height * s, width * s + height * c])
    center = np.array([x, y])
    best = max((r.hypothesis for r in message.results), key=lambda h: h.score, default=None)
    score = 1.0 if best is None else float(best.score)
    _require(math.isfinite(score), "detection.score", "a finite number", f"{score} (detection {name!r})")
    class_id = "" if best is None else best.class_id
    return Detection(box=np.concatenate([center - half, center + half]), score=score, class_id=class_id, id=name)
