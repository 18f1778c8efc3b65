"""No image older than one period of its camera is begun while a newer one is to be had; otherwise the newest is, and it is said."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vision_msgs.msg")
pytest.importorskip("tf2_msgs.msg")

from diagnostic_msgs.msg import DiagnosticStatus
from robot import WAIT_S, FixedPipeline, Robot, known_answer, values
from rosgraph_msgs.msg import Clock

from pasr_perception.ros.freshness import Freshness
from pasr_perception.types import Detection, Frame, FrameResult

pytestmark = pytest.mark.ros
PERIOD, MS = 33_000_000, 1_000_000


class Camera:
    """A clock, and images that come `delay_ns` after their stamps."""

    def __init__(self, delay_ns: int = 5 * MS, images: int = 5) -> None:
        self.now = 0
        self.freshness = Freshness(lambda: self.now)
        for i in range(images):
            self.show(10**9 + i * PERIOD, delay_ns)

    def show(self, stamp_ns: int, delay_ns: int = 5 * MS) -> None:
        self.stamp, self.now = stamp_ns, stamp_ns + delay_ns
        self.freshness.came(stamp_ns)

    def patience_ms(self, age_ns: int) -> float:
        self.now = self.stamp + age_ns
        return self.freshness.patience_s(self.stamp) * 1e3

    def said(self, age_ns: int) -> str:
        self.now = self.stamp + age_ns
        return self.freshness.outdated(self.stamp)


def test_an_image_older_than_a_period_waits_for_the_next_until_the_camera_must_have_stopped() -> None:
    camera = Camera()
    assert (camera.patience_ms(32 * MS), camera.said(32 * MS)) == (0, "")
    assert camera.patience_ms(34 * MS) == pytest.approx(5 + 2.5 * 33 - 34)
    assert camera.patience_ms(70 * MS) == pytest.approx(
        5 + 2.5 * 33 - 70
    )  # the next one was lost, not the one after it
    assert camera.patience_ms(90 * MS) == 0  # better an old answer than none
    assert "90 ms old when its turn came" in camera.said(90 * MS)
    assert "one comes every 33 ms" in camera.said(90 * MS)


def test_what_comes_late_or_to_an_idle_worker_is_begun_at_once() -> None:
    for delay_ms in (34, 40, 10_000_000):
        camera = Camera(delay_ns=delay_ms * MS)
        age = (delay_ms + 100) * MS
        assert (camera.patience_ms(age), camera.said(age)) == (0, "")
    camera = Camera(delay_ns=30 * MS)  # in time, but just so
    assert (camera.patience_ms(36 * MS), camera.said(36 * MS)) == (0, "")
    assert camera.patience_ms(39 * MS) > 0
    camera.show(camera.stamp + PERIOD, delay_ns=40 * MS)  # one that comes late among others
    assert camera.patience_ms(45 * MS) == 0


def test_a_newer_image_that_is_just_coming_is_waited_for() -> None:
    camera = Camera()
    old = camera.stamp
    camera.show(old + PERIOD, delay_ns=40 * MS)
    assert camera.freshness.patience_s(old) > 0


def test_without_a_known_period_and_after_a_clock_that_jumped_back_nothing_waits() -> None:
    assert Camera(images=1).patience_ms(40 * MS) == 0
    assert Camera(images=2).patience_ms(40 * MS) == 0
    assert Camera(delay_ns=-5 * MS).patience_ms(40 * MS) == 0  # stamps of another clock
    camera = Camera()
    camera.show(camera.stamp - 10**9)
    assert camera.patience_ms(40 * MS) == 0


def test_a_lost_image_does_not_make_the_period_longer() -> None:
    camera = Camera()
    camera.show(camera.stamp + 2 * PERIOD)
    assert camera.patience_ms(34 * MS) > 0


def test_no_wait_is_longer_than_the_camera_could_need_whatever_the_clock_does() -> None:
    camera = Camera()
    stamp = camera.stamp
    camera.now = stamp + 3600 * 10**9
    camera.freshness.came(camera.now)  # the clock jumped ahead, and back again
    camera.now = stamp + 40 * MS
    assert 0 < camera.freshness.patience_s(stamp) <= 2.5 * PERIOD * 1e-9


# --- the node, in the time of a clock that stands still unless it is told to go on ---

PERIOD_S = 100  # between two images: so long that a wait for the next is none of a real clock's


class SlowNode:
    """A node whose pipeline is busy with the fourth image until it may `go` on; images come half a second after their stamps."""

    def __init__(self, start: Callable[..., Robot]) -> None:
        self.go = threading.Event()
        self.pipeline = FixedPipeline(self._answer)
        self.robot = start(self.pipeline, use_sim_time=True)
        self._clock = self.robot.helper.create_publisher(Clock, "/clock", 1)
        self.shown = 0

    def _answer(self, frame: Frame, detections: list[Detection]) -> FrameResult:
        if frame.stamp_ns == 4 * PERIOD_S * 10**9:
            assert self.go.wait(WAIT_S)
        return known_answer(frame, detections)

    def time_is(self, seconds: float) -> None:
        message = Clock()
        message.clock.sec, message.clock.nanosec = int(seconds), int(seconds % 1 * 10**9)

        def told() -> bool:
            self._clock.publish(message)
            return self.robot.node.get_clock().now().nanoseconds == int(seconds * 10**9)

        self.robot.wait(told)

    def show(self, stamp_s: int) -> None:
        self.shown += 1
        self.robot.show(stamp_s)
        self.robot.wait(lambda: self.robot.node.diagnostics.counts["frames/received"] == self.shown)

    def busy_with_the_fourth(self) -> None:
        for number in (1, 2, 3, 4):
            self.time_is(number * PERIOD_S + 0.5)
            self.show(number * PERIOD_S)
            self.robot.wait(lambda n=number: len(self.pipeline.frames) == n)

    def begun(self) -> list[int]:
        return [frame.stamp_ns // 10**9 for frame in self.pipeline.frames]


def test_an_image_that_grew_older_than_a_period_is_never_begun_while_images_keep_coming(
    start: Callable[..., Robot],
) -> None:
    node = SlowNode(start)
    node.busy_with_the_fourth()
    node.time_is(500.5)
    node.show(500)
    node.time_is(610)  # the camera is late: the next one is not there yet
    node.go.set()
    node.robot.wait(lambda: node.robot.node.diagnostics.counts["frames/outdated"] == 1)
    assert node.begun() == [100, 200, 300, 400]
    node.show(600)
    node.robot.wait(lambda: node.robot.answered(5) and len(node.robot.statuses("pipeline")) == 5)
    assert node.begun() == [100, 200, 300, 400, 600]
    status = node.robot.statuses("pipeline")[-1]
    assert (status.level, values(status)["frames/outdated"], values(status)["frames/dropped"]) == (
        DiagnosticStatus.OK,
        "1",
        "1",
    )


def test_the_last_image_of_a_camera_that_stopped_is_answered_late_and_it_is_said(start: Callable[..., Robot]) -> None:
    node = SlowNode(start)
    node.busy_with_the_fourth()
    node.time_is(500.5)
    node.show(500)
    node.time_is(800)  # nothing came for two and a half periods
    node.go.set()
    node.robot.wait(lambda: node.robot.answered(5) and len(node.robot.statuses("pipeline")) == 5)
    status = node.robot.statuses("pipeline")[-1]
    assert (status.level, node.begun()[-1]) == (DiagnosticStatus.WARN, 500)
    assert "the image was 300000 ms old when its turn came, no newer one was to be had" in status.message


def test_a_pipeline_slower_than_the_camera_takes_the_newest_image_each_time(start: Callable[..., Robot]) -> None:
    node = SlowNode(start)
    node.busy_with_the_fourth()
    for stamp in (500, 600, 700):  # while it is busy
        node.time_is(stamp + 0.5)
        node.show(stamp)
    node.go.set()
    node.robot.wait(lambda: node.robot.answered(5))
    assert node.begun() == [100, 200, 300, 400, 700]
    assert node.robot.node.diagnostics.counts["frames/outdated"] == 0
