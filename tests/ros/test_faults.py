"""What goes wrong around a running node: each fault with its message, its level in /diagnostics, and the recovery.

docs/reliability.md lists these tests; tests/contract/test_reliability.py holds the two together.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vision_msgs.msg")
pytest.importorskip("tf2_msgs.msg")

import torch
from diagnostic_msgs.msg import DiagnosticStatus
from robot import WAIT_S, FixedPipeline, Robot, known_answer
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from pasr_perception.crop import CropSpec, crop_detections
from pasr_perception.library.store import LibraryError
from pasr_perception.types import Detection, Frame, FrameResult

pytestmark = pytest.mark.ros
SPEC = CropSpec(32, 0.8)
K = [60.0, 0.0, 32.0, 0.0, 60.0, 24.0, 0.0, 0.0, 1.0]


def cropped_answer(frame: Frame, detections: list[Detection]) -> FrameResult:
    """Known poses for the boxes that the crop stage takes; the reasons for the others."""
    crops, rejected = crop_detections(frame, detections, SPEC)
    result = known_answer(frame, [c.detection for c in crops])
    return FrameResult(result.objects, result.timings, tuple(rejected))


def recovers(robot: Robot, stamp_s: int) -> DiagnosticStatus:
    """Show a good frame and return what /diagnostics says of it."""
    robot.show(stamp_s)
    said = f"{stamp_s}000000000"
    robot.wait(lambda: any(_stamp(s) == said for s in robot.statuses("pipeline")))
    robot.wait(lambda: bool(robot.got["objects"]) and robot.got["objects"][-1].header.stamp.sec == stamp_s)
    return robot.statuses("pipeline")[-1]


def _stamp(status: DiagnosticStatus) -> str:
    return next((v.value for v in status.values if v.key == "frame_stamp"), "")


def log_of(capfd: pytest.CaptureFixture[str]) -> str:
    return "".join(capfd.readouterr())


# --- messages that cannot be used: one precise line, ERROR, nothing in TF, the next frame is answered ---

BAD_IMAGES = {
    "unknown_encoding": ({"encoding": "32FC3"}, "image.encoding: expected one of rgb8", "'32FC3'"),
    "empty_frame_id": ({"frame_id": ""}, "image.header.frame_id: expected the name of the camera's optical", "''"),
    "wrong_step": ({"step": 100}, "image.step: expected at least 192 bytes for 64 rgb8 pixels", "100"),
    "wrong_size": ({"data": bytes(100)}, "image.data: expected step*height = 9216 bytes", "100"),
    "no_pixels": ({"width": 0}, "image size: expected 1 to 100000000 pixels", "0x48"),
    "other_size_than_camera": ({"height": 24, "data": bytes(24 * 192)}, "image size: expected camera_info's", "64x24"),
}
BAD_CAMERAS = {
    "zero_K": ({"k": [0.0] * 9}, "camera_info.k: expected a calibrated camera", "all zeros"),
    "nan_K": ({"k": [math.nan, *K[1:]]}, "camera_info.k: expected finite numbers", "nan"),
    "infinite_K": ({"k": [math.inf, *K[1:]]}, "camera_info.k: expected finite numbers", "inf"),
    "nan_distortion": ({"d": [math.nan] * 5}, "camera_info.d: expected finite numbers", "nan"),
    "wrong_distortion_length": ({"d": [0.1] * 3}, "camera_info.d: expected 4 or 5 numbers for plumb_bob", "3"),
    "no_size": ({"width": 0}, "camera_info size: expected a positive size", "0x48"),
}


@pytest.mark.parametrize("fault", [*BAD_IMAGES, *BAD_CAMERAS])
def test_a_message_that_cannot_be_used(
    start: Callable[..., Robot], capfd: pytest.CaptureFixture[str], fault: str
) -> None:
    robot = start()
    changes, expected, got = (BAD_IMAGES | BAD_CAMERAS)[fault]
    for second in (5, 6, 7):
        if fault in BAD_IMAGES:
            robot.show(second, **changes)
        else:
            robot.show(second, camera=changes)
        robot.wait(lambda n=second - 4: len(robot.statuses("pipeline")) == n)
    for status in robot.statuses("pipeline"):
        assert status.level == DiagnosticStatus.ERROR
        assert expected in status.message
        assert got in status.message
    log = log_of(capfd)
    assert log.count(expected) == 1  # throttled
    assert recovers(robot, 8).level == DiagnosticStatus.OK
    robot.wait(lambda: bool(robot.got["tf"]))
    assert [m.transforms[0].header.stamp.sec for m in robot.got["tf"]] == [8]


BAD_BOXES = {
    "nan": ({"x": math.nan}, "detection.bbox: expected finite numbers"),
    "infinite": ({"w": math.inf}, "detection.bbox: expected finite numbers"),
    "zero_size": ({"w": 0.0}, "detection.bbox: expected a size above 0"),
    "negative_size": ({"w": -5.0}, "detection.bbox: expected a size above 0"),
    "outside": ({"x": 500.0}, "lies outside the 64 x 48 image"),
    "too_small": ({"w": 1.0}, "shows 1.0 x 10.0 pixels of the image, expected 4 or more each way"),
}


@pytest.mark.parametrize("fault", BAD_BOXES)
def test_a_box_that_cannot_be_used_costs_only_itself(
    start: Callable[..., Robot], capfd: pytest.CaptureFixture[str], fault: str
) -> None:
    robot = start(FixedPipeline(cropped_answer))
    changes, expected = BAD_BOXES[fault]
    for second in (5, 6):
        robot.show(second, boxes=2, ids=("good", "bad"), second_box=changes)
        robot.wait(lambda n=second - 4: len(robot.statuses("pipeline")) == n and len(robot.got["tf"]) == n)
    status = robot.statuses("pipeline")[0]
    assert (status.level, expected in status.message) == (DiagnosticStatus.WARN, True)
    assert [d.id for d in robot.got["objects"][0].detections] == ["good"]
    assert {t.child_frame_id for m in robot.got["tf"] for t in m.transforms} == {"mug_good"}
    assert log_of(capfd).count(expected) == 1
    assert recovers(robot, 7).level == DiagnosticStatus.OK


def test_a_stamp_that_is_no_time(start: Callable[..., Robot], capfd: pytest.CaptureFixture[str]) -> None:
    robot = start()
    for message, publisher in (
        (Image(), robot.images),
        (CameraInfo(), robot.infos),
        (Detection2DArray(), robot.detections),
    ):
        message.header = Header(frame_id="camera")
        message.header.stamp.nanosec = 1_000_000_000
        publisher.publish(message)
    robot.wait(lambda: robot.node.diagnostics.counts["frames/rejected"] == 3)
    log = log_of(capfd)
    for name in ("image", "camera_info", "detections"):
        assert log.count(f"{name}.header.stamp: expected sec >= 0 and nanosec < 1e9, got sec=0 nanosec=1000000000") == 1
    assert recovers(robot, 5).level == DiagnosticStatus.OK


# --- depth: whatever is wrong with it, the frame is answered without ---

BAD_DEPTHS = {
    "absent": (None, "depth: expected a depth image with every image, got none so far"),
    "stale": ({"age_s": 1}, "depth.header.stamp: expected less than 0.02 s from the image's, got 1.000 s"),
    "other_size": ({"height": 24}, "depth size: expected the image's 64x48, got 64x24"),
    "other_frame": ({"frame_id": "lidar"}, "depth.header.frame_id: expected the image's 'camera', got 'lidar'"),
    "unknown_encoding": ({"encoding": "8UC1"}, "depth.encoding: expected 32FC1 (metres) or 16UC1 (millimetres)"),
}


def show_depth(robot: Robot, stamp_s: int, age_s: int = 0, frame_id: str = "camera", **changes: Any) -> None:
    message = Image(**{"height": 48, "width": 64, "step": 128, "encoding": "16UC1", **changes})
    message.data = np.full((message.height, 64), 1500, np.uint16).tobytes()
    message.header.frame_id, message.header.stamp.sec = frame_id, stamp_s - age_s
    received = robot.node.diagnostics.monitor.status()[3].total
    robot.depths.publish(message)
    robot.wait(lambda: robot.node.diagnostics.monitor.status()[3].total > received)


@pytest.mark.parametrize("fault", BAD_DEPTHS)
def test_depth_that_cannot_be_used_degrades_to_colour(
    start: Callable[..., Robot], capfd: pytest.CaptureFixture[str], fault: str
) -> None:
    pipeline = FixedPipeline()
    robot = start(pipeline, use_depth=True)
    changes, expected = BAD_DEPTHS[fault]
    if changes is not None:
        show_depth(robot, 5, **changes)
    robot.show(5)
    robot.wait(lambda: robot.answered(1) and len(robot.statuses("pipeline")) == 1)
    status = robot.statuses("pipeline")[0]
    assert (status.level, f"without depth: {expected}" in status.message) == (DiagnosticStatus.WARN, True)
    assert pipeline.frames[0].depth is None
    assert f"{expected}" in log_of(capfd)
    show_depth(robot, 6)
    assert recovers(robot, 6).level == DiagnosticStatus.OK
    np.testing.assert_allclose(pipeline.frames[1].depth.metres, 1.5)


# --- faults of the work itself ---


def test_an_exception_in_the_worker(start: Callable[..., Robot], capfd: pytest.CaptureFixture[str]) -> None:
    def answer(frame: Frame, detections: list[Detection]) -> FrameResult:
        if frame.stamp_ns == 5_000_000_000:
            raise ZeroDivisionError("of all things")
        return known_answer(frame, detections)

    robot = start(FixedPipeline(answer))
    robot.show(5)
    robot.wait(lambda: bool(robot.statuses("pipeline")))
    status = robot.statuses("pipeline")[0]
    assert (status.level, status.message) == (DiagnosticStatus.ERROR, "ZeroDivisionError: of all things")
    log = log_of(capfd)
    assert "[WARN]" in log
    assert "Traceback" in log  # where it happened
    assert recovers(robot, 6).level == DiagnosticStatus.OK


def test_the_gpu_runs_out_of_memory(start: Callable[..., Robot], capfd: pytest.CaptureFixture[str]) -> None:
    room = [1]

    def answer(frame: Frame, detections: list[Detection]) -> FrameResult:
        if len(detections) > room[0]:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return known_answer(frame, detections)

    robot = start(FixedPipeline(answer))
    robot.node._processor._answers._parts._patience = 1
    robot.show(5, boxes=4)
    robot.wait(lambda: robot.answered(1) and bool(robot.statuses("pipeline")))
    assert [d.id for d in robot.got["objects"][0].detections] == ["0", "1", "2", "3"]
    status = robot.statuses("pipeline")[0]
    assert (status.level, "short of memory: 1 objects at a time" in status.message) == (DiagnosticStatus.WARN, True)
    log = log_of(capfd)
    assert "no memory for 4 objects at once, going on with 2 (CUDA out of memory. Tried to allocate 2.00 GiB.)" in log
    room[0] = 4
    for second in (6, 7, 8, 9):
        robot.show(second, boxes=4)
        robot.wait(lambda n=second - 4: len(robot.statuses("pipeline")) == n)
    assert robot.statuses("pipeline")[-1].level == DiagnosticStatus.OK


def test_a_library_cut_short_while_in_use(start: Callable[..., Robot], capfd: pytest.CaptureFixture[str]) -> None:
    from std_srvs.srv import Trigger

    broken = [False]

    def answer(frame: Frame, detections: list[Detection]) -> FrameResult:
        if broken[0]:
            raise LibraryError("/lib/data/mug.safetensors: expected 12 bytes, got 3: cut short while in use")
        return known_answer(frame, detections)

    class Library(FixedPipeline):
        def reopened(self, library_dir: Any) -> FixedPipeline:
            if broken[0]:
                raise LibraryError("/lib/data/mug.safetensors: expected 12 bytes, got 3")
            return Library(answer)

    robot = start(Library(answer))
    broken[0] = True
    robot.show(5)
    robot.wait(lambda: bool(robot.statuses("pipeline")))
    status = robot.statuses("pipeline")[0]
    assert (status.level, "cut short while in use" in status.message) == (DiagnosticStatus.ERROR, True)
    assert not robot.call(Trigger, "reload_library").success
    broken[0] = False  # the file is put back
    assert robot.call(Trigger, "reload_library").success
    assert recovers(robot, 6).level == DiagnosticStatus.OK
    assert "LibraryError: /lib/data/mug.safetensors: expected 12 bytes, got 3" in log_of(capfd)


def test_the_work_on_one_frame_stalls(start: Callable[..., Robot], capfd: pytest.CaptureFixture[str]) -> None:
    go = threading.Event()

    def answer(frame: Frame, detections: list[Detection]) -> FrameResult:
        if frame.stamp_ns == 5_000_000_000:
            assert go.wait(WAIT_S)
        return known_answer(frame, detections)

    robot = start(FixedPipeline(answer), input_patience_s=0.5)
    robot.show(5)
    robot.wait(lambda: any("the frame under way takes" in s.message for s in robot.statuses("input")))
    assert robot.statuses("input")[-1].level == DiagnosticStatus.WARN
    for second in (6, 7):  # meanwhile
        robot.show(second)
        robot.wait(lambda n=second - 4: robot.node.diagnostics.counts["frames/received"] == n)
    go.set()
    robot.wait(lambda: robot.answered(2))
    assert [o.header.stamp.sec for o in robot.got["objects"]] == [5, 7]  # the newest, not the queue
    assert "the frame under way takes" in log_of(capfd)
    robot.got["diagnostics"].clear()
    assert recovers(robot, 8).level == DiagnosticStatus.OK


# --- faults of the inputs ---


def test_the_detector_dies_and_returns(start: Callable[..., Robot], capfd: pytest.CaptureFixture[str]) -> None:
    robot = start(input_patience_s=0.5)
    assert recovers(robot, 5).level == DiagnosticStatus.OK
    stamp = [5.0]

    def camera_alone() -> bool:
        stamp[0] += 0.02
        whole, part = divmod(round(stamp[0] * 1000), 1000)
        for message, publisher in ((Image(), robot.images), (CameraInfo(), robot.infos)):
            message.header.stamp.sec, message.header.stamp.nanosec = whole, part * 1_000_000
            publisher.publish(message)
        return any("nothing came on /detections for" in s.message for s in robot.statuses("input"))

    robot.wait(camera_alone)
    status = robot.statuses("input")[-1]
    assert status.level == DiagnosticStatus.WARN
    assert "/image" in status.message
    assert " Hz)" in status.message
    assert log_of(capfd).count("nothing came on /detections") == 1
    robot.got["diagnostics"].clear()
    back = int(stamp[0]) + 1
    assert recovers(robot, back).level == DiagnosticStatus.OK

    def fine() -> bool:
        robot.show(back + 1 + len(robot.statuses("input")))
        return any(s.level == DiagnosticStatus.OK for s in robot.statuses("input"))

    robot.wait(fine)


def test_stamps_that_never_match(start: Callable[..., Robot], capfd: pytest.CaptureFixture[str]) -> None:
    robot = start(input_patience_s=0.5)
    second = [5]

    def taken() -> list[int]:
        return [topic.total for topic in robot.node.diagnostics.monitor.status()]

    def apart() -> bool:
        if min(taken()) == second[0] - 5:  # all of the last set: what is left in the queues would be of older ones
            second[0] += 1
            robot.show(second[0], detections_late_s=3.5)
        return any("stamps do not match for" in s.message for s in robot.statuses("input"))

    robot.wait(apart)
    status = next(s for s in robot.statuses("input") if "stamps do not match" in s.message)
    assert status.level == DiagnosticStatus.WARN
    assert re.search(r"the newest stamps lie [234]\.500 s apart", status.message)
    assert robot.got["objects"] == []
    assert "stamps do not match for" in log_of(capfd)


def test_all_inputs_stall_for_five_seconds(start: Callable[..., Robot]) -> None:
    robot = start()
    assert recovers(robot, 5).level == DiagnosticStatus.OK
    said = r"nothing came on /image, /camera_info, /detections for (\d+\.\d) s"

    def silences() -> list[float]:
        found = (re.search(said, s.message) for s in robot.statuses("input") if s.level == DiagnosticStatus.WARN)
        return [float(match[1]) for match in found if match]

    robot.wait(lambda: max(silences(), default=0.0) >= 5.0)
    assert min(silences()) < 5.0
    assert recovers(robot, 10).level == DiagnosticStatus.OK


def test_the_clock_jumps_back(start: Callable[..., Robot], capfd: pytest.CaptureFixture[str]) -> None:
    robot = start()
    for second in (100, 101, 102):
        assert recovers(robot, second).level == DiagnosticStatus.OK
    for second in (50, 51):  # the bag starts again
        assert recovers(robot, second).level == DiagnosticStatus.OK
    robot.wait(lambda: len(robot.got["tf"]) == 5)
    assert [m.transforms[0].header.stamp.sec for m in robot.got["tf"]] == [100, 101, 102, 50, 51]
    assert log_of(capfd).count("stamps jumped back (a bag that starts again?): starting afresh") == 1
