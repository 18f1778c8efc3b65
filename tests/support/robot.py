"""The rest of a robot for tests of the node: a camera, a detector, ears, and a pipeline whose answers are known."""

from __future__ import annotations

import time
from collections.abc import Callable, MutableSequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import rclpy
import trimesh
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2D, Detection2DArray, Detection3DArray, VisionInfo
from visualization_msgs.msg import MarkerArray

from pasr_perception.config import PasrConfig
from pasr_perception.types import Detection, Frame, FrameResult, Hypothesis, ObjectEstimate, StageTimings

WAIT_S = 120.0  # far beyond what anything takes: it is only waited for where something is broken
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
OUTPUTS = {
    "objects": (Detection3DArray, "/pasr_node/objects", 10),
    "tf": (TFMessage, "/tf", 100),
    "markers": (MarkerArray, "/pasr_node/markers", 10),
    "diagnostics": (DiagnosticArray, "/diagnostics", 10),
    "info": (VisionInfo, "/pasr_node/vision_info", LATCHED),
}

SHOW_AS = ("frame_id", "camera", "second_box", "detections_late_s")
MESH_ID, EXTENT, CENTER = "mug", (0.2, 0.1, 0.3), (0.01, 0.02, 0.03)


class FixedPipeline:
    """Answers every detection with one known mesh and pose, or with what `answer` returns or raises."""

    def __init__(self, answer: Callable[[Frame, list[Detection]], FrameResult] | None = None) -> None:
        entry = SimpleNamespace(id=MESH_ID, category="cup", center=CENTER, extent=EXTENT)
        self.library = SimpleNamespace(
            entries=[entry],
            mesh_path=lambda mesh_id: Path("/somewhere") / "meshes" / f"{mesh_id}.glb",
            load_mesh=lambda mesh_id: trimesh.creation.box(EXTENT),
        )
        self.answer = answer or known_answer
        self.frames: MutableSequence[Frame] = []
        self.config = PasrConfig()

    def detect(self, frame: Frame, detections: list[Detection]) -> FrameResult:
        self.frames.append(frame)
        return self.answer(frame, detections)


