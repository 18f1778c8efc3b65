"""Frames by the thousand through a node process, faults among them: memory, threads and file handles stay as they were.

`pytest -m soak` runs a hundred thousand; the suite a few thousand.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vision_msgs.msg")
pytest.importorskip("tf2_msgs.msg")

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

pytestmark = [pytest.mark.ros, pytest.mark.slow]
DOUBLE = Path(__file__).parents[1] / "support" / "double_node.py"
START_S = 120.0
ANSWER_S = 10.0
PERIOD_NS = 33_000_000
LAP = 2000  # frames before the stamps jump back
WARM_UP = 0.3  # share of the frames before anything is compared


@dataclass(frozen=True)
class Use:
    """What a process holds."""

    memory_mb: float
    threads: int
    files: int

    @classmethod
    def of(cls, pid: int) -> Use:
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        files = len(os.listdir(f"/proc/{pid}/fd"))
        return cls(int(lines["VmRSS"].split()[0]) / 1024, int(lines["Threads"]), files)


class Feeder:
    """A camera and a detector that show the next frame when the last was dealt with."""

    def __init__(self, context: Any) -> None:
        self.node = rclpy.create_node("feeder", context=context)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.image = self.node.create_publisher(Image, "image", 5)
        self.info = self.node.create_publisher(CameraInfo, "camera_info", 5)
        self.boxes = self.node.create_publisher(Detection2DArray, "detections", 5)
        self.reset = self.node.create_client(Trigger, "/pasr_node/reset_tracks")
        self.stamp_ns = 0
        self.levels: list[bytes] = []
        self.done_stamp = ""
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._said, 50)

    def _said(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith("pipeline"):
                self.levels.append(status.level)
                self.done_stamp = next(v.value for v in status.values if v.key == "frame_stamp")

    def wait(self, condition: Any, seconds: float) -> bool:
        limit = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > limit:
                return False
            self.executor.spin_once(timeout_sec=0.05)
        return True

    def show(self, number: int) -> bool:
        """One frame, every so often with a fault; whether the node dealt with it."""
        self.stamp_ns = 10**9 * 1000 + (number % LAP) * PERIOD_NS
        sec, nanosec = divmod(self.stamp_ns, 10**9)
        encoding = "nonsense" if number % 50 == 7 else "rgb8"
        image = Image(height=48, width=64, step=192, encoding=encoding, data=bytes(48 * 192))
        info = CameraInfo(height=48, width=64, k=[60.0, 0.0, 32.0, 0.0, 60.0, 24.0, 0.0, 0.0, 1.0])
        boxes = Detection2DArray()
        for i in range(4):  # the last is another object in each frame
            detection = Detection2D(id=str(i) if i < 3 else f"new {number}")
            detection.bbox.center.position.x = detection.bbox.center.position.y = 20.0
            detection.bbox.size_x = 10.0 if number % 40 or i else float("nan")
            detection.bbox.size_y = 10.0
            if number % 70 == 9:
                detection.results.append(ObjectHypothesisWithPose())
                detection.results[0].hypothesis.class_id = "fault"
            boxes.detections.append(detection)
        for message, publisher in ((image, self.image), (info, self.info), (boxes, self.boxes)):
            message.header.frame_id = "camera"
            message.header.stamp.sec, message.header.stamp.nanosec = sec, nanosec
            publisher.publish(message)
        return self.wait(lambda: self.done_stamp == str(self.stamp_ns), ANSWER_S)


@pytest.fixture
def node(environment: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (tmp_path / "node.log").open("wb") as log:
        command = [sys.executable, str(DOUBLE), "0", "0"]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        yield process
        process.terminate()
        assert process.wait(START_S) == 0


def soak(frames: int, context: Any, process: subprocess.Popen[bytes]) -> list[Use]:
    """What the node holds, looked at a hundred times during so many frames."""
    feeder = Feeder(context)
    inputs = (feeder.image, feeder.info, feeder.boxes)
    assert feeder.wait(lambda: all(p.get_subscription_count() for p in inputs), START_S)
    numbers = itertools.count(1)
    assert feeder.wait(lambda: feeder.show(next(numbers)), START_S)
    uses, missed = [], 0
    for number in range(frames):
        missed += not feeder.show(number)
        if number % max(frames // 100, 1) == 0:
            uses.append(Use.of(process.pid))
            feeder.reset.call_async(Trigger.Request())
    assert missed <= frames * 1e-3, f"{missed} of {frames} frames were not dealt with"
    assert {bytes(level) for level in feeder.levels} == {b"\x00", b"\x01", b"\x02"}  # all kinds were met
    feeder.node.destroy_node()
    return uses


def check(uses: list[Use], allowed_mb: float) -> None:
    kept = uses[int(len(uses) * WARM_UP) :]
    third = len(kept) // 3
    before, after = kept[:third], kept[-third:]
    growth = sum(u.memory_mb for u in after) / third - sum(u.memory_mb for u in before) / third
    print(
        f"memory {kept[0].memory_mb:.1f} to {kept[-1].memory_mb:.1f} MB, {kept[-1].threads} threads, {kept[-1].files} files"
    )
    assert growth < allowed_mb, [round(u.memory_mb, 1) for u in uses]
    assert max(u.threads for u in after) <= max(u.threads for u in before)
    assert max(u.files for u in after) <= max(u.files for u in before)


def test_three_thousand_frames(ros: Any, node: subprocess.Popen[bytes]) -> None:
    check(soak(3_000, ros, node), allowed_mb=8)


@pytest.fixture
def asked(pytestconfig: pytest.Config) -> None:
    """Skips before a node is started."""
    if "soak" not in (pytestconfig.option.markexpr or ""):
        pytest.skip("only with -m soak")


@pytest.mark.soak
def test_a_hundred_thousand_frames(asked: None, ros: Any, node: subprocess.Popen[bytes]) -> None:
    check(soak(100_000, ros, node), allowed_mb=8)
