"""tf2_ros, cv_bridge and message_filters, or what stands in for them: the same behaviour is asked of either."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("tf2_msgs.msg")

import rclpy
from geometry_msgs.msg import TransformStamped
from rclpy.executors import SingleThreadedExecutor
from robot import spin_until
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from pasr_perception.ros.compat import (
    ApproximateTimeSynchronizer,
    CvBridge,
    CvBridgeError,
    SimpleFilter,
    TransformBroadcaster,
)

pytestmark = pytest.mark.ros


def stamped(milliseconds: int, name: str) -> Header:
    message = Image()
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(milliseconds * 1_000_000, 1_000_000_000)
    message.header.frame_id = name
    return message


@pytest.mark.parametrize(("encoding", "shape"), [("rgb8", (4, 5, 3)), ("bgra8", (4, 5, 4)), ("mono8", (4, 5))])
def test_an_image_survives_the_way_to_a_message_and_back(encoding: str, shape: tuple[int, ...]) -> None:
    pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    message = CvBridge().cv2_to_imgmsg(pixels, encoding, header=Header(frame_id="camera"))
    assert (message.height, message.width, message.encoding, message.header.frame_id) == (4, 5, encoding, "camera")
    assert message.step == 5 * (shape[2] if len(shape) == 3 else 1)
    np.testing.assert_array_equal(CvBridge().imgmsg_to_cv2(message), pixels)


def test_bgr_is_reordered_on_request() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 4, 3), dtype=np.uint8)
    message = CvBridge().cv2_to_imgmsg(pixels, "bgr8")
    np.testing.assert_array_equal(CvBridge().imgmsg_to_cv2(message, "rgb8"), pixels[..., ::-1])


def test_an_unfit_encoding_is_refused() -> None:
    with pytest.raises(CvBridgeError):
        CvBridge().cv2_to_imgmsg(np.zeros((3, 4), np.uint8), "rgb8")


def test_a_set_is_signalled_once_its_stamps_are_close_enough() -> None:
    filters = [SimpleFilter() for _ in range(3)]
    sets: list[list[str]] = []
    synchroniser = ApproximateTimeSynchronizer(filters, 5, 0.02)
    synchroniser.registerCallback(lambda *messages: sets.append([m.header.frame_id for m in messages]))
    filters[0].signalMessage(stamped(100, "image 1"))
    filters[1].signalMessage(stamped(100, "info 1"))
    filters[2].signalMessage(stamped(150, "boxes of nothing"))
    assert sets == []
    filters[0].signalMessage(stamped(200, "image 2"))
    filters[1].signalMessage(stamped(205, "info 2"))
    filters[2].signalMessage(stamped(195, "boxes 2"))
    assert sets == [["image 2", "info 2", "boxes 2"]]


def test_the_exact_stamp_is_preferred() -> None:
    filters = [SimpleFilter(), SimpleFilter()]
    sets: list[list[str]] = []
    ApproximateTimeSynchronizer(filters, 5, 0.1).registerCallback(
        lambda *messages: sets.append([m.header.frame_id for m in messages])
    )
    for stamp in (960, 1000, 1040):  # across a full second
        filters[0].signalMessage(stamped(stamp, f"image {stamp}"))
    filters[1].signalMessage(stamped(1000, "boxes"))
    assert sets == [["image 1000", "boxes"]]


def test_transforms_go_out_on_tf_one_or_many(ros: rclpy.Context) -> None:
    node = rclpy.create_node("broadcaster", context=ros)
    executor = SingleThreadedExecutor(context=ros)
    executor.add_node(node)
    got: list[TFMessage] = []
    node.create_subscription(TFMessage, "/tf", got.append, 10)
    broadcaster = TransformBroadcaster(node)
    spin_until(executor, lambda: broadcaster.pub_tf.get_subscription_count() == 1)
    broadcaster.sendTransform(TransformStamped(child_frame_id="one"))
    broadcaster.sendTransform([TransformStamped(child_frame_id=name) for name in ("two", "three")])
    spin_until(executor, lambda: len(got) == 2)
    node.destroy_node()
    assert [[t.child_frame_id for t in message.transforms] for message in got] == [["one"], ["two", "three"]]
