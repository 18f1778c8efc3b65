"""Image messages in: raw colour, grey, Bayer and YUV, compressed colour to RGB; depth to metres (REP-118).

Sizes are checked before anything is decoded: a message that lies about them raises `BadMessage`, never less or more.
"""

from __future__ import annotations

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from pasr_perception.ros.checks import BadMessage, require
from pasr_perception.ros.compat import CvBridge, CvBridgeError
from pasr_perception.ros.encodings import DEPTH_ENCODINGS, ENCODINGS

BRIDGE = CvBridge()
MAX_PIXELS = 100_000_000  # a message that claims more is damaged
MILLIMETRE = np.float32(0.001)


def image_from_msg(message: Image) -> np.ndarray:
    """A raw image as [H, W, 3] uint8 RGB; it may share memory with the message."""
    encoding = message.encoding
    require(encoding in ENCODINGS, "image.encoding", f"one of {', '.join(ENCODINGS)}", repr(encoding))
    _check_layout(message, ENCODINGS[encoding].bytes_per_pixel, "image")
    even = message.width % ENCODINGS[encoding].columns == 0 and message.height % ENCODINGS[encoding].rows == 0
    got = f"{message.width}x{message.height}"
    require(even, "image size", f"whole cells of {encoding}, which are as wide or high as two pixels", got)
    try:
        return BRIDGE.imgmsg_to_cv2(message, "rgb8")
    except CvBridgeError as error:
        raise BadMessage("image", "something cv_bridge can convert to rgb8", error) from error


def image_from_compressed(message: CompressedImage) -> np.ndarray:
    """A JPEG or PNG message as [H, W, 3] uint8 RGB, unturned by EXIF: camera_info describes the sensor."""
    depth = "compressedDepth" in message.format
    require(not depth, "image.format", "a colour image (jpeg, png)", repr(message.format))
    require(len(message.data) > 0, "image.data", "a compressed image", "0 bytes")
    got = f"{len(message.data)} bytes of format {message.format!r}"
    try:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(np.frombuffer(message.data, np.uint8), flags)
    except cv2.error as error:
        raise BadMessage("image.data", "bytes that OpenCV can decode", f"{got}: {error}") from error
    require(image is not None, "image.data", "bytes that OpenCV can decode", got)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def depth_from_msg(message: Image) -> np.ndarray:
    """A depth image as [H, W] float32 metres along the optical axis; 0 where nothing was measured.

    REP-118: 32FC1 in metres with NaN or infinity where nothing was measured, or 16UC1 in millimetres with 0 there.
    """
    encoding = message.encoding
    names = " or ".join(f"{name} ({unit})" for name, unit in DEPTH_ENCODINGS.items())
    require(encoding in DEPTH_ENCODINGS, "depth.encoding", names, repr(encoding))
    kind = np.dtype(np.float32 if encoding == "32FC1" else np.uint16)
    _check_layout(message, kind.itemsize, "depth")
    wire = kind.newbyteorder(">" if message.is_bigendian else "<")
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    values = np.ascontiguousarray(rows[:, : message.width * kind.itemsize]).view(wire)
    if encoding == "16UC1":
        return values * MILLIMETRE
    return np.where(np.isfinite(values) & (values > 0), values, 0).astype(np.float32)


def _check_layout(message: Image, bytes_per_pixel: int, where: str) -> None:
    """Raise BadMessage unless size, step and number of bytes fit together."""
    encoding, width, height = message.encoding, message.width, message.height
    size_is_sane = width > 0 and height > 0 and width * height <= MAX_PIXELS
    require(size_is_sane, f"{where} size", f"1 to {MAX_PIXELS} pixels", f"{width}x{height}")
    row = width * bytes_per_pixel
    require(message.step >= row, f"{where}.step", f"at least {row} bytes for {width} {encoding} pixels", message.step)
    expected = message.step * height
    require(len(message.data) == expected, f"{where}.data", f"step*height = {expected} bytes", f"{len(message.data)}")
