"""The image encodings that the node takes, under the names of sensor_msgs/image_encodings."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Encoding:
    """How an encoding lies in memory and how it becomes RGB."""

    channels: int
    kind: type[np.generic]
    to_rgb: int | None  # code of cv2.cvtColor; None: it is RGB
    columns: int = 1  # width and height of the smallest whole cell, in pixels
    rows: int = 1

    @property
    def bytes_per_pixel(self) -> int:
        return self.channels * np.dtype(self.kind).itemsize


# OpenCV names a Bayer pattern by the second row's second and third pixel, ROS by the first row's first two
_BAYER = {
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}
_YUV422 = {
    "yuv422": cv2.COLOR_YUV2RGB_UYVY,
    "uyvy": cv2.COLOR_YUV2RGB_UYVY,
    "yuv422_yuy2": cv2.COLOR_YUV2RGB_YUYV,
    "yuyv": cv2.COLOR_YUV2RGB_YUYV,
}
ENCODINGS = {
    "rgb8": Encoding(3, np.uint8, None),
    "bgr8": Encoding(3, np.uint8, cv2.COLOR_BGR2RGB),
    "rgba8": Encoding(4, np.uint8, cv2.COLOR_RGBA2RGB),
    "bgra8": Encoding(4, np.uint8, cv2.COLOR_BGRA2RGB),
    "mono8": Encoding(1, np.uint8, cv2.COLOR_GRAY2RGB),
    "mono16": Encoding(1, np.uint16, cv2.COLOR_GRAY2RGB),
    **{f"bayer_{name}8": Encoding(1, np.uint8, code, 2, 2) for name, code in _BAYER.items()},
    **{f"bayer_{name}16": Encoding(1, np.uint16, code, 2, 2) for name, code in _BAYER.items()},
    **{name: Encoding(2, np.uint8, code, columns=2) for name, code in _YUV422.items()},
}
DEPTH_ENCODINGS = {"32FC1": "metres", "16UC1": "millimetres"}  # REP-118
