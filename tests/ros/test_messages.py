"""What is published: only rigid finite poses, unit quaternions, unique frames, markers that come and go."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vision_msgs.msg")

from scipy.spatial.transform import Rotation
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from pasr_perception.ros.messages import (
    LABELS,
    MESHES,
    MarkerBook,
    NamedHypotheses,
    Shape,
    named_hypotheses,
    objects_to_msg,
    transforms_to_msgs,
)
from pasr_perception.types import Detection, FrameResult, Hypothesis, ObjectEstimate, StageTimings

pytestmark = pytest.mark.ros
SHAPES = {
    "mug": Shape(np.array([0.0, 0.0, 0.1]), np.array([0.1, 0.1, 0.2]), Path("/lib/meshes/mug.glb").as_uri()),
    "box": Shape(np.zeros(3), np.ones(3), "file:///lib/meshes/box.glb"),
}


def pose(rotation: Rotation | None = None, t: tuple[float, float, float] = (0.1, 0.2, 1.5)) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.identity().as_matrix() if rotation is None else rotation.as_matrix()
    T[:3, 3] = t
    return T


def hypothesis(mesh_id: str = "mug", score: float = 0.8, T: np.ndarray | None = None) -> Hypothesis:
    return Hypothesis(mesh_id, "cup", score, 0.9, pose() if T is None else T)


def named(*items: tuple[str, str]) -> list[NamedHypotheses]:
    return [NamedHypotheses(name, (hypothesis(mesh_id),)) for name, mesh_id in items]


def header(stamp_s: int = 3) -> Header:
    message = Header(frame_id="camera")
    message.stamp.sec = stamp_s
    return message


def frame_result(*estimates: tuple[str, tuple[Hypothesis, ...]]) -> FrameResult:
    box = np.array([0.0, 0.0, 10.0, 10.0])
    return FrameResult(tuple(ObjectEstimate(Detection(box, id=name), h) for name, h in estimates), StageTimings())


def test_a_pose_is_the_same_rigid_motion_with_a_unit_quaternion() -> None:
    generator = np.random.default_rng(3)
    for rotations in (Rotation.random(20, random_state=generator), Rotation.from_rotvec(np.pi * np.eye(3))):
        T = [pose(r).astype(np.float32).astype(np.float64) for r in rotations]  # as they come from the search
        for matrix, message in zip(T, NamedHypotheses("a", tuple(hypothesis(T=m) for m in T)).poses, strict=True):
            q = np.array([getattr(message.orientation, axis) for axis in "xyzw"])
            assert np.linalg.norm(q) == pytest.approx(1.0, abs=1e-12)
            assert q[3] >= 0
            np.testing.assert_allclose(Rotation.from_quat(q).as_matrix(), matrix[:3, :3], atol=1e-6)
            assert (message.position.x, message.position.y, message.position.z) == tuple(matrix[:3, 3])


def test_hypotheses_keep_their_order_and_the_box_stands_where_the_mesh_stands() -> None:
    turned = pose(Rotation.from_euler("x", 90, degrees=True))
    objects = [NamedHypotheses("left", (hypothesis(T=turned), hypothesis("box", 0.3)))]
    message = objects_to_msg(header(), objects, SHAPES)
    assert (message.header.frame_id, message.header.stamp.sec) == ("camera", 3)
    (detection,) = message.detections
    assert detection.id == "left"
    assert [(r.hypothesis.class_id, r.hypothesis.score) for r in detection.results] == [("mug", 0.8), ("box", 0.3)]
    size, center = detection.bbox.size, detection.bbox.center.position
    assert (size.x, size.y, size.z) == (0.1, 0.1, 0.2)
    np.testing.assert_allclose((center.x, center.y, center.z), (0.1, 0.2 - 0.1, 1.5), atol=1e-12)  # z of mug is -y here


@pytest.mark.parametrize("fault", ["nan", "inf", "scaled", "mirrored", "shape"])
def test_no_pose_that_is_not_rigid_and_finite_gets_out(fault: str) -> None:
    T = pose()
    if fault == "nan":
        T[0, 3] = np.nan
    elif fault == "inf":
        T[0, 0] = np.inf
    elif fault == "scaled":
        T[:3, :3] *= 1.01
    elif fault == "mirrored":
        T[0, 0] = -1
    else:
        T = T[:3]
    result = frame_result(("whole", (hypothesis(T=T), hypothesis("box"))), ("none", (hypothesis(T=T),)), ("empty", ()))
    objects, problems = named_hypotheses(result)
    assert [(o.name, [h.mesh_id for h in o.hypotheses]) for o in objects] == [("whole", ["box"])]
    assert problems == ["detection 'none': 1 poses, none of them finite and rigid", "detection 'empty': no hypotheses"]


def test_transforms_have_unique_well_formed_frames() -> None:
    objects = named(("7", "mug"), ("a b/c", "mug"), ("a_b/c", "mug"), ("ä", "box"))
    transforms = transforms_to_msgs(header(), objects, prefix="/robot/")
    children = [t.child_frame_id for t in transforms]
    assert children[0] == "robot/mug_7"
    assert len(set(children)) == 4
    assert all(re.fullmatch(r"[A-Za-z0-9._-][A-Za-z0-9._/-]*", c) for c in children)
    assert {t.header.frame_id for t in transforms} == {"camera"}
    assert transforms[0].transform.translation.z == 1.5
    assert transforms[0].transform.rotation.w == 1.0


def test_mesh_markers_show_the_library_file_at_the_pose() -> None:
    array = MarkerBook().update(header(), named(("7", "mug")), SHAPES, lifetime_s=1.5)
    assert array.markers[0].action == Marker.DELETEALL
    (mesh,) = [m for m in array.markers if m.ns == MESHES]
    assert (mesh.type, mesh.action) == (Marker.MESH_RESOURCE, Marker.ADD)
    assert mesh.mesh_resource == "file:///lib/meshes/mug.glb"
    assert mesh.mesh_use_embedded_materials
    assert (mesh.scale.x, mesh.scale.y, mesh.scale.z) == (1.0, 1.0, 1.0)
    assert (mesh.lifetime.sec, mesh.lifetime.nanosec) == (1, 500_000_000)
    assert mesh.pose.position.z == 1.5
    (label,) = [m for m in array.markers if m.ns == LABELS]
    assert label.text == "mug 0.80"
    assert label.pose.position.y < mesh.pose.position.y  # above, in an optical frame


def test_marker_ids_stay_with_their_object_and_what_is_gone_is_deleted() -> None:
    book = MarkerBook()

    def ids(*items: tuple[str, str]) -> tuple[dict[str, int], set[tuple[str, int]]]:
        markers = book.update(header(), named(*items), SHAPES).markers
        added = [m.id for m in markers if m.ns == MESHES and m.action == Marker.ADD]
        gone = {(m.ns, m.id) for m in markers if m.action == Marker.DELETE}
        return dict(zip([name for name, _ in items], added, strict=True)), gone

    first, gone = ids(("cup", "mug"), ("crate", "box"))
    assert gone == set()
    second, gone = ids(("crate", "box"), ("cup", "box"))  # another order, and another mesh for the cup
    assert (second, gone) == (first, set())
    third, gone = ids(("crate", "box"), ("new", "mug"))
    assert third["crate"] == first["crate"]
    assert third["new"] not in first.values()
    assert gone == {(MESHES, first["cup"]), (LABELS, first["cup"])}
    assert ids(("crate", "box"), ("new", "mug"))[1] == set()  # deleted once
