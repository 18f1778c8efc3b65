"""Inputs are not missed while a frame is worked on: a player may hold them until it is done."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("rclpy")

import rclpy
from rclpy.node import Node

from pasr_perception.ros.diagnostics import Diagnostics
from pasr_perception.ros.logs import Complaints
from pasr_perception.ros.monitor import InputMonitor

pytestmark = pytest.mark.ros


@pytest.fixture
def node(ros: rclpy.Context) -> Iterator[Node]:
    made = Node("waits", context=ros)
    yield made
    made.destroy_node()


def test_what_is_held_back_during_work_is_missed_only_a_patience_after_it(node: Node) -> None:
    now = [100.0]
    complaints = Complaints(node.get_logger(), 0.0)
    diagnostics = Diagnostics(node, complaints, lambda: "active")
    monitor = diagnostics.monitor = InputMonitor(["image", "boxes"], lambda: now[0])
    monitor.arrived(0, 1)  # its boxes never come
    monitor.matched()
    diagnostics.began()
    now[0] += 5.0
    diagnostics.check(2.0)
    assert complaints.total == 0
    diagnostics.failed(1, "whatever")
    now[0] += 1.0
    diagnostics.check(2.0)
    assert complaints.total == 0
    now[0] += 1.5
    diagnostics.check(2.0)
    assert complaints.total == 1
    assert "no image can be processed" in complaints.last


def test_silence_is_said_to_be_over_when_images_come_back_and_not_by_a_node_that_stops_listening(
    node: Node, capfd: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    diagnostics = Diagnostics(node, Complaints(node.get_logger(), 0.0), lambda: "active")
    monitor = diagnostics.monitor = InputMonitor(["image", "boxes"], lambda: now[0])
    monitor.arrived(0, 1)
    for _ in range(5):
        now[0] += 3.0
        diagnostics.check(2.0)
    diagnostics.monitor = None
    diagnostics.check(2.0)
    diagnostics.monitor = monitor
    log = "".join(capfd.readouterr())
    assert (log.count("no image can be processed"), log.count("images are processed again")) == (1, 0)
    monitor.matched()
    for _ in range(3):
        diagnostics.check(2.0)
    assert "".join(capfd.readouterr()).count("images are processed again") == 1
