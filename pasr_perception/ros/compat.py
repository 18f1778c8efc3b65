"""tf2_ros, cv_bridge and message_filters: the real ones where they are installed, else the part of them used here.

ROS from the package index (wheels) has none of the three. Names, arguments and results are those of the real
packages, and tests/ros/test_compat.py holds whichever is present to the same behaviour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic, sleep
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import Image

from pasr_perception.geometry.se3 import quaternion_xyzw
from pasr_perception.ros.encodings import ENCODINGS
from pasr_perception.ros.sync import StampMatcher

__all__ = [
    "ApproximateTimeSynchronizer",
    "Buffer",
    "CvBridge",
    "CvBridgeError",
    "SimpleFilter",
    "TransformBroadcaster",
    "TransformException",
    "TransformListener",
]

POLL_S = 0.005  # while a transform is waited for

try:
    from tf2_ros import Buffer, TransformBroadcaster, TransformException, TransformListener
except ImportError:
    from geometry_msgs.msg import TransformStamped
    from rclpy.duration import Duration
    from rclpy.node import Node
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from rclpy.time import Time
    from tf2_msgs.msg import TFMessage

    from pasr_perception.ros.transforms import TransformException, TransformHistory, matrix_from_transform

    class TransformBroadcaster:  # type: ignore[no-redef]
        """Publishes transforms on /tf, as `tf2_ros.TransformBroadcaster` does."""

        def __init__(self, node: Node, qos: QoSProfile | None = None) -> None:
            self.pub_tf = node.create_publisher(TFMessage, "/tf", qos or QoSProfile(depth=100))

        def sendTransform(self, transform: TransformStamped | Sequence[TransformStamped]) -> None:  # noqa: N802
            transforms = list(transform) if isinstance(transform, (list, tuple)) else [transform]
            self.pub_tf.publish(TFMessage(transforms=transforms))

    class Buffer:  # type: ignore[no-redef]
        """Transforms over the last ten seconds, as `tf2_ros.Buffer`."""

        def __init__(self) -> None:
            self._history = TransformHistory()

        def set_transform(self, transform: TransformStamped, authority: str, static: bool = False) -> None:
            T = matrix_from_transform(transform)
            stamp = Time.from_msg(transform.header.stamp).nanoseconds
            names = (name.lstrip("/") for name in (transform.header.frame_id, transform.child_frame_id))
            self._history.add(*names, stamp, T, static)

        def lookup_transform(
            self, target_frame: str, source_frame: str, time: Time, timeout: Duration | None = None
        ) -> TransformStamped:
            """From source to target at a time; waits for it, which an executor in another thread has to spin for."""
            end = monotonic() + (timeout.nanoseconds * 1e-9 if timeout else 0.0)
            while True:
                try:
                    T = self._history.lookup(target_frame.lstrip("/"), source_frame.lstrip("/"), time.nanoseconds)
                except TransformException:
                    if monotonic() >= end:
                        raise
                    sleep(POLL_S)
                else:
                    return _transform(target_frame, source_frame, time, T)

    class TransformListener:  # type: ignore[no-redef]
        """Fills a buffer from /tf and /tf_static, as `tf2_ros.TransformListener`."""

        def __init__(self, buffer: Buffer, node: Node) -> None:
            self._buffer, self._node = buffer, node
            latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            topics = (("/tf", QoSProfile(depth=100), False), ("/tf_static", latched, True))
            self._subscriptions = [
                node.create_subscription(TFMessage, name, partial(self._take, static), qos)
                for name, qos, static in topics
            ]

        def unregister(self) -> None:
            for subscription in self._subscriptions:
                self._node.destroy_subscription(subscription)

        def _take(self, static: bool, message: TFMessage) -> None:
            for transform in message.transforms:
                try:
                    self._buffer.set_transform(transform, "default_authority", static)
                except ValueError as error:  # not a rotation, not numbers
                    self._node.get_logger().warning(
                        f"transform of {transform.child_frame_id!r} left out: {error}", throttle_duration_sec=5.0
                    )

    def _transform(target: str, source: str, stamp: Time, T: np.ndarray) -> TransformStamped:
        message = TransformStamped(child_frame_id=source)
        message.header.stamp, message.header.frame_id = stamp.to_msg(), target
        t, q = message.transform.translation, message.transform.rotation
        t.x, t.y, t.z = T[:3, 3].tolist()
        q.x, q.y, q.z, q.w = quaternion_xyzw(T[:3, :3]).tolist()
        return message


try:
    from cv_bridge import CvBridge, CvBridgeError
except ImportError:

    class CvBridgeError(TypeError):  # type: ignore[no-redef]
        """An image message that cannot be converted."""

    class CvBridge:  # type: ignore[no-redef]
        """`cv_bridge.CvBridge` for the encodings of `encodings`, to `passthrough` or `rgb8`."""

        def imgmsg_to_cv2(self, img_msg: Image, desired_encoding: str = "passthrough") -> np.ndarray:
            """The message as an array [H, W] or [H, W, C]; a view of its bytes where nothing has to be converted."""
            if img_msg.encoding not in ENCODINGS:
                raise CvBridgeError(f"encoding {img_msg.encoding!r} is not one of {', '.join(ENCODINGS)}")
            if desired_encoding not in ("passthrough", "rgb8"):
                raise CvBridgeError(f"desired_encoding {desired_encoding!r} is not one of passthrough, rgb8")
            encoding = ENCODINGS[img_msg.encoding]
            pixels = _pixels(img_msg, encoding.channels, np.dtype(encoding.kind))
            if desired_encoding == "passthrough" or img_msg.encoding == "rgb8":
                return pixels
            if pixels.dtype == np.uint16:
                pixels = np.round(pixels * (255.0 / 65535.0)).astype(np.uint8)
            try:
                return cv2.cvtColor(np.ascontiguousarray(pixels), encoding.to_rgb)
            except cv2.error as error:
                raise CvBridgeError(str(error)) from error

        def cv2_to_imgmsg(self, cvim: np.ndarray, encoding: str = "passthrough", header: Any = None) -> Image:
            """An array [H, W] or [H, W, C] as a message in `encoding` (its channels and depth have to fit)."""
            channels = 1 if cvim.ndim == 2 else cvim.shape[2]
            known = ENCODINGS.get(encoding)
            if known is None or (known.channels, known.kind) != (channels, cvim.dtype.type):
                raise CvBridgeError(f"encoding {encoding!r} does not fit an image {cvim.shape} {cvim.dtype}")
            message = Image(height=cvim.shape[0], width=cvim.shape[1], encoding=encoding, is_bigendian=0)
            if header is not None:
                message.header = header
            message.step = cvim.shape[1] * channels * cvim.itemsize
            message.data = np.ascontiguousarray(cvim).tobytes()  # an ndarray here would be copied byte by byte
            return message

    def _pixels(message: Image, channels: int, dtype: np.dtype) -> np.ndarray:
        """The message's bytes as [H, W] or [H, W, C] in native byte order, without the padding of `step`."""
        wire = dtype.newbyteorder(">" if message.is_bigendian else "<")
        rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
        used = rows[:, : message.width * channels * dtype.itemsize]
        if dtype.itemsize > 1:
            used = np.ascontiguousarray(used).view(wire).astype(dtype)
        shape = (message.height, message.width) if channels == 1 else (message.height, message.width, channels)
        return used.reshape(shape)


