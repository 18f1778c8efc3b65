"""Throttled complaints and the bridge from logging to the ROS log."""

from __future__ import annotations

import logging
import threading

import pytest

from pasr_perception.ros.logs import Complaints, LastingProblem, speaking_for

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


def test_what_lasts_is_said_once_per_cause_then_every_thirty_seconds_and_once_that_it_is_over() -> None:
    now = [0.0]
    lines = Lines()
    problem = LastingProblem(Complaints(lines, 5.0, clock=lambda: now[0]), "images are processed again")
    for second in range(100):  # a bag ended, looked at every second
        now[0] = float(second)
        cause = "boxes are silent" if second == 0 else "all is silent"
        problem.now(cause, f"{cause} for {second} s")
    assert [text for _, text in lines.said] == [
        "boxes are silent for 0 s",
        "all is silent for 1 s",
        *(f"all is silent for {s} s (29 more like this since the last message)" for s in (31, 61, 91)),
    ]
    lines.said.clear()
    problem.now("", "")
    problem.now("", "")
    assert lines.said == [("info", "images are processed again")]
    for second in range(100, 121):  # it comes and goes
        now[0] = float(second)
        problem.now("all is silent" if second % 2 else "", "all is silent again")
    assert len(lines.said) == 1


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
