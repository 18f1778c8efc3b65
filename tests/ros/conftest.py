"""Every ROS test talks in a domain of its own, on this machine only, with logs in a temporary folder."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

LONGER_THAN_A_TEST_S = 3600.0  # what is to be said once is said once, however slow the machine
NEXT_DOMAIN = itertools.cycle(range(1, 101)).__next__  # those that domain_coordinator gives


@pytest.fixture(scope="session", autouse=True)
def on_this_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Set what all of ROS here has in common, for this process and the nodes it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        patch.setenv("ROS_LOG_DIR", str(tmp_path_factory.mktemp("ros_log")))
        # as the README says: in the stock shared memory segment a VGA image has no room
        patch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", str(Path(__file__).parents[2] / "config" / "fastdds_shm.xml"))
        yield


@pytest.fixture(autouse=True)
def own_domain(on_this_machine: None) -> Iterator[int]:
    """Set ROS_DOMAIN_ID for one test, to another one than the test before had.

    A context lives until Python frees it, and may go on telling of a node of the same name that it no longer has.
    """
    domain_coordinator = pytest.importorskip("domain_coordinator")
    with domain_coordinator.domain_id(NEXT_DOMAIN) as domain, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(domain))
        yield domain


@pytest.fixture
def ros(own_domain: int) -> Iterator[object]:
    """An rclpy context of its own, shut down afterwards."""
    rclpy = pytest.importorskip("rclpy")
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=own_domain)
    yield context
    rclpy.try_shutdown(context=context)


@pytest.fixture
def environment(own_domain: int) -> dict[str, str]:
    """The whole environment for child processes, with the repository importable."""
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))}


@pytest.fixture
def start(ros: Any) -> Iterator[Callable[..., Any]]:
    """Makes a node with a pipeline of known answers in this process, started, and the robot around it.

    Keywords other than `node` (arguments of the node) are its parameters. It answers each frame by itself unless told otherwise.
    """
    from rclpy.parameter import Parameter
    from robot import FixedPipeline, Robot

    from pasr_perception.ros.node import PasrNode

    robots: list[Any] = []

    def make(pipeline: Any = None, node: dict[str, Any] | None = None, **parameters: Any) -> Any:
        given = {"library": "/somewhere", "tracking": False, "complaint_period_s": LONGER_THAN_A_TEST_S, **parameters}
        overrides = [Parameter(name.replace("__", "."), value=value) for name, value in given.items()]
        made = PasrNode(pipeline or FixedPipeline(), context=ros, parameter_overrides=overrides, **(node or {}))
        robots.append(Robot(ros, made, prefix=made.get_namespace().rstrip("/")))
        made.start()
        if given.get("autostart", True):
            robots[-1].wait_until_connected()
        return robots[-1]

    yield make
    for robot in robots:
        robot.node.destroy_node()
        robot.helper.destroy_node()
