"""SIGINT and SIGTERM at any moment of a node process: it ends soon, with status 0 once it is up, and without a traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vision_msgs.msg")
pytest.importorskip("tf2_msgs.msg")

import rclpy
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2DArray

pytestmark = [pytest.mark.ros, pytest.mark.slow]
SUPPORT = Path(__file__).parents[1] / "support"
PATIENCE_S = 120.0


def _interruptible() -> None:
    """Undo what a shell does to what it starts in the background: such a child would ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Process:
    """The double of the node, and what it said."""

    def __init__(self, environment: dict[str, str], script: str, *arguments: object) -> None:
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in close)
        command = [sys.executable, str(SUPPORT / script), *map(str, arguments)]
        self.child = subprocess.Popen(
            command, env=environment, stdout=self._output, stderr=subprocess.STDOUT, preexec_fn=_interruptible
        )

    def said(self) -> str:
        self._output.seek(0)
        return self._output.read()

    def wait_for(self, text: str, meanwhile: Callable[[], Any] = lambda: time.sleep(0.05)) -> None:
        limit = time.monotonic() + PATIENCE_S
        while text not in self.said():
            assert self.child.poll() is None, self.said()
            assert time.monotonic() < limit, self.said()
            meanwhile()

    def close(self) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        self._output.close()


@pytest.fixture
def run(environment: dict[str, str]) -> Iterator[Callable[..., Process]]:
    processes: list[Process] = []

    def make(load_s: float = 0.0, frame_s: float = 0.0, script: str = "double_node.py") -> Process:
        processes.append(Process(environment, script, load_s, frame_s))
        return processes[-1]

    yield make
    for process in processes:
        process.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after_s", [0.3, 0.7, 1.2])
def test_while_it_imports(run: Callable[..., Process], number: int, after_s: float) -> None:
    process = run(2.0)
    time.sleep(after_s)
    process.child.send_signal(number)
    status = process.child.wait(PATIENCE_S)
    assert status in (-number, 0), process.said()  # 0: it was that fast, and loading already
    assert "Traceback" not in process.said()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_it_loads(run: Callable[..., Process], number: int) -> None:
    process = run(2.0)
    process.wait_for("double: loading")
    process.child.send_signal(number)
    assert process.child.wait(PATIENCE_S) == 0, process.said()
    assert "Traceback" not in process.said()
    assert "waiting for images" not in process.said()


def test_while_it_loads_and_what_is_loaded_makes_another_error_of_it(run: Callable[..., Process]) -> None:
    process = run(script="interrupted_node.py")
    process.wait_for("double: loading")
    process.child.send_signal(signal.SIGINT)
    assert process.child.wait(PATIENCE_S) == 0, process.said()
    assert "Traceback" not in process.said()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_it_waits(run: Callable[..., Process], number: int) -> None:
    process = run()
    process.wait_for("waiting for images")
    process.child.send_signal(number)
    assert process.child.wait(PATIENCE_S) == 0, process.said()
    assert "Traceback" not in process.said()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_it_works_on_a_frame(run: Callable[..., Process], ros: Any, number: int) -> None:
    process = run(0.0, 1.5)
    process.wait_for("waiting for images")
    camera = rclpy.create_node("camera", context=ros)
    show = _camera(camera)
    process.wait_for("double: frame", meanwhile=show)
    process.child.send_signal(number)
    assert process.child.wait(PATIENCE_S) == 0, process.said()
    assert "Traceback" not in process.said()
    camera.destroy_node()


def _camera(node: Node) -> Callable[[], None]:
    publishers = [
        (kind, node.create_publisher(kind, topic, 5))
        for kind, topic in ((Image, "image"), (CameraInfo, "camera_info"), (Detection2DArray, "detections"))
    ]

    def show() -> None:
        stamp = node.get_clock().now().to_msg()
        for kind, publisher in publishers:
            message = kind()
            if kind is Image:
                message = Image(height=48, width=64, step=192, encoding="rgb8", data=bytes(48 * 192))
            elif kind is CameraInfo:
                message = CameraInfo(height=48, width=64, k=[60.0, 0.0, 32.0, 0.0, 60.0, 24.0, 0.0, 0.0, 1.0])
            message.header.stamp, message.header.frame_id = stamp, "camera"
            publisher.publish(message)
        time.sleep(0.1)

    return show
