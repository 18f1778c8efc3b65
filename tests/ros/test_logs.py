"""Throttled complaints and the bridge from logging to the ROS log."""

from __future__ import annotations

import logging

import pytest

from pasr_perception.ros.logs import Complaints, RosLogHandler

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
    handler = RosLogHandler(lines)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        logger.debug("not this")
        logger.info("loaded %d meshes", 3)
        logger.warning("slow")
        logger.error("broken")
    finally:
        logger.removeHandler(handler)
    assert lines.said == [("info", "loaded 3 meshes"), ("warning", "slow"), ("error", "broken")]
