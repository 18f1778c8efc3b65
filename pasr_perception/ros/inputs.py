"""Image, camera_info and detections as they arrive, to complete sets: message_filters plus what it leaves open.

It counts what comes, never hands out an older image after a newer one, and starts afresh when the clock jumps back
(message_filters keeps its old, newer messages then and throws the new ones away).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from pasr_perception.ros.compat import ApproximateTimeSynchronizer, SimpleFilter
from pasr_perception.ros.convert import stamp_to_ns
from pasr_perception.ros.sync import InputMonitor

JUMP_BACK_NS = 1_000_000_000  # a stamp this much older than the newest means a restarted clock (a looping bag)
IMAGE, CAMERA_INFO, DETECTIONS = range(3)


@dataclass(frozen=True)
class InputSet:
    """Three messages that belong together."""

    image: Image | CompressedImage
    camera_info: CameraInfo
    detections: Detection2DArray


class SynchronisedInputs:
    """Takes messages by `add`; calls `on_set` with each complete set, and `on_restart` when the clock jumped back."""

    def __init__(
        self,
        monitor: InputMonitor,
        on_set: Callable[[InputSet], None],
        on_restart: Callable[[], None],
        queue: int,
        slop_s: float,
    ) -> None:
        self._monitor = monitor
        self._on_set = on_set
        self._on_restart = on_restart
        self._queue, self._slop_s = queue, slop_s
        self._start()

    def _start(self) -> None:
        self._newest_ns: int | None = None
        self._last_image_ns: int | None = None
        self._filters = [SimpleFilter() for _ in range(3)]
        synchroniser = ApproximateTimeSynchronizer(self._filters, self._queue, self._slop_s)
        synchroniser.registerCallback(self._matched)

    def add(self, index: int, message: Image | CompressedImage | CameraInfo | Detection2DArray) -> None:
        """Take a message of input IMAGE, CAMERA_INFO or DETECTIONS."""
        stamp_ns = stamp_to_ns(message.header)
        self._monitor.arrived(index, stamp_ns)
        if self._newest_ns is not None and stamp_ns < self._newest_ns - JUMP_BACK_NS:
            self._start()
            self._on_restart()
        self._newest_ns = max(stamp_ns, self._newest_ns or stamp_ns)
        self._filters[index].signalMessage(message)

    def _matched(self, image: Image | CompressedImage, info: CameraInfo, detections: Detection2DArray) -> None:
        self._monitor.matched()
        stamp_ns = stamp_to_ns(image.header)
        if self._last_image_ns is not None and stamp_ns <= self._last_image_ns:
            return  # a newer image is already under way
        self._last_image_ns = stamp_ns
        self._on_set(InputSet(image, info, detections))
