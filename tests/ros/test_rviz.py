"""config/pasr.rviz: what it shows is what a running node and the README's table of topics have, in fitting quality of service."""

from __future__ import annotations

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
from robot import Robot

from pasr_perception.data.images import FRAME_ID
from pasr_perception.ros.books import LABELS, MESHES

pytestmark = pytest.mark.ros
ROOT = Path(__file__).parents[2]
RVIZ = yaml.safe_load((ROOT / "config" / "pasr.rviz").read_text())["Visualization Manager"]
DISPLAYS = {display["Name"]: display for display in RVIZ["Displays"]}
TYPES = {  # of rviz_default_plugins, which every RViz 2 has
    "Image": "sensor_msgs/msg/Image",
    "Camera": "sensor_msgs/msg/Image",
    "MarkerArray": "visualization_msgs/msg/MarkerArray",
}
WITHOUT_TOPIC = {"Grid", "Axes", "TF"}


def kind(display: dict[str, Any]) -> str:
    package, name = display["Class"].split("/")
    assert package == "rviz_default_plugins"
    return name


def qos(topic: dict[str, Any]) -> QoSProfile:
    """The quality of service that RViz asks for."""
    return QoSProfile(
        depth=topic["Depth"],
        reliability=ReliabilityPolicy[topic["Reliability Policy"].upper().replace(" ", "_")],
        liveliness=LivelinessPolicy.AUTOMATIC,
        durability=DurabilityPolicy[topic["Durability Policy"].upper().replace(" ", "_")],
    )


def shown(enabled: bool) -> dict[str, dict[str, Any]]:
    """The displays with a topic, by its name as the node at the root would resolve it."""
    return {
        f"/{display['Topic']['Value']}": display
        for display in DISPLAYS.values()
        if "Topic" in display and display["Enabled"] == enabled
    }


def test_every_display_is_known_here() -> None:
    assert {kind(display) for display in DISPLAYS.values()} == set(TYPES) | WITHOUT_TOPIC
    assert {kind(display) for display in DISPLAYS.values() if "Topic" not in display} == WITHOUT_TOPIC
    assert all(display["Enabled"] == display["Value"] for display in DISPLAYS.values())


def test_everything_that_a_running_node_draws_is_shown(start: Callable[..., Robot]) -> None:
    node = start(use_depth=True).node
    published = dict(node.get_publisher_names_and_types_by_node(node.get_name(), node.get_namespace()))
    drawable = {topic: types[0] for topic, types in published.items() if types[0] in TYPES.values()}
    assert {topic: TYPES[kind(display)] for topic, display in shown(enabled=True).items()} == drawable
    for topic, display in shown(enabled=True).items():
        (publisher,) = node.get_publishers_info_by_topic(topic)
        compatibility, reason = qos_check_compatible(publisher.qos_profile, qos(display["Topic"]))
        assert compatibility == QoSCompatibility.OK, reason
    heard = dict(node.get_subscriber_names_and_types_by_node(node.get_name(), node.get_namespace()))
    for topic, display in shown(enabled=False).items():
        assert heard[topic] == [TYPES[kind(display)]]


def test_the_readme_has_the_topics() -> None:
    rows = re.findall(r"^\| (in|out) \| (.*?) \| (.*?) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    listed = {
        name.replace("~", "/pasr_node") if name.startswith("~") else f"/{name.lstrip('/')}"
        for _, names, _ in rows
        for name in re.findall(r"`(.*?)`", names)
    }
    assert {*shown(True), *shown(False), "/tf"} <= listed


def test_both_namespaces_of_markers_are_on() -> None:
    assert DISPLAYS["Objects"]["Namespaces"] == {MESHES: True, LABELS: True}


def test_the_camera_view_names_every_display_that_may_be_drawn_in_it() -> None:
    visibility = DISPLAYS["Meshes in the camera image"]["Visibility"]
    assert set(visibility) - {"Value"} == set(DISPLAYS) - {"Meshes in the camera image"}


def test_the_fixed_frame_is_that_of_the_bags_we_make() -> None:
    assert RVIZ["Global Options"]["Fixed Frame"] == FRAME_ID
