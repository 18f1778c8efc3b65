"""What waits at subscriptions is taken without the executor, and a frame is complete with its first message."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vision_msgs.msg")
pytest.importorskip("tf2_msgs.msg")

import rclpy
from robot import Robot, spin_until
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from pasr_perception.ros import node as node_module
from pasr_perception.ros.taking import AT_ONCE, waiting_messages

pytestmark = pytest.mark.ros


def test_all_that_waits_is_taken_oldest_first_but_no_more_than_a_few(ros: Any) -> None:
    node = rclpy.create_node("takes", context=ros)
    heard: list[Header] = []
    subscription = node.create_subscription(Header, "headers", heard.append, 100)
    publisher = node.create_publisher(Header, "headers", 100)
    executor = rclpy.executors.SingleThreadedExecutor(context=ros)  # of no node: nothing is taken by it
    spin_until(executor, lambda: publisher.get_subscription_count() == 1)
    assert list(waiting_messages(subscription)) == []
    for number in range(AT_ONCE + 2):
        publisher.publish(Header(frame_id=str(number)))
    taken: list[str] = []

    def all_came() -> bool:
        now = [message.frame_id for message in waiting_messages(subscription)]
        assert len(now) <= AT_ONCE
        taken.extend(now)
        return len(taken) == AT_ONCE + 2

    spin_until(executor, all_came)
    assert taken == [str(number) for number in range(AT_ONCE + 2)]
    node.destroy_subscription(subscription)
    assert list(waiting_messages(subscription)) == []
    assert heard == []
    node.destroy_node()


def test_a_frame_is_complete_with_its_image_where_the_rest_of_it_came(
    start: Callable[..., Robot], monkeypatch: pytest.MonkeyPatch
) -> None:
    robot = start(use_depth=True)
    rest = {"/camera_info": CameraInfo, "/detections": Detection2DArray, "/depth": Image}
    asked: list[str] = []

    def waiting(subscription: Any) -> Iterator[Any]:
        asked.append(subscription.topic_name)
        message = rest[subscription.topic_name]()
        message.header.frame_id = "camera"
        yield message

    monkeypatch.setattr(node_module, "waiting_messages", waiting)
    robot.images.publish(Image(header=Header(frame_id="camera")))
    robot.wait(lambda: robot.node.diagnostics.counts["frames/received"] == 1)
    assert asked == ["/depth", "/detections", "/camera_info"]
