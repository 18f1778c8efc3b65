"""Complete sets out of single messages: no old after new, a fresh start when the clock jumps back."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vision_msgs.msg")

from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2DArray

from pasr_perception.ros.convert import stamp_to_ns
from pasr_perception.ros.inputs import CAMERA_INFO, DETECTIONS, IMAGE, InputSet, SynchronisedInputs
from pasr_perception.ros.sync import InputMonitor

pytestmark = pytest.mark.ros
TYPES = {IMAGE: Image, CAMERA_INFO: CameraInfo, DETECTIONS: Detection2DArray}


class Bench:
    """Inputs under test, and the stamps in milliseconds of the images that came out."""

    def __init__(self) -> None:
        self.images: list[int] = []
        self.restarts = 0
        self.monitor = InputMonitor(["image", "camera_info", "detections"])
        self.inputs = SynchronisedInputs(self.monitor, self.on_set, self.on_restart, queue=5, slop_s=0.02)

    def on_set(self, inputs: InputSet) -> None:
        self.images.append(stamp_to_ns(inputs.image.header) // 1_000_000)

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
    assert [s.total for s in bench.monitor.status()] == [3, 3, 3]


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
