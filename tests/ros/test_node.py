"""The node in this process with a pipeline whose answers are known: wiring, faults, what is sent and what is not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vision_msgs.msg")
pytest.importorskip("tf2_msgs.msg")

from diagnostic_msgs.msg import DiagnosticStatus
from robot import CENTER, EXTENT, MESH_ID, WAIT_S, FixedPipeline, Robot, hypothesis, known_answer, known_pose, values
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray, Detection3DArray
from visualization_msgs.msg import Marker

from pasr_perception.config import ConfigError
from pasr_perception.ros.node import PasrNode
from pasr_perception.types import Detection, Frame, FrameResult

pytestmark = pytest.mark.ros


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
    robot.wait_until_connected()
    robot.show(5)
    robot.wait(lambda: bool(robot.got["coarse"]) and bool(robot.got["debug"]))
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
