"""Image messages for tests of what reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header

RGB = np.array([[[10, 20, 30], [200, 100, 50]], [[0, 255, 0], [7, 7, 7]], [[1, 2, 3], [255, 255, 255]]], np.uint8)


def header(frame_id: str = "camera", sec: int = 5, nanosec: int = 20) -> Header:
    message = Header(frame_id=frame_id)
    message.stamp.sec, message.stamp.nanosec = sec, nanosec
    return message


def image(pixels: np.ndarray = RGB, encoding: str = "rgb8", padding: int = 0, **changes: Any) -> Image:
    """A message of `pixels` [H, W, C] whose rows end in `padding` bytes of rubbish."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(height, -1)
    data = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    values = {"height": height, "width": width, "step": data.shape[1], "data": data.tobytes()}
    return Image(**{"header": header(), "encoding": encoding, **values, **changes})
