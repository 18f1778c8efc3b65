from __future__ import annotations

from pathlib import Path

from pasr_perception.data.ros_types import DEFINITIONS, ros_types

INTERFACES = Path(__file__).parents[3] / "ros2_ws" / "interfaces"


def test_the_definitions_are_those_that_ros_builds():
    ours = {p.name: p.read_text() for p in (DEFINITIONS / "vision_msgs").glob("*.msg")}
    built = {p.name: p.read_text() for p in (INTERFACES / "vision_msgs" / "msg").glob("*.msg")}
    assert ours == built


def test_all_types_of_the_ros_contract_are_known():
    for kind in (
        "sensor_msgs/msg/Image",
        "sensor_msgs/msg/CompressedImage",
        "sensor_msgs/msg/CameraInfo",
        "vision_msgs/msg/Detection2DArray",
        "vision_msgs/msg/Detection3DArray",
        "vision_msgs/msg/VisionInfo",
        "tf2_msgs/msg/TFMessage",
        "visualization_msgs/msg/MarkerArray",
        "diagnostic_msgs/msg/DiagnosticArray",
        "rosgraph_msgs/msg/Clock",
    ):
        assert ros_types().hash_rihs01(kind).startswith("RIHS01_")
