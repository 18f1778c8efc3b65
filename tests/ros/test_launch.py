"""The launch files: read everywhere, run where ROS's own `launch` is installed."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

from pasr_perception.ros.params import declared_parameters

pytestmark = pytest.mark.ros
ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
README = (ROOT / "README.md").read_text()


def constant(file: str, name: str) -> dict[str, Any]:
    """The keys of a dictionary that a launch file assigns to `name`, with what can be read of the values."""
    for node in ast.parse((LAUNCH / file).read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == name:
            return {ast.literal_eval(k): v for k, v in zip(node.value.keys, node.value.values, strict=True)}
    raise AssertionError(f"{file} has no {name}")


def test_the_arguments_are_those_of_the_readme() -> None:
    for argument in constant("pasr.launch.py", "ARGUMENTS"):
        assert f"`{argument}`" in README


def test_every_argument_is_used_and_every_use_is_an_argument() -> None:
    tree = ast.parse((LAUNCH / "pasr.launch.py").read_text())
    used = {
        ast.literal_eval(node.slice)
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and getattr(node.value, "id", "") == "given"
        and isinstance(node.slice, ast.Constant)
    }
    used |= set(constant("pasr.launch.py", "PARAMETERS"))
    assert used == set(constant("pasr.launch.py", "ARGUMENTS"))


def test_what_is_set_are_parameters_of_the_node() -> None:
    known = {p.name for p in declared_parameters()}
    names = {ast.literal_eval(v) for v in constant("pasr.launch.py", "PARAMETERS").values()}
    text = (LAUNCH / "pasr.launch.py").read_text()
    names |= {n for n in ("autostart", "use_depth", "tf_prefix") if f'parameters["{n}"]' in text}
    assert len(names) == 6
    assert names <= known


def test_the_demo_passes_arguments_that_exist() -> None:
    tree = ast.parse((LAUNCH / "demo.launch.py").read_text())
    passed = next(n.value for n in ast.walk(tree) if isinstance(n, ast.Assign) and n.targets[0].id == "passed")
    assert {ast.literal_eval(k) for k in passed.keys} <= set(constant("pasr.launch.py", "ARGUMENTS"))


def entities(given: dict[str, str]) -> list[Any]:
    """What pasr.launch.py starts for these arguments, by the real launch system."""
    pytest.importorskip("launch.actions")
    pytest.importorskip("launch_ros.actions")
    from launch.actions import DeclareLaunchArgument, OpaqueFunction
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    from launch import LaunchContext

    description = get_launch_description_from_python_launch_file(str(LAUNCH / "pasr.launch.py"))
    context = LaunchContext()
    context.launch_configurations.update(given)
    started: list[Any] = []
    for entity in description.entities:
        if isinstance(entity, DeclareLaunchArgument):
            entity.visit(context)
        elif isinstance(entity, OpaqueFunction):
            started += entity.execute(context)
    return started


def test_a_node_per_namespace_and_rviz_on_request() -> None:
    assert [n.node_package for n in entities({})] == ["pasr_perception"]
    found = entities({"namespace": "left,right", "rviz": "true", "depth": "/camera/depth"})
    assert [n.node_package for n in found] == ["pasr_perception", "pasr_perception", "rviz2"]


def test_a_bag_is_played_by_the_packages_own_player() -> None:
    assert [type(e).__name__ for e in entities({"bag": "/bags/scene"})] == ["Node", "ExecuteProcess"]


def test_a_flag_that_is_neither_true_nor_false_is_named() -> None:
    pytest.importorskip("launch_ros.actions")
    with pytest.raises(ValueError, match="expected true or false, got 'maybe'"):
        entities({"rviz": "maybe"})


def test_rviz_opens_the_view_in_the_frame_that_is_asked_for() -> None:
    def words(**given: str) -> list[str]:
        return [
            "".join(getattr(part, "text", "") for part in word) for word in entities({"rviz": "true", **given})[-1].cmd
        ]

    view = str(ROOT / "config" / "pasr.rviz")
    assert words(rviz_frame="map")[1:5] == ["-d", view, "-f", "map"]
    assert "-f" not in words()
