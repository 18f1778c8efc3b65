"""The player and the recorder as separate processes over DDS, and their behaviour on signals."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vision_msgs.msg")

import rclpy
from vision_msgs.msg import Detection2DArray

from pasr_perception.data.bagio import BagError, BagReader, BagWriter, read_frames, read_published, write_frames
from pasr_perception.data.records import BagFrame, Truth
from pasr_perception.ros import bag_record
from pasr_perception.ros.bag_process import Stop
from pasr_perception.types import Camera, Detection, Frame

pytestmark = pytest.mark.ros

RUN = [
    sys.executable,
    "-c",
    "import logging; logging.basicConfig(level=logging.INFO)\nfrom pasr_perception.cli.bag import bag_app; bag_app()",
]
TOPICS = ["/camera/image_raw", "/camera/camera_info", "/detections", "/ground_truth/objects", "/ground_truth/boxes"]
START = 10**18
PERIOD = 100_000_000
PATIENCE = 120
IDLE = "5"  # s, far above any pause of a player on a busy machine


def bag_frame(number: int) -> BagFrame:
    image = np.random.default_rng(number).integers(0, 255, (48, 64, 3), np.uint8)
    K = np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]])
    box = np.array([number, 2.0, 20, 30])
    T = np.eye(4)
    T[:3, 3] = [0.1 * number, 0, 1]
    frame = Frame(image, Camera(64, 48, K), START + number * PERIOD, "cam")
    return BagFrame(frame, (Detection(box, id="a"),), (Truth("a", "mug", T, box, 0.5),))


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    write_frames(tmp_path / "bag", (bag_frame(i) for i in range(6)))
    return tmp_path / "bag"


class Process:
    """A `pasr bag` command as a child process."""

    def __init__(self, environment: dict[str, str], *arguments: str) -> None:
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in __exit__)
        self._child = subprocess.Popen(
            [*RUN, *arguments], env=environment, stdout=self._output, stderr=subprocess.STDOUT, text=True
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()
        self._output.close()

    def output(self) -> str:
        self._output.seek(0)
        return self._output.read()

    def wait_for(self, text: str) -> None:
        """Until the process has said `text`."""
        limit = time.monotonic() + PATIENCE
        while text not in self.output():
            assert self._child.poll() is None, self.output()
            assert time.monotonic() < limit, f"{text!r} never came: {self.output()}"
            time.sleep(0.1)

    def end(self, number: int) -> None:
        self._child.send_signal(number)

    def finish(self) -> tuple[int, str]:
        self._child.wait(timeout=PATIENCE)
        return self._child.returncode, self.output()


def test_what_is_played_is_what_is_recorded(bag, tmp_path, environment):
    recorder = Process(environment, "record", "-o", str(tmp_path / "rec"), *TOPICS, "/clock", "--idle", IDLE)
    player = Process(environment, "play", str(bag), "--clock", "--wait", str(PATIENCE))
    with recorder, player:
        code, output = player.finish()
        assert code == 0, output
        assert "30 messages" in output
        code, output = recorder.finish()
        assert code == 0, output
    found, given = list(read_frames(tmp_path / "rec")), list(read_frames(bag))
    assert len(found) == 6
    for a, b in zip(found, given, strict=True):
        assert a.frame.stamp_ns == b.frame.stamp_ns
        np.testing.assert_array_equal(a.frame.image, b.frame.image)
        np.testing.assert_array_equal(a.detections[0].box, b.detections[0].box)
        np.testing.assert_array_equal(a.truths[0].T_cam_obj, b.truths[0].T_cam_obj)
    with BagReader(tmp_path / "rec") as reader:
        clock = [m.clock.sec * 10**9 + m.clock.nanosec for _, m in reader.messages(["/clock"])]
    assert min(clock) >= START
    assert max(clock) <= START + 5 * PERIOD
    assert (np.diff(clock) >= 0).all()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_both_with_a_complete_bag(bag, tmp_path, environment, number):
    recorder = Process(environment, "record", "-o", str(tmp_path / "rec"), *TOPICS)
    player = Process(environment, "play", str(bag), "--loop", "--wait", str(PATIENCE))
    with recorder, player:
        player.wait_for("playing")
        recorder.wait_for("the first message came on /detections")
        player.end(number)
        code, output = player.finish()
        assert code == 0, output
        recorder.end(number)
        code, output = recorder.finish()
        assert code == 0, output
    with BagReader(tmp_path / "rec") as reader:
        assert Counter(m.topic for m in reader.raw())["/detections"] > 0


def test_hold_waits_for_the_answer_to_every_frame(bag, tmp_path, environment):
    # the answering node: the boxes of the frame come back 0.3 s later as objects, one by one, newest only; the timer wakes rclpy,
    # which may sleep through a SIGTERM that comes just before it waits
    answer = (
        "import time, rclpy\n"
        "from rclpy.qos import QoSProfile\n"
        "from vision_msgs.msg import Detection2DArray, Detection3DArray\n"
        "rclpy.init()\n"
        "node = rclpy.create_node('slow')\n"
        "out = node.create_publisher(Detection3DArray, '/pasr_node/objects', 10)\n"
        "def work(m):\n"
        "    time.sleep(0.3)\n"
        "    out.publish(Detection3DArray(header=m.header))\n"
        "node.create_subscription(Detection2DArray, '/detections', work, QoSProfile(depth=1))\n"
        "node.create_timer(0.1, lambda: None)\n"
        "rclpy.spin(node)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", answer], env=environment, stderr=subprocess.DEVNULL)
    recorder = Process(environment, "record", "-o", str(tmp_path / "rec"), "/pasr_node/objects", "--idle", IDLE)
    try:
        with recorder:
            recorder.wait_for("recording /pasr_node/objects")
            player = Process(environment, "play", str(bag), "--topic", "/detections", "--rate", "100",
                             "--hold", "/pasr_node/objects", "--wait", str(PATIENCE))  # fmt: skip
            with player:
                code, output = player.finish()
                assert code == 0, output
                code, output = recorder.finish()
                assert code == 0, output
    finally:
        child.terminate()
        child.wait()  # until it has left the graph, in which the next test must not meet it
    assert [p.stamp_ns for p in read_published(tmp_path / "rec")] == [START + i * PERIOD for i in range(6)]


def test_nobody_listening_and_unknown_topics_are_said(bag, environment):
    with Process(environment, "play", str(bag), "--wait", "1") as player:
        code, output = player.finish()
    assert code == 1
    assert "nobody is there for /camera/camera_info, /camera/image_raw, /detections" in " ".join(output.split())
    with Process(environment, "play", str(bag), "--topic", "/nothing") as player:
        code, output = player.finish()
    assert code == 1
    assert "no topic /nothing" in output


def test_a_disk_that_fills_up_ends_the_recording_with_a_complete_bag(bag, tmp_path, ros, monkeypatch, caplog):
    free = [10**12]
    monkeypatch.setattr(bag_record.shutil, "disk_usage", lambda path: SimpleNamespace(free=free[0]))
    node = rclpy.create_node("recorder", context=ros)
    publisher = node.create_publisher(Detection2DArray, "/detections", 10)
    with BagWriter(tmp_path / "rec") as writer:
        recorder = bag_record.BagRecorder(node, ["/detections"], writer)

        def publish():
            publisher.publish(Detection2DArray())
            if recorder.counts["/detections"] >= 5:
                free[0] = 10**6

        node.create_timer(0.05, publish)
        recorder.run(bag_record.RecordOptions(duration_s=PATIENCE), Stop())
    node.destroy_node()
    assert "the disk is nearly full (0 MB left): recording ends here" in caplog.text
    with BagReader(tmp_path / "rec") as reader:
        assert len(list(reader.raw())) == recorder.counts["/detections"] >= 5


def test_a_write_that_fails_ends_the_recording_and_keeps_what_was_there(bag, ros, monkeypatch):
    def full(self, message):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(BagWriter, "write_raw", full)
    node = rclpy.create_node("recorder", context=ros)
    publisher = node.create_publisher(Detection2DArray, "/detections", 10)
    node.create_timer(0.05, lambda: publisher.publish(Detection2DArray()))
    told = r"bag: cannot be written \(No space left on device\); what was there before is kept"
    with pytest.raises(BagError, match=told), BagWriter(bag, overwrite=True) as writer:
        bag_record.BagRecorder(node, ["/detections"], writer).run(bag_record.RecordOptions(PATIENCE), Stop())
    node.destroy_node()
    with BagReader(bag) as reader:
        assert len(list(reader.raw())) == 30
    assert [p.name for p in bag.parent.iterdir()] == ["bag"]


def test_what_waits_after_a_stall_is_recorded_before_silence_ends_it(tmp_path, ros, monkeypatch):
    now, waiting, written = [0.0], [b"1", b"2", b"3"], []
    monkeypatch.setattr(bag_record.time, "monotonic", lambda: now[0])
    node = rclpy.create_node("recorder", context=ros)
    writer = SimpleNamespace(path=tmp_path / "rec", write_raw=lambda message: written.append(message.data))
    recorder = bag_record.BagRecorder(node, ["/detections"], writer)

    def spin_once(timeout_sec):
        now[0] += 60.0  # the process stood still for so long
        if waiting:
            recorder._received("/detections", "vision_msgs/msg/Detection2DArray", waiting.pop(0))

    recorder._executor = SimpleNamespace(spin_once=spin_once)
    recorder.run(bag_record.RecordOptions(idle_s=5.0), Stop())
    node.destroy_node()
    assert written == [b"1", b"2", b"3"]


def test_recording_nothing_still_makes_a_bag(tmp_path, environment):
    with Process(environment, "record", "-o", str(tmp_path / "rec"), "/nothing", "--duration", "1") as recorder:
        code, output = recorder.finish()
    assert code == 0, output
    assert "no message came" in output
    with BagReader(tmp_path / "rec") as reader:
        assert list(reader.raw()) == []
