"""ros2 launch pasr_perception demo.launch.py out:=/path/to/checkout/out/demo

What `make demo` made, played again with RViz beside it.
"""

from __future__ import annotations

from pathlib import Path

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution

from launch import LaunchDescription

ARGUMENTS = {
    "out": ("out/demo", "folder that `make demo` wrote"),
    "bag": ("bag_8", "bag to play, in that folder"),
    "rviz": ("true", "start RViz"),
}


def generate_launch_description() -> LaunchDescription:
    """pasr.launch.py on the demo's library and bag."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    out = LaunchConfiguration("out")
    passed = {
        "library": PathJoinSubstitution([out, "library"]),
        "bag": PathJoinSubstitution([out, LaunchConfiguration("bag")]),
        "image": "/camera/image_raw",
        "camera_info": "/camera/camera_info",
        "detections": "/detections",
        "use_sim_time": "true",
        "rviz": LaunchConfiguration("rviz"),
    }
    source = PythonLaunchDescriptionSource(str(Path(__file__).resolve().with_name("pasr.launch.py")))
    return LaunchDescription([*declared, IncludeLaunchDescription(source, launch_arguments=passed.items())])