def known_pose() -> np.ndarray:
    """[4, 4]: a quarter turn about z, at (0.1, 0.2, 1.5) m."""
    T = np.eye(4)
    T[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    T[:3, 3] = [0.1, 0.2, 1.5]
    return T


def hypothesis(T: np.ndarray | None = None, score: float = 0.8) -> Hypothesis:
    return Hypothesis(MESH_ID, "cup", score, 0.9, known_pose() if T is None else T)


def known_answer(frame: Frame, detections: list[Detection]) -> FrameResult:
    guess = known_pose()
    guess[2, 3] = 2.0
    objects = tuple(ObjectEstimate(d, (hypothesis(),), (hypothesis(guess, 0.4),)) for d in detections)
    return FrameResult(objects, StageTimings(crop=0.001, encode=0.02, coarse=0.003, refine=0.004))


def spin_until(
    executor: SingleThreadedExecutor, condition: Callable[[], bool], so_far: Callable[[], str] = lambda: "nothing"
) -> None:
    """Let callbacks run until the condition is met. AssertionError with what there is `so_far` if it never is."""
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, f"{so_far()}; waited for more in vain for {WAIT_S} s"
        executor.spin_once(timeout_sec=0.02)


class Robot:
    """The rest of the robot: publishes a camera and a detector, collects what the node says."""

    def __init__(self, context: Any, node: Any, prefix: str = "") -> None:
        self.node, self.prefix = node, prefix
        self.helper = rclpy.create_node("robot", context=context)
        self.executor = SingleThreadedExecutor(context=context)
        for member in (self.helper, node):
            self.executor.add_node(member)
        raw = node.get_parameter("image_transport").value == "raw"
        image_type, image_topic = (Image, "/image") if raw else (CompressedImage, "/image/compressed")
        self.images = self.helper.create_publisher(image_type, prefix + image_topic, 5)
        self.infos = self.helper.create_publisher(CameraInfo, f"{prefix}/camera_info", 5)
        self.detections = self.helper.create_publisher(Detection2DArray, f"{prefix}/detections", 5)
        self.depths = self.helper.create_publisher(Image, f"{prefix}/depth", 5)
        self.got: dict[str, list[Any]] = {}
        self._ears: list[Subscription] = []
        for name, (kind, topic, qos) in OUTPUTS.items():
            self.listen(name, kind, topic.replace("/pasr_node", node.get_fully_qualified_name()), qos)

    def wait_until_connected(self) -> None:
        """Until node and robot know of each other both ways, and the node has said which library it uses.

        One side may know the other long before it is known there, and what is sent meanwhile is lost.
        """
        self.wait(lambda: self._is_heard() and self._hears() and bool(self.got["info"]))

    def _is_heard(self) -> bool:
        inputs = (self.images, self.infos, self.detections, self.depths)
        heard = {s.topic_name: s for s in self.node.subscriptions}
        if not all(p.topic_name in heard for p in inputs[:3]):
            return False  # the node does not listen yet
        pairs = [(p, heard[p.topic_name]) for p in inputs if p.topic_name in heard]
        return all(p.get_subscription_count() and s.get_publisher_count() for p, s in pairs)

    def _hears(self) -> bool:
        said = {p.topic_name: p for p in self.node.publishers}
        pairs = [(said[s.topic_name], s) for s in self._ears if s.topic_name in said]
        return all(p.get_subscription_count() and s.get_publisher_count() for p, s in pairs)

    def call(self, kind: type, service: str, **request: Any) -> Any:
        """The answer of a service of the node."""
        client = self.helper.create_client(kind, f"{self.node.get_fully_qualified_name()}/{service}")
        self.wait(client.service_is_ready)
        future = client.call_async(kind.Request(**request))
        self.wait(future.done)
        self.helper.destroy_client(client)
        return future.result()

    def listen(self, name: str, kind: type, topic: str, qos: Any = 10) -> None:
        self.got[name] = []
        self._ears.append(self.helper.create_subscription(kind, topic, self.got[name].append, qos))

    def wait(self, condition: Callable[[], bool]) -> None:
        spin_until(self.executor, condition, lambda: f"got { {k: len(v) for k, v in self.got.items()} }")

    def wait_for(self, expected: Any, found: Callable[[], Any]) -> None:
        """Until `found()` is what is expected: discovery goes on beside what was done, and what it tells comes late."""
        last: list[Any] = []

        def met() -> bool:
            last[:] = [found()]
            return last[0] == expected

        try:
            self.wait(met)
        except AssertionError as error:
            raise AssertionError(f"expected {expected!r}, got {last[0]!r}") from error

    def show(self, stamp_s: int, boxes: int = 1, ids: tuple[str, ...] = (), **changes: Any) -> None:
        """One black frame of the camera with its detections; `changes` are of the image, or go on to `show_as`."""
        passed = {name: changes.pop(name) for name in SHOW_AS if name in changes}
        values = {"height": 48, "width": 64, "step": 192, "encoding": "rgb8", "data": bytes(48 * 192), **changes}
        self.show_as(Image(**values), stamp_s, boxes, ids, **passed)

    def show_as(
        self,
        image: Image | CompressedImage,
        stamp_s: int,
        boxes: int = 1,
        ids: tuple[str, ...] = (),
        frame_id: str = "camera",
        camera: dict[str, Any] | None = None,
        second_box: dict[str, float] | None = None,
        detections_late_s: float = 0.0,
    ) -> None:
        k = [60.0, 0.0, 32.0, 0.0, 60.0, 24.0, 0.0, 0.0, 1.0]
        info = CameraInfo(**{"width": 64, "height": 48, "k": k, "distortion_model": "plumb_bob", **(camera or {})})
        array = Detection2DArray()
        for i in range(boxes):
            box = {"x": 30.0, "y": 20.0, "w": 10.0, **((second_box or {}) if i == 1 else {})}
            detection = Detection2D(id=ids[i] if i < len(ids) else "")
            detection.bbox.center.position.x, detection.bbox.center.position.y = box["x"], box["y"]
            detection.bbox.size_x, detection.bbox.size_y = box["w"], 10.0
            array.detections.append(detection)
        for message, publisher in ((image, self.images), (info, self.infos), (array, self.detections)):
            message.header.stamp, message.header.frame_id = Time(sec=stamp_s), frame_id
            if message is array:
                whole, part = divmod(stamp_s + detections_late_s, 1)
                message.header.stamp = Time(sec=int(whole), nanosec=int(part * 1e9))
            publisher.publish(message)

    def statuses(self, part: str) -> list[DiagnosticStatus]:
        status = [s for array in self.got["diagnostics"] for s in array.status]
        name = self.node.get_fully_qualified_name().lstrip("/")
        return [s for s in status if s.name == f"{name}: {part}"]

    def answered(self, frames: int) -> bool:
        return len(self.got["objects"]) >= frames


def values(status: DiagnosticStatus) -> dict[str, str]:
    return {item.key: item.value for item in status.values}
