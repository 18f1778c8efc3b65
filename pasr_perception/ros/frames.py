"""Where the camera is in a frame that stands still, from TF: so that a moving camera is not taken for moving objects."""

from __future__ import annotations

import numpy as np
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time

from pasr_perception.ros.compat import Buffer, TransformException, TransformListener
from pasr_perception.ros.transforms import matrix_from_transform

PATIENCE_S = 0.05  # transforms of an image's stamp may come this much later than its detections
STAND_IN_S = 1.0  # the last known place stands in for so long


class CameraPlace:
    """Asks TF for the camera's place. `at` runs in the worker, which may wait."""

    def __init__(self, node: Node, fixed_frame: str) -> None:
        self._fixed_frame = fixed_frame
        self._buffer = Buffer()
        self._listener = TransformListener(self._buffer, node)
        self._last: tuple[int, np.ndarray] | None = None

    def destroy(self) -> None:
        """Stop listening."""
        self._listener.unregister()

    def at(self, camera_frame: str, stamp_ns: int) -> tuple[np.ndarray | None, str]:
        """T_fixed_cam [4, 4] at a stamp, and in words what is wrong with it. None: nothing near that time is known."""
        try:
            found = self._buffer.lookup_transform(
                self._fixed_frame, camera_frame, Time(nanoseconds=stamp_ns), Duration(seconds=PATIENCE_S)
            )
        except TransformException as error:
            return self._stand_in(stamp_ns, f"{self._fixed_frame} to {camera_frame}: {error}")
        T = matrix_from_transform(found)
        self._last = (stamp_ns, T)
        return T, ""

    def _stand_in(self, stamp_ns: int, why: str) -> tuple[np.ndarray | None, str]:
        if self._last is not None:
            before_s = (stamp_ns - self._last[0]) * 1e-9
            if 0 <= before_s <= STAND_IN_S:
                return self._last[1], f"the camera's place of {before_s:.2f} s before is used ({why})"
        return None, f"the camera's place is not known, so its motion is not told from the objects' ({why})"
