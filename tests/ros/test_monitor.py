"""What the inputs' monitor counts, and the reasons it gives for nothing coming of what arrives."""

from __future__ import annotations

import pytest

from pasr_perception.ros.monitor import InputMonitor

MS = 1_000_000
pytestmark = pytest.mark.ros


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_monitor_counts_and_measures_rates() -> None:
    clock = Clock()
    monitor = InputMonitor(["image", "boxes"], clock)
    for i in range(20):
        monitor.arrived(0, i * 50 * MS)
    monitor.arrived(1, 7)
    clock.now += 2.0
    image, boxes = monitor.status()
    assert (image.total, image.rate_hz, image.last_stamp_ns) == (20, pytest.approx(10.0), 950 * MS)
    assert (boxes.total, boxes.rate_hz) == (1, pytest.approx(0.5))
    clock.now += 1.0
    assert monitor.status()[0].rate_hz == 0.0


def test_the_monitor_names_the_topic_that_is_silent() -> None:
    clock = Clock()
    monitor = InputMonitor(["image", "boxes"], clock)
    clock.now += 3.0
    assert monitor.why_nothing_matches(monitor.status(), 2.0) is None  # nothing comes at all: nothing to explain
    monitor.arrived(0, 5)
    assert "nothing came on boxes for 3.0 s" in str(monitor.why_nothing_matches(monitor.status(), 2.0))


def test_an_input_that_dies_is_named_with_how_long_it_is_silent_and_its_return_is_noticed() -> None:
    clock = Clock()
    monitor = InputMonitor(["image", "boxes", "depth"], clock, required=2)
    for i in range(50):
        clock.now += 0.1
        monitor.arrived(0, i * 100 * MS)
        if i < 10:
            monitor.arrived(1, i * 100 * MS)
            monitor.matched()
    reason = str(monitor.why_nothing_matches(monitor.status(), 2.0))
    assert reason.startswith("no image can be processed: nothing came on boxes for 4.0 s; received: image 50")
    assert "depth" not in reason
    clock.now += 3.0  # now the camera is silent too
    assert "nothing came on image, boxes for 7.0 s" in str(monitor.why_nothing_matches(monitor.status(), 2.0))
    monitor.matched()
    assert monitor.why_nothing_matches(monitor.status(), 2.0) is None


def test_the_monitor_says_how_far_stamps_are_apart_until_something_matches() -> None:
    clock = Clock()
    monitor = InputMonitor(["image", "boxes"], clock)
    clock.now += 2.5
    monitor.arrived(0, 1_000 * MS)
    monitor.arrived(1, 1_250 * MS)
    reason = str(monitor.why_nothing_matches(monitor.status(), 2.0))
    assert "stamps do not match for 2.5 s" in reason
    assert "0.250 s apart" in reason
    monitor.matched()
    assert monitor.why_nothing_matches(monitor.status(), 2.0) is None
