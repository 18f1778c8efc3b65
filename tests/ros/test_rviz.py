"""config/pasr.rviz: what it shows is what a running node and the README's table of topics have, in fitting quality of service."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("rclpy")
pytest.importorskip("vision_msgs.msg")
pytest.importorskip("tf2_msgs.msg")

from rclpy.qos import (
    DurabilityPolicy,
    LivelinessPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from rclpy.topic_endpoint_info import TopicEndpointInfo
from robot import Robot

from pasr_perception.data.images import FRAME_ID
from pasr_perception.ros.books import LABELS, MESHES

pytestmark = pytest.mark.ros
ROOT = Path(__file__).parents[2]
RVIZ = yaml.safe_load((ROOT / "config" / "pasr.rviz").read_text())["Visualization Manager"]
DISPLAYS = {display["Name"]: display for display in RVIZ["Displays"]}
TYPES = {
    "rviz_default_plugins/Image": "sensor_msgs/msg/Image",
    "rviz_default_plugins/Camera": "sensor_msgs/msg/Image",
    "rviz_default_plugins/MarkerArray": "visualization_msgs/msg/MarkerArray",
    "vision_msgs_rviz_plugins/Detection3DArray": "vision_msgs/msg/Detection3DArray",
}
WITHOUT_TOPIC = {f"rviz_default_plugins/{name}" for name in ("Grid", "Axes", "TF")}


def qos(topic: dict[str, Any]) -> QoSProfile:
    """The quality of service that RViz asks for."""
    return QoSProfile(
        depth=topic["Depth"],
        reliability=ReliabilityPolicy[topic["Reliability Policy"].upper().replace(" ", "_")],
        liveliness=LivelinessPolicy.AUTOMATIC,
        durability=DurabilityPolicy[topic["Durability Policy"].upper().replace(" ", "_")],
    )


def shown() -> dict[str, list[dict[str, Any]]]:
    """The displays of each topic, by its name as the node at the root would resolve it."""
    displays: dict[str, list[dict[str, Any]]] = {}
    for display in DISPLAYS.values():
        if "Topic" in display:
            displays.setdefault(f"/{display['Topic']['Value']}", []).append(display)
    return displays


def test_every_display_is_known_here() -> None:
    assert {display["Class"] for display in DISPLAYS.values()} == set(TYPES) | WITHOUT_TOPIC
    assert {display["Class"] for display in DISPLAYS.values() if "Topic" not in display} == WITHOUT_TOPIC
    assert all(display["Enabled"] == display["Value"] for display in DISPLAYS.values())


def test_what_every_rviz_has_and_the_node_draws_is_on_and_the_rest_is_off() -> None:
    on = {topic for topic, displays in shown().items() if any(display["Enabled"] for display in displays)}
    assert on == {"/pasr_node/markers", "/pasr_node/debug_image"}


def test_everything_that_can_be_seen_of_a_running_node_is_shown(start: Callable[..., Robot]) -> None:
    robot = start(use_depth=True)
    node, name = robot.node, (robot.node.get_name(), robot.node.get_namespace())

    def can_be_seen() -> dict[str, list[str]]:
        published = node.get_publisher_names_and_types_by_node(*name)
        heard = node.get_subscriber_names_and_types_by_node(*name)
        images = [(topic, types) for topic, types in heard if types == ["sensor_msgs/msg/Image"]]
        return dict([*images, *((topic, types) for topic, types in published if types[0] in TYPES.values())])

    displayed = {topic: {TYPES[d["Class"]] for d in displays} for topic, displays in shown().items()}
    robot.wait_for(displayed, lambda: {topic: set(types) for topic, types in can_be_seen().items()})


def test_rviz_hears_what_a_running_node_says(start: Callable[..., Robot]) -> None:
    robot = start()
    offered = {publisher.topic_name for publisher in robot.node.publishers}
    checked = [topic for topic in shown() if topic in offered]
    assert len(checked) >= 4  # objects, tentative ones, markers, debug image
    for topic in checked:
        robot.wait(lambda t=topic: bool(_offers(robot, t)))
        for publisher, display in itertools.product(_offers(robot, topic), shown()[topic]):
            compatibility, reason = qos_check_compatible(publisher.qos_profile, qos(display["Topic"]))
            assert compatibility == QoSCompatibility.OK, reason


def _offers(robot: Robot, topic: str) -> list[TopicEndpointInfo]:
    """What the graph tells of the node's own publishers of a topic."""
    found = robot.node.get_publishers_info_by_topic(topic)
    return [publisher for publisher in found if publisher.node_name == robot.node.get_name()]


def test_rviz_hears_cameras_which_are_best_effort() -> None:
    for topic in ("/image", "/depth"):
        assert {qos(display["Topic"]).reliability for display in shown()[topic]} == {ReliabilityPolicy.BEST_EFFORT}


def test_the_readme_has_the_topics() -> None:
    rows = re.findall(r"^\| (in|out) \| (.*?) \| (.*?) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    listed = {
        name.replace("~", "/pasr_node") if name.startswith("~") else f"/{name.lstrip('/')}"
        for _, names, _ in rows
        for name in re.findall(r"`(.*?)`", names)
    }
    assert {*shown(), "/tf"} <= listed


def test_both_namespaces_of_markers_are_on() -> None:
    assert DISPLAYS["Objects"]["Namespaces"] == {MESHES: True, LABELS: True}


def test_the_camera_view_names_every_display_that_may_be_drawn_in_it() -> None:
    visibility = DISPLAYS["Meshes in the camera image"]["Visibility"]
    assert set(visibility) - {"Value"} == set(DISPLAYS) - {"Meshes in the camera image"}


def test_the_fixed_frame_is_that_of_the_bags_we_make() -> None:
    assert RVIZ["Global Options"]["Fixed Frame"] == FRAME_ID
