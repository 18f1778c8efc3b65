"""What the node costs besides its pipeline: the parts of `pasr overhead`, each run as a process of its own.

`node SECONDS` is pasr_node with a pipeline that takes a set time; `camera HZ BOXES` publishes 720p images with detections;
`listener FRAMES` prints, from the node's diagnostics, one line of JSON about that many frames.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import rclpy
import trimesh
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2D, Detection2DArray

from pasr_perception.config import PasrConfig
from pasr_perception.ros import node as pasr_node
from pasr_perception.ros.bag_process import ros_node
from pasr_perception.types import Detection, Frame, FrameResult, Hypothesis, ObjectEstimate, StageTimings

WIDTH, HEIGHT = 1280, 720
WARM_UP = 30  # first frames that are not counted: discovery, caches
POSE = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]])


class TimedPipeline:
    """Answers every detection with one mesh straight ahead, `seconds` after it was asked."""

    def __init__(self, seconds: float, folder: Path) -> None:
        self.config = PasrConfig()
        self._seconds = seconds
        box = trimesh.creation.box()
        box.export(folder / "box.glb")
        entry = SimpleNamespace(id="box", category="box", center=(0.0, 0.0, 0.0), extent=(1.0, 1.0, 1.0))
        self.library = SimpleNamespace(
            entries=[entry], mesh_path=lambda mesh_id: folder / f"{mesh_id}.glb", load_mesh=lambda mesh_id: box
        )

    def detect(self, frame: Frame, detections: Sequence[Detection]) -> FrameResult:
        """The answer; its one stage's time is what really passed."""
        started = time.perf_counter()
        time.sleep(self._seconds)
        hypotheses = tuple(Hypothesis("box", "box", 0.9, 0.9, POSE) for _ in range(5))
        objects = tuple(ObjectEstimate(d, hypotheses, hypotheses) for d in detections)
        return FrameResult(objects, StageTimings(encode=time.perf_counter() - started))


def run_node(seconds: float) -> int:
    """pasr_node with a TimedPipeline, until it is told to stop."""
    with tempfile.TemporaryDirectory() as folder:
        return pasr_node.main(
            ["--ros-args", "-p", f"library:={folder}", "-p", "tracking:=false"], TimedPipeline(seconds, Path(folder))
        )


def run_camera(hz: float, boxes: int) -> int:
    """Publish images, calibration and boxes at a steady pace until told to stop."""
    with ros_node("overhead_camera") as (node, stop):
        best_effort = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        publishers = (
            node.create_publisher(Image, "image", best_effort),
            node.create_publisher(CameraInfo, "camera_info", best_effort),
            node.create_publisher(Detection2DArray, "detections", 5),
        )
        messages = camera_messages(boxes)
        due = time.monotonic()
        while not stop:
            stamp = node.get_clock().now().to_msg()
            for publisher, message in zip(publishers, messages, strict=True):
                message.header.stamp = stamp
                publisher.publish(message)
            due += 1 / hz
            time.sleep(max(0.0, due - time.monotonic()))
    return 0


def camera_messages(boxes: int) -> tuple[Image, CameraInfo, Detection2DArray]:
    """One 720p frame with so many detections."""
    pixels = np.random.default_rng(0).integers(0, 255, HEIGHT * WIDTH * 3, np.uint8)
    image = Image(height=HEIGHT, width=WIDTH, step=3 * WIDTH, encoding="rgb8", data=pixels.tobytes())
    k = [900.0, 0.0, WIDTH / 2, 0.0, 900.0, HEIGHT / 2, 0.0, 0.0, 1.0]
    info = CameraInfo(height=HEIGHT, width=WIDTH, k=k, distortion_model="plumb_bob")
    array = Detection2DArray()
    for i in range(boxes):
        detection = Detection2D(id=str(i))
        detection.bbox.center.position.x, detection.bbox.center.position.y = 100.0 + 120.0 * i, 360.0
        detection.bbox.size_x = detection.bbox.size_y = 100.0
        array.detections.append(detection)
    for message in (image, info, array):
        message.header.frame_id = "camera"
    return image, info, array


class Listener:
    """Collects the node's own times of its frames."""

    def __init__(self, node: Node) -> None:
        self.frames: list[dict[str, float]] = []
        self.last: dict[str, str] = {}
        node.create_subscription(DiagnosticArray, "/diagnostics", self._received, 100)

    def _received(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {item.key: item.value for item in status.values}
            if "latency_ms/total" in values:
                self.last = values
                self.frames.append({name: float(v) for name, v in values.items() if name.startswith("latency_ms/")})


def run_listener(frames: int) -> int:
    """Print the figures of so many frames as JSON, then stop."""
    with ros_node("overhead_listener") as (node, stop):
        listener = Listener(node)
        executor = rclpy.executors.SingleThreadedExecutor(context=node.context)
        executor.add_node(node)
        while not stop and len(listener.frames) < WARM_UP + frames:
            executor.spin_once(timeout_sec=0.1)
    print(json.dumps(figures(listener.frames[WARM_UP:], listener.last)))
    return 0


def figures(frames: Sequence[dict[str, float]], counts: dict[str, str]) -> dict[str, float]:
    """Percentiles over frames: overhead = stamp to publish less the pipeline, wait = stamp to the beginning of the work."""
    overhead = np.array([f["latency_ms/stamp_to_publish"] - f["latency_ms/total"] for f in frames])
    found = {"frames": float(len(frames)), "pipeline_ms_p50": float(np.median([f["latency_ms/total"] for f in frames]))}
    columns = {"overhead": overhead}
    columns |= {n: np.array([f[f"latency_ms/{n}"] for f in frames]) for n in ("wait", "convert", "publish")}
    for name, values in columns.items():
        found |= {f"{name}_ms_p{p}": float(np.percentile(values, p)) for p in (50, 95)}
    found["wait_ms_max"] = float(columns["wait"].max())
    return found | {name: float(counts[f"frames/{name}"]) for name in ("received", "answered", "dropped", "outdated")}


if __name__ == "__main__":
    role, *numbers = sys.argv[1:]
    roles = {
        "node": run_node,
        "camera": lambda hz, boxes: run_camera(hz, int(boxes)),
        "listener": lambda n: run_listener(int(n)),
    }
    sys.exit(roles[role](*map(float, numbers)))
