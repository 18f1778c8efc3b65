"""ros2 launch pasr_perception pasr.launch.py library:=/path/to/lib image:=/camera/image_raw ...

`ros2 launch pasr_perception pasr.launch.py -s` lists the arguments.
"""

from __future__ import annotations

from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """The node, and RViz where `rviz:=true`."""
    config = PathJoinSubstitution([ThisLaunchFileDir(), "..", "config"])
    arguments = [
        DeclareLaunchArgument("library", description="folder of a mesh library made by `pasr library build`"),
        DeclareLaunchArgument(
            "params_file",
            default_value=PathJoinSubstitution([config, "pasr.yaml"]),
            description="parameters of the node (config/pasr.yaml lists all of them)",
        ),
        DeclareLaunchArgument("namespace", default_value="", description="namespace of the node and its topics"),
        DeclareLaunchArgument("image", default_value="image", description="image topic (without /compressed)"),
        DeclareLaunchArgument("camera_info", default_value="camera_info", description="camera_info topic"),
        DeclareLaunchArgument("detections", default_value="detections", description="Detection2DArray topic"),
        DeclareLaunchArgument("use_sim_time", default_value="false", description="take the time from /clock"),
        DeclareLaunchArgument("rviz", default_value="false", description="start RViz with config/pasr.rviz"),
    ]
    image = LaunchConfiguration("image")
    sim_time = {"use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)}
    library = {"library": ParameterValue(LaunchConfiguration("library"), value_type=str)}
    node = Node(
        package="pasr_perception",
        executable="pasr_node",
        name="pasr_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[LaunchConfiguration("params_file"), library, sim_time],
        remappings=[
            ("image", image),
            ("image/compressed", [image, "/compressed"]),
            ("camera_info", LaunchConfiguration("camera_info")),
            ("detections", LaunchConfiguration("detections")),
        ],
        output="screen",
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        namespace=LaunchConfiguration("namespace"),
        arguments=["-d", PathJoinSubstitution([config, "pasr.rviz"])],
        parameters=[sim_time],
        remappings=[("image", image)],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    return LaunchDescription([*arguments, node, rviz])
