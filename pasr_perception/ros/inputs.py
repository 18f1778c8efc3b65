"""Image, camera_info, detections and depth as they arrive, to complete sets: message_filters plus what it leaves open.

It refuses stamps that are no time, counts what comes, never hands out an older image after a newer one, and starts
afresh when the clock jumps back (message_filters keeps its old, newer messages then and throws the new ones away).
Depth is not waited for: the set takes the depth image whose stamp is nearest, however far that is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from pasr_perception.ros.checks import BadMessage, check_stamp, stamp_to_ns
from pasr_perception.ros.compat import ApproximateTimeSynchronizer, SimpleFilter
from pasr_perception.ros.monitor import InputMonitor

JUMP_BACK_NS = 1_000_000_000  # a stamp this much older than its topic's newest means a restarted clock (a looping bag)
NAMES = ("image", "camera_info", "detections", "depth")
IMAGE, CAMERA_INFO, DETECTIONS, DEPTH = range(4)
SYNCHRONISED = 3  # the first of them have to match


@dataclass(frozen=True)
class InputSet:
    """Messages that belong together; `depth` may be missing."""

    image: Image | CompressedImage
    camera_info: CameraInfo
    detections: Detection2DArray
    depth: Image | None = None


@dataclass(frozen=True)
class InputEvents:
    """Whom the inputs call."""

    on_set: Callable[[InputSet], None]  # a complete set
    on_restart: Callable[[], None]  # the clock jumped back
    on_bad: Callable[[BadMessage], None]  # a message whose stamp is no time


class SynchronisedInputs:
    """Takes messages by `add` and tells `events` what became of them. To be used from one thread."""

    def __init__(self, monitor: InputMonitor, events: InputEvents, queue: int, slop_s: float) -> None:
        self._monitor, self._events = monitor, events
        self.retune(queue, slop_s)

    def retune(self, queue: int, slop_s: float) -> None:
        """Begin afresh with another queue length and slop."""
        self._queue, self._slop_s = queue, slop_s
        self._start()

    def _start(self) -> None:
        self._newest_ns: list[int | None] = [None] * len(NAMES)
        self._last_image_ns: int | None = None
        self._depths: deque[Image] = deque(maxlen=self._queue)
        self._filters = [SimpleFilter() for _ in range(SYNCHRONISED)]
        self._synchroniser = ApproximateTimeSynchronizer(self._filters, self._queue, self._slop_s)
        self._synchroniser.registerCallback(self._matched)

    def add(self, index: int, message: Any) -> None:
        """Take a message of input IMAGE, CAMERA_INFO, DETECTIONS or DEPTH."""
        try:
            check_stamp(message.header, NAMES[index])
        except BadMessage as error:
            self._events.on_bad(error)
            return
        stamp_ns = stamp_to_ns(message.header)
        self._monitor.arrived(index, stamp_ns)
        newest = self._newest_ns[index]
        if newest is not None and stamp_ns < newest - JUMP_BACK_NS:
            self._start()
            self._events.on_restart()
            newest = None
        self._newest_ns[index] = max(stamp_ns, newest or stamp_ns)
        if index == DEPTH:
            self._depths.append(message)
        else:
            self._filters[index].signalMessage(message)

    def _matched(self, image: Image | CompressedImage, info: CameraInfo, detections: Detection2DArray) -> None:
        self._monitor.matched()
        stamp_ns = stamp_to_ns(image.header)
        if self._last_image_ns is not None and stamp_ns <= self._last_image_ns:
            return  # a newer image is already under way
        self._last_image_ns = stamp_ns
        self._events.on_set(InputSet(image, info, detections, self._nearest_depth(stamp_ns)))

    def _nearest_depth(self, stamp_ns: int) -> Image | None:
        def apart(message: Image) -> int:
            return abs(stamp_to_ns(message.header) - stamp_ns)

        return min(self._depths, key=apart, default=None)
