"""Throttled complaints and the bridge from logging to the ROS log."""

from __future__ import annotations

import logging
import threading

import pytest

from pasr_perception.ros.logs import Complaints, speaking_for

pytestmark = pytest.mark.ros


class Lines:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def info(self, text: str) -> None:
        self.said.append(("info", text))

    def warning(self, text: str) -> None:
        self.said.append(("warning", text))

    def error(self, text: str) -> None:
        self.said.append(("error", text))


def test_one_complaint_per_kind_and_period_then_how_many_were_held_back() -> None:
    now = [0.0]
    lines = Lines()
    complaints = Complaints(lines, 5.0, clock=lambda: now[0])
    for second in (0.0, 1.0, 4.9):
        now[0] = second
        complaints.complain("image.step", f"bad step at {second}")
    complaints.complain("camera_info.k", "bad K", details="\ntrace")
    now[0] = 5.0
    complaints.complain("image.step", "bad step at 5.0")
    assert [text for _, text in lines.said] == [
        "bad step at 0.0",
        "bad K\ntrace",
        "bad step at 5.0 (2 more like this since the last message)",
    ]
    assert (complaints.total, complaints.last) == (5, "bad step at 5.0")


def test_records_of_the_library_reach_the_ros_log_with_their_severity() -> None:
    lines = Lines()
    logger = logging.getLogger("pasr_perception.test_logs")
    with speaking_for(lines):
        logger.debug("not this")
        logger.info("loaded %d meshes", 3)
        logger.warning("slow")
        logger.error("broken")
    logger.info("of nobody's concern")
    assert lines.said == [("info", "loaded 3 meshes"), ("warning", "slow"), ("error", "broken")]


def test_nodes_of_one_process_hear_their_own_threads_only() -> None:
    logger = logging.getLogger("pasr_perception.test_logs")
    nodes = [Lines(), Lines()]

    def work(number: int) -> None:
        with speaking_for(nodes[number]):
            logger.info("frame of node %d", number)

    threads = [threading.Thread(target=work, args=(n,)) for n in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [node.said for node in nodes] == [[("info", "frame of node 0")], [("info", "frame of node 1")]]
