"""The node in this process with a pipeline whose answers are known: wiring, faults, what is sent and what is not."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vision_msgs.msg")
pytest.importorskip("tf2_msgs.msg")

import rclpy
import trimesh
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2D, Detection2DArray, Detection3DArray, VisionInfo
from visualization_msgs.msg import Marker, MarkerArray

from pasr_perception.config import ConfigError
from pasr_perception.ros.node import PasrNode
from pasr_perception.types import Detection, Frame, FrameResult, Hypothesis, ObjectEstimate, StageTimings

pytestmark = pytest.mark.ros
WAIT_S = 20.0
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
OUTPUTS = {
    "objects": (Detection3DArray, "/pasr_node/objects", 10),
    "tf": (TFMessage, "/tf", 100),
    "markers": (MarkerArray, "/pasr_node/markers", 10),
    "diagnostics": (DiagnosticArray, "/diagnostics", 10),
    "info": (VisionInfo, "/pasr_node/vision_info", LATCHED),
}

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
        self.frames: list[Frame] = []

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


class Robot:
    """The rest of the robot: publishes a camera and a detector, collects what the node says."""

    def __init__(self, context: Any, node: PasrNode) -> None:
        self.node = node
        self.helper = rclpy.create_node("robot", context=context)
        self.executor = SingleThreadedExecutor(context=context)
        for member in (self.helper, node):
            self.executor.add_node(member)
        raw = node.get_parameter("image_transport").value == "raw"
        image_type, image_topic = (Image, "/image") if raw else (CompressedImage, "/image/compressed")
        self.images = self.helper.create_publisher(image_type, image_topic, 5)
        self.infos = self.helper.create_publisher(CameraInfo, "/camera_info", 5)
        self.detections = self.helper.create_publisher(Detection2DArray, "/detections", 5)
        self.got: dict[str, list[Any]] = {}
        for name, (kind, topic, qos) in OUTPUTS.items():
            self.listen(name, kind, topic, qos)
        inputs = (self.images, self.infos, self.detections)
        self.wait(lambda: all(p.get_subscription_count() for p in inputs) and bool(self.got["info"]))

    def listen(self, name: str, kind: type, topic: str, qos: Any = 10) -> None:
        self.got[name] = []
        self.helper.create_subscription(kind, topic, self.got[name].append, qos)

    def wait(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < end, f"nothing after {WAIT_S} s; got { {k: len(v) for k, v in self.got.items()} }"
            self.executor.spin_once(timeout_sec=0.02)

    def show(self, stamp_s: int, boxes: int = 1, ids: tuple[str, ...] = (), **image_changes: Any) -> None:
        """One black frame of the camera with its detections."""
        values = {"height": 48, "width": 64, "step": 192, "encoding": "rgb8", "data": bytes(48 * 192), **image_changes}
        self.show_as(Image(**values), stamp_s, boxes, ids)

    def show_as(self, image: Image | CompressedImage, stamp_s: int, boxes: int = 1, ids: tuple[str, ...] = ()) -> None:
        stamp = Time(sec=stamp_s)
        info = CameraInfo(width=64, height=48, k=[60.0, 0.0, 32.0, 0.0, 60.0, 24.0, 0.0, 0.0, 1.0])
        array = Detection2DArray()
        for i in range(boxes):
            detection = Detection2D(id=ids[i] if i < len(ids) else "")
            detection.bbox.center.position.x, detection.bbox.center.position.y = 30.0, 20.0
            detection.bbox.size_x = detection.bbox.size_y = 10.0
            array.detections.append(detection)
        for message, publisher in ((image, self.images), (info, self.infos), (array, self.detections)):
            message.header.stamp, message.header.frame_id = stamp, "camera"
            publisher.publish(message)

    def statuses(self, part: str) -> list[DiagnosticStatus]:
        status = [s for array in self.got["diagnostics"] for s in array.status]
        return [s for s in status if s.name == f"pasr_node: {part}"]

    def answered(self, frames: int) -> bool:
        return len(self.got["objects"]) >= frames


@pytest.fixture
def start(ros: Any) -> Iterator[Callable[..., Robot]]:
    robots: list[Robot] = []

    def make(pipeline: FixedPipeline | None = None, **parameters: Any) -> Robot:
        given = [Parameter(name, value=value) for name, value in {"library": "/somewhere", **parameters}.items()]
        node = PasrNode(pipeline or FixedPipeline(), context=ros, parameter_overrides=given)
        node.start()
        robots.append(Robot(ros, node))
        return robots[-1]

    yield make
    for robot in robots:
        robot.node.destroy_node()
        robot.helper.destroy_node()


def values(status: DiagnosticStatus) -> dict[str, str]:
    return {item.key: item.value for item in status.values}


def test_one_frame_gives_objects_tf_markers_and_diagnostics(start: Callable[..., Robot]) -> None:
    robot = start(tf_prefix="robot/")
    robot.show(5, boxes=2, ids=("cup 1",))
    robot.wait(lambda: all(robot.got[k] for k in ("objects", "tf", "markers")) and bool(robot.statuses("pipeline")))

    objects = robot.got["objects"][0]
    assert (objects.header.frame_id, objects.header.stamp.sec) == ("camera", 5)
    assert [d.id for d in objects.detections] == ["cup 1", "1"]
    first = objects.detections[0]
    assert (first.results[0].hypothesis.class_id, first.results[0].hypothesis.score) == (MESH_ID, 0.8)
    p, q = first.results[0].pose.pose.position, first.results[0].pose.pose.orientation
    np.testing.assert_allclose((p.x, p.y, p.z), known_pose()[:3, 3])
    np.testing.assert_allclose((q.x, q.y, q.z, q.w), (0, 0, 0.5**0.5, 0.5**0.5), atol=1e-12)
    c = first.bbox.center.position
    np.testing.assert_allclose((c.x, c.y, c.z), known_pose()[:3, :3] @ CENTER + known_pose()[:3, 3])
    assert (first.bbox.size.x, first.bbox.size.y, first.bbox.size.z) == EXTENT

    transforms = robot.got["tf"][0].transforms
    assert [t.child_frame_id for t in transforms] == ["robot/mug_cup_1", "robot/mug_1"]
    meshes = [m for m in robot.got["markers"][0].markers if m.type == Marker.MESH_RESOURCE]
    assert [m.mesh_resource for m in meshes] == ["file:///somewhere/meshes/mug.glb"] * 2

    status = robot.statuses("pipeline")[0]
    said = values(status)
    assert (status.level, said["frame_stamp"], said["objects"]) == (DiagnosticStatus.OK, "5000000000", "2")
    latency = {k.removeprefix("latency_ms/"): float(v) for k, v in said.items() if k.startswith("latency_ms/")}
    assert latency["encode"] == pytest.approx(20.0)
    assert latency["total"] == pytest.approx(28.0)
    assert set(latency) >= {"crop", "coarse", "refine", "rank", "lift", "convert", "stamp_to_publish"}
    info = robot.got["info"][0]
    assert (info.database_location, info.database_version) == ("/somewhere", 1)


def test_an_empty_frame_is_answered_and_markers_are_deleted(start: Callable[..., Robot]) -> None:
    robot = start()
    robot.show(5, ids=("cup",))
    robot.wait(lambda: robot.answered(1))
    robot.show(6, boxes=0)
    robot.wait(lambda: robot.answered(2) and len(robot.got["markers"]) == 2)
    assert robot.got["objects"][1].detections == []
    assert [m.action for m in robot.got["markers"][1].markers] == [Marker.DELETE] * 2
    assert len(robot.got["tf"]) == 1


def test_a_bad_message_is_complained_of_once_and_survived(
    start: Callable[..., Robot], capfd: pytest.CaptureFixture[str]
) -> None:
    robot = start()
    for second in (5, 6, 7):
        robot.show(second, encoding="32FC1")
        robot.wait(lambda n=second - 4: len(robot.statuses("pipeline")) == n)
    robot.show(8)
    robot.wait(lambda: robot.answered(1) and len(robot.statuses("pipeline")) == 4)
    assert robot.got["objects"][0].header.stamp.sec == 8
    failed, *_, fine = robot.statuses("pipeline")
    assert failed.level == DiagnosticStatus.ERROR
    assert failed.message.startswith("image.encoding: expected one of rgb8")
    assert fine.level == DiagnosticStatus.OK
    assert values(fine)["frames/failed"] == "3"
    log = "".join(capfd.readouterr())
    assert log.count("image.encoding: expected one of rgb8, bgr8, rgba8, bgra8, mono8, mono16, bayer_rggb8") == 1


def test_an_error_of_the_pipeline_reaches_diagnostics_and_is_survived(start: Callable[..., Robot]) -> None:
    def answer(frame: Frame, detections: list[Detection]) -> FrameResult:
        if frame.stamp_ns == 5_000_000_000:
            raise RuntimeError("out of memory")
        return known_answer(frame, detections)

    robot = start(FixedPipeline(answer))
    robot.show(5)
    robot.wait(lambda: bool(robot.statuses("pipeline")))
    robot.show(6)
    robot.wait(lambda: robot.answered(1) and len(robot.statuses("pipeline")) == 2)
    failed, fine = robot.statuses("pipeline")
    assert (failed.level, failed.message) == (DiagnosticStatus.ERROR, "RuntimeError: out of memory")
    assert values(fine)["last_error"] == "RuntimeError: out of memory"
    assert fine.level == DiagnosticStatus.OK


def test_a_pose_that_is_no_pose_reaches_nothing_but_diagnostics(start: Callable[..., Robot]) -> None:
    broken = known_pose()
    broken[1, 3] = np.nan

    def answer(frame: Frame, detections: list[Detection]) -> FrameResult:
        result = known_answer(frame, detections)
        first = replace(result.objects[0], hypotheses=(hypothesis(broken),))
        return replace(result, objects=(first, *result.objects[1:]))

    robot = start(FixedPipeline(answer))
    robot.show(5, boxes=2, ids=("bad", "good"))
    robot.wait(lambda: robot.answered(1) and bool(robot.got["tf"]) and bool(robot.statuses("pipeline")))
    assert [d.id for d in robot.got["objects"][0].detections] == ["good"]
    assert [t.child_frame_id for t in robot.got["tf"][0].transforms] == ["mug_good"]
    status = robot.statuses("pipeline")[0]
    assert status.level == DiagnosticStatus.WARN
    assert "detection 'bad': 1 poses, none of them finite and rigid" in status.message


def test_the_newest_frame_wins_and_callbacks_do_not_wait(start: Callable[..., Robot]) -> None:
    go = threading.Event()

    def answer(frame: Frame, detections: list[Detection]) -> FrameResult:
        assert go.wait(WAIT_S)
        return known_answer(frame, detections)

    pipeline = FixedPipeline(answer)
    robot = start(pipeline)
    robot.show(5)
    robot.wait(lambda: len(pipeline.frames) == 1)
    for second in (6, 7, 8):  # while the first is under way
        robot.show(second)
        robot.wait(lambda n=second - 4: robot.node.diagnostics.counts["frames/received"] == n)
    go.set()
    robot.wait(lambda: robot.answered(2) and len(robot.statuses("pipeline")) == 2)
    assert [o.header.stamp.sec for o in robot.got["objects"]] == [5, 8]
    assert values(robot.statuses("pipeline")[-1])["frames/dropped"] == "2"


def test_tf_never_repeats_a_stamp(start: Callable[..., Robot]) -> None:
    robot = start()
    for second in (5, 5, 6):
        robot.show(second)
        robot.wait(lambda s=second: bool(robot.got["tf"]) and robot.got["tf"][-1].transforms[0].header.stamp.sec == s)
    robot.show(7)
    robot.wait(lambda: len(robot.got["tf"]) >= 3)
    assert [m.transforms[0].header.stamp.sec for m in robot.got["tf"]] == [5, 6, 7]


def test_coarse_objects_and_debug_image_are_there_for_those_who_listen(start: Callable[..., Robot]) -> None:
    robot = start()
    robot.listen("coarse", Detection3DArray, "/pasr_node/coarse_objects")
    robot.listen("debug", Image, "/pasr_node/debug_image")
    stamps = itertools.count(5)
    shown = [0.0]

    def seen() -> bool:  # the first frames may come before the node has noticed its listeners
        if time.monotonic() - shown[0] > 0.5:  # a camera's pace: sets that chase each other never meet
            shown[0] = time.monotonic()
            robot.show(next(stamps))
        return bool(robot.got["coarse"]) and bool(robot.got["debug"])

    robot.wait(seen)
    assert robot.got["coarse"][0].detections[0].results[0].hypothesis.score == 0.4
    assert robot.got["coarse"][0].detections[0].results[0].pose.pose.position.z == 2.0
    image = robot.got["debug"][0]
    assert (image.encoding, image.width, image.height, image.header.frame_id) == ("rgb8", 64, 48, "camera")
    assert np.frombuffer(image.data, np.uint8).any()  # something is drawn on the black image


def test_compressed_images_are_taken_on_request(start: Callable[..., Robot]) -> None:
    pipeline = FixedPipeline()
    robot = start(pipeline, image_transport="compressed")
    blue = np.full((48, 64, 3), (255, 40, 10), np.uint8)  # as OpenCV has it
    jpeg = CompressedImage(format="jpeg", data=cv2.imencode(".jpg", blue)[1].tobytes())
    robot.show_as(jpeg, stamp_s=5)
    robot.wait(lambda: robot.answered(1))
    np.testing.assert_allclose(pipeline.frames[0].image.mean((0, 1)), (10, 40, 255), atol=3)


def test_inputs_that_never_match_are_explained(start: Callable[..., Robot]) -> None:
    robot = start(input_patience_s=0.5)

    def explained() -> bool:
        robot.images.publish(Image(header=Detection2DArray().header))
        return any("nothing came on /camera_info, /detections" in s.message for s in robot.statuses("input"))

    robot.wait(explained)
    status = next(s for s in robot.statuses("input") if s.level == DiagnosticStatus.WARN)
    assert int(values(status)["/image/received"]) > 0


def test_a_node_without_a_library_says_what_it_needs(ros: Any) -> None:
    with pytest.raises(ConfigError, match="library: expected the folder of a library made by `pasr library build`"):
        PasrNode(context=ros).start()
