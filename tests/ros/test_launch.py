"""The launch file: its arguments, and that the node it starts exists. It runs where ROS's own `launch` is installed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.ros
ROOT = Path(__file__).parents[2]
LAUNCH_FILE = ROOT / "launch" / "pasr.launch.py"
ARGUMENTS = {"library", "params_file", "namespace", "image", "camera_info", "detections", "use_sim_time", "rviz"}


def test_the_launch_file_declares_what_it_uses() -> None:
    """Read, not run: true on machines without `launch` as well."""
    calls = [n for n in ast.walk(ast.parse(LAUNCH_FILE.read_text())) if isinstance(n, ast.Call)]
    first = {"DeclareLaunchArgument": set(), "LaunchConfiguration": set()}
    for call in calls:
        name = getattr(call.func, "id", "")
        if name in first:
            first[name].add(ast.literal_eval(call.args[0]))
    assert first["DeclareLaunchArgument"] == ARGUMENTS
    assert first["LaunchConfiguration"] == ARGUMENTS


def test_launch_description_has_the_node_and_asks_for_a_library() -> None:
    pytest.importorskip("launch.actions")
    pytest.importorskip("launch_ros.actions")
    from launch.actions import DeclareLaunchArgument
    from launch.launch_description_sources import get_launch_description_from_python_launch_file
    from launch_ros.actions import Node

    from launch import LaunchContext

    description = get_launch_description_from_python_launch_file(str(LAUNCH_FILE))
    arguments = {e.name: e for e in description.entities if isinstance(e, DeclareLaunchArgument)}
    assert set(arguments) == ARGUMENTS
    assert [name for name, a in arguments.items() if a.default_value is None] == ["library"]
    nodes = [e for e in description.entities if isinstance(e, Node)]
    assert [n.node_package for n in nodes] == ["pasr_perception", "rviz2"]
    context = LaunchContext()
    context.launch_configurations["rviz"] = "false"
    assert nodes[1].condition is not None
    assert nodes[1].condition.evaluate(context) is False


def test_rviz_shows_the_topics_of_the_node() -> None:
    document = yaml.safe_load((ROOT / "config" / "pasr.rviz").read_text())
    displays = document["Visualization Manager"]["Displays"]
    topics = {d["Class"].split("/")[1]: d["Topic"]["Value"] for d in displays if "Topic" in d and d["Enabled"]}
    assert topics == {"MarkerArray": "pasr_node/markers", "Image": "pasr_node/debug_image"}