try:
    from message_filters import ApproximateTimeSynchronizer, SimpleFilter
except ImportError:
    from rclpy.time import Time

    class SimpleFilter:  # type: ignore[no-redef]
        """A source of messages that others can listen to, as `message_filters.SimpleFilter`."""

        def __init__(self) -> None:
            self._listeners: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

        def registerCallback(self, cb: Callable[..., None], *args: Any) -> int:  # noqa: N802
            self._listeners.append((cb, args))
            return len(self._listeners) - 1

        def signalMessage(self, *msg: Any) -> None:  # noqa: N802
            for callback, args in self._listeners:
                callback(*msg, *args)

    class ApproximateTimeSynchronizer(SimpleFilter):  # type: ignore[no-redef]
        """Calls back with one message of each filter once their header stamps lie within `slop` seconds."""

        def __init__(self, fs: Sequence[SimpleFilter], queue_size: int, slop: float) -> None:
            super().__init__()
            self._matcher = StampMatcher(len(fs), queue_size, int(slop * 1e9))
            for index, source in enumerate(fs):
                source.registerCallback(self._add, index)

        def _add(self, msg: Any, index: int) -> None:
            found = self._matcher.add(index, Time.from_msg(msg.header.stamp).nanoseconds, msg)
            if found is not None:
                self.signalMessage(*found)
