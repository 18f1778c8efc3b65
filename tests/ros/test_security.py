"""The SROS2 policy allows exactly what a running node publishes, hears and offers."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vision_msgs.msg")
pytest.importorskip("tf2_msgs.msg")

from robot import Robot

pytestmark = pytest.mark.ros
POLICY = Path(__file__).parents[2] / "config" / "sros2" / "pasr_node.policy.xml"
ONLY_SOMETIMES = {"/image/compressed", "/clock", "/parameter_events", "/tf", "/tf_static"}  # by parameters


def allowed(kind: str, action: str) -> set[str]:
    groups = ET.parse(POLICY).getroot().iter(kind)
    texts = [item.text for group in groups if group.get(action) == "ALLOW" for item in group]
    return {t.replace("~", "/pasr_node") if t.startswith("~") else f"/{t}" for t in texts}


def test_the_policy_names_what_the_node_uses(start: Callable[..., Robot]) -> None:
    """What the graph tells of the node, and what its Python side has: neither is all of it at every moment."""
    robot = start(use_depth=True)
    node = robot.node
    name = (node.get_name(), node.get_namespace())

    def heard() -> set[str]:
        told = {topic for topic, _ in node.get_subscriber_names_and_types_by_node(*name)}
        return told | {s.topic_name for s in node.subscriptions} | ONLY_SOMETIMES

    def said() -> set[str]:
        told = {topic for topic, _ in node.get_publisher_names_and_types_by_node(*name)}
        return told | {p.topic_name for p in node.publishers}

    def offered() -> set[str]:
        told = {service for service, _ in node.get_service_names_and_types_by_node(*name)}
        return told | {s.service_name for s in node.services}

    robot.wait_for(allowed("topics", "subscribe"), heard)
    robot.wait_for(allowed("topics", "publish"), said)
    robot.wait_for(allowed("services", "reply"), offered)
