"""Complete sets out of single messages: no old after new, a fresh start when the clock jumps back."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vision_msgs.msg")

from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2DArray

from pasr_perception.ros.checks import BadMessage, stamp_to_ns
from pasr_perception.ros.inputs import (
    CAMERA_INFO,
    DEPTH,
    DETECTIONS,
    IMAGE,
    InputEvents,
    InputSet,
    SynchronisedInputs,
)
from pasr_perception.ros.monitor import InputMonitor

pytestmark = pytest.mark.ros
TYPES = {IMAGE: Image, CAMERA_INFO: CameraInfo, DETECTIONS: Detection2DArray, DEPTH: Image}


class Bench:
    """Inputs under test, and the stamps in milliseconds of the images that came out."""

    def __init__(self) -> None:
        self.images: list[int] = []
        self.depths: list[int | None] = []
        self.bad: list[BadMessage] = []
        self.restarts = 0
        self.monitor = InputMonitor(["image", "camera_info", "detections", "depth"], required=3)
        events = InputEvents(self.on_set, self.on_restart, self.bad.append)
        self.inputs = SynchronisedInputs(self.monitor, events, queue=5, slop_s=0.02)

    def on_set(self, inputs: InputSet) -> None:
        self.images.append(stamp_to_ns(inputs.image.header) // 1_000_000)
        depth = inputs.depth
        self.depths.append(None if depth is None else stamp_to_ns(depth.header) // 1_000_000)

    def on_restart(self) -> None:
        self.restarts += 1

    def feed(self, milliseconds: int, *indices: int) -> None:
        for index in indices or (IMAGE, CAMERA_INFO, DETECTIONS):
            message = TYPES[index]()
            message.header.stamp.sec, rest = divmod(milliseconds, 1000)
            message.header.stamp.nanosec = rest * 1_000_000
            self.inputs.add(index, message)


def test_sets_come_out_in_the_order_of_their_images() -> None:
    bench = Bench()
    for stamp in (1000, 1033, 1066):
        bench.feed(stamp)
    assert bench.images == [1000, 1033, 1066]
    assert [s.total for s in bench.monitor.status()] == [3, 3, 3, 0]


def test_an_older_image_is_not_handed_out_after_a_newer_one() -> None:
    bench = Bench()
    bench.feed(1000, IMAGE, CAMERA_INFO)
    bench.feed(1100)
    bench.feed(1000, DETECTIONS)
    bench.feed(1000)
    bench.feed(1100)
    assert bench.images == [1100]
    assert bench.restarts == 0


@pytest.mark.parametrize("order", [(IMAGE, CAMERA_INFO, DETECTIONS), (DETECTIONS, IMAGE, CAMERA_INFO)])
def test_a_bag_that_starts_again_is_followed_from_its_first_frame(order: tuple[int, ...]) -> None:
    bench = Bench()
    for stamp in range(10_000, 10_500, 100):
        bench.feed(stamp, *order)
    bench.feed(10_500, IMAGE)  # waits when the bag ends
    for stamp in range(5_000, 5_300, 100):
        bench.feed(stamp, *order)
    assert bench.images == [10_000, 10_100, 10_200, 10_300, 10_400, 5_000, 5_100, 5_200]
    assert bench.restarts == 1


def test_a_detector_whose_clock_is_far_behind_is_no_restart() -> None:
    bench = Bench()
    for stamp in range(10_000, 11_000, 100):
        bench.feed(stamp, IMAGE, CAMERA_INFO)
        bench.feed(stamp - 5_000, DETECTIONS)
    assert bench.images == []
    assert bench.restarts == 0


def test_a_message_from_the_far_future_costs_nothing_but_itself() -> None:
    bench = Bench()
    bench.feed(1000)
    bench.feed(2_000_000_000, DETECTIONS)
    for stamp in (1100, 1200):
        bench.feed(stamp)
    assert bench.images == [1000, 1200] or bench.images == [1000, 1100, 1200]


@pytest.mark.parametrize("index", [IMAGE, CAMERA_INFO, DETECTIONS, DEPTH])
@pytest.mark.parametrize(("sec", "nanosec"), [(1, 1_000_000_000), (1, 2**32 - 1), (-1, 0)])
def test_a_stamp_that_is_no_time_is_refused_before_it_is_matched(index: int, sec: int, nanosec: int) -> None:
    bench = Bench()
    message = TYPES[index]()
    message.header.stamp.sec, message.header.stamp.nanosec = sec, nanosec
    bench.inputs.add(index, message)
    bench.feed(1000)
    assert bench.images == [1000]
    name = ("image", "camera_info", "detections", "depth")[index]
    assert [str(e) for e in bench.bad] == [
        f"{name}.header.stamp: expected sec >= 0 and nanosec < 1e9, got sec={sec} nanosec={nanosec}"
    ]
    assert bench.restarts == 0


def test_the_nearest_depth_goes_with_the_set_and_none_is_waited_for() -> None:
    bench = Bench()
    for stamp in (985, 1005, 1030):
        bench.feed(stamp, DEPTH)
    bench.feed(1000)
    bench.feed(1100)
    bench.feed(1100, DEPTH)  # too late for its image
    bench.feed(1101)
    assert (bench.images, bench.depths) == ([1000, 1100, 1101], [1005, 1030, 1100])


def test_retuning_the_slop_takes_effect_at_once() -> None:
    bench = Bench()
    bench.inputs.retune(5, 0.2)
    bench.feed(1000, IMAGE, CAMERA_INFO)
    bench.feed(1150, DETECTIONS)
    assert bench.images == [1000]
