"""ros2 launch pasr_perception pasr.launch.py library:=/path/to/lib image:=/camera/image_raw ...

`ros2 launch pasr_perception pasr.launch.py -s` lists the arguments. What is left empty stays as `params_file` has it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackagePrefix

from launch import LaunchContext, LaunchDescription

CONFIG = Path(__file__).resolve().parents[1] / "config"
ARGUMENTS = {
    "library": ("", "folder of a mesh library made by `pasr library build`"),
    "params_file": (str(CONFIG / "pasr.yaml"), "parameters of the node (config/pasr.yaml lists all of them)"),
    "encoder": ("", "parameter encoder.name: efficientnet-lite0, dinov2, dinov3"),
    "device": ("", "parameter encoder.device: auto, cpu, cuda, cuda:0 ..."),
    "autostart": ("", "false: a lifecycle manager configures and activates the node"),
    "namespace": ("", "namespace of the node and its topics; several, separated by commas, start a node each"),
    "image": ("image", "image topic (without /compressed)"),
    "camera_info": ("camera_info", "camera_info topic"),
    "detections": ("detections", "Detection2DArray topic"),
    "depth": ("", "depth image topic; empty: no depth"),
    "use_sim_time": ("false", "take the time from /clock"),
    "respawn": ("false", "start the node again if it dies"),
    "bag": ("", "bag to play, once the node listens; use it with use_sim_time:=true"),
    "rviz": ("false", "start RViz with config/pasr.rviz"),
    "rviz_frame": ("", "RViz's fixed frame; empty: camera_optical_frame, as config/pasr.rviz has it"),
}
PARAMETERS = {"library": "library", "encoder": "encoder.name", "device": "encoder.device"}
BAG_WAIT_S = "600"  # for the node to load its library


def generate_launch_description() -> LaunchDescription:
    """One node per namespace, and the bag and RViz where they are asked for."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[Any]:
    """What the arguments ask for."""
    given = {name: context.launch_configurations[name] for name in ARGUMENTS}
    namespaces = given["namespace"].split(",")
    actions: list[Any] = [node(given, namespace, len(namespaces) > 1) for namespace in namespaces]
    if given["bag"]:
        pasr = [FindPackagePrefix("pasr_perception"), "/lib/pasr_perception/pasr"]
        actions.append(
            ExecuteProcess(cmd=[pasr, "bag", "play", given["bag"], "--clock", "--wait", BAG_WAIT_S], output="screen")
        )
    if is_true(given["rviz"]):
        actions.append(rviz(given, namespaces[0]))
    return actions


def node(given: dict[str, str], namespace: str, one_of_several: bool) -> Node:
    """`pasr_node` in a namespace; the frames of several are told apart by it."""
    parameters: dict[str, Any] = {name: given[key] for key, name in PARAMETERS.items() if given[key]}
    parameters["use_sim_time"] = is_true(given["use_sim_time"])
    if given["autostart"]:
        parameters["autostart"] = is_true(given["autostart"])
    if given["depth"]:
        parameters["use_depth"] = True
    if one_of_several:
        parameters["tf_prefix"] = f"{namespace}/"
    return Node(
        package="pasr_perception",
        executable="pasr_node",
        name="pasr_node",
        namespace=namespace,
        parameters=[given["params_file"], parameters],
        remappings=[
            ("image", given["image"]),
            ("image/compressed", given["image"] + "/compressed"),
            ("camera_info", given["camera_info"]),
            ("detections", given["detections"]),
            ("depth", given["depth"] or "depth"),
        ],
        respawn=is_true(given["respawn"]),
        respawn_delay=2.0,
        output="screen",
    )


def rviz(given: dict[str, str], namespace: str) -> Node:
    """RViz with the displays of one node."""
    frame = ["-f", given["rviz_frame"]] if given["rviz_frame"] else []
    return Node(
        package="rviz2",
        executable="rviz2",
        namespace=namespace,
        arguments=["-d", str(CONFIG / "pasr.rviz"), *frame],
        parameters=[{"use_sim_time": is_true(given["use_sim_time"])}],
        remappings=[
            ("image", given["image"]),
            ("camera_info", given["camera_info"]),
            ("depth", given["depth"] or "depth"),
        ],
    )


def is_true(text: str) -> bool:
    """Of an argument that is true or false; ValueError for anything else."""
    if text.lower() not in ("true", "false"):
        raise ValueError(f"expected true or false, got {text!r}")
    return text.lower() == "true"
