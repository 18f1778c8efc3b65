"""Objects, transforms and markers: filled anew for every frame, with nothing left of the one before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("vision_msgs.msg")

from hypotheses import header, hypothesis, named, pose
from scipy.spatial.transform import Rotation
from visualization_msgs.msg import Marker

from pasr_perception.ros.books import LABELS, MESHES, MarkerBook, ObjectBook, TransformBook
from pasr_perception.ros.messages import NamedHypotheses, Shape
from pasr_perception.types import Hypothesis

pytestmark = pytest.mark.ros
SHAPES = {
    "mug": Shape(np.array([0.0, 0.0, 0.1]), np.array([0.1, 0.1, 0.2]), Path("/lib/meshes/mug.glb").as_uri()),
    "box": Shape(np.zeros(3), np.ones(3), "file:///lib/meshes/box.glb"),
}


def test_hypotheses_keep_their_order_and_the_box_stands_where_the_mesh_stands() -> None:
    turned = pose(Rotation.from_euler("x", 90, degrees=True))
    objects = [NamedHypotheses("left", (hypothesis(T=turned), hypothesis("box", 0.3)))]
    message = ObjectBook().fill(header(), objects, SHAPES)
    assert (message.header.frame_id, message.header.stamp.sec) == ("camera", 3)
    (detection,) = message.detections
    assert detection.id == "left"
    assert [(r.hypothesis.class_id, r.hypothesis.score) for r in detection.results] == [("mug", 0.8), ("box", 0.3)]
    size, center = detection.bbox.size, detection.bbox.center.position
    assert (size.x, size.y, size.z) == (0.1, 0.1, 0.2)
    np.testing.assert_allclose((center.x, center.y, center.z), (0.1, 0.2 - 0.1, 1.5), atol=1e-12)  # z of mug is -y here


def test_a_frame_of_fewer_objects_and_hypotheses_shows_nothing_of_the_one_before() -> None:
    book = ObjectBook()
    sure = Hypothesis("mug", "cup", 0.8, 0.9, pose(), covariance=np.diag(np.arange(1.0, 7.0)))
    full = [NamedHypotheses("a", (sure, hypothesis("box"))), NamedHypotheses("b", (hypothesis(),))]
    first = book.fill(header(), full, SHAPES)
    covariance = first.detections[0].results[0].pose.covariance.reshape(6, 6)
    np.testing.assert_array_equal(covariance, np.diag(np.arange(1.0, 7.0)))
    later = [NamedHypotheses("c", (hypothesis("box", 0.5),))]
    assert book.fill(header(4), later, SHAPES) == ObjectBook().fill(header(4), later, SHAPES)


def test_transforms_are_the_best_poses_and_nothing_of_a_fuller_frame_is_left() -> None:
    book = TransformBook()
    turned = pose(Rotation.from_euler("z", 90, degrees=True))
    assert len(book.fill(header(), named(("a", "mug"), ("b", "mug")), "left/")) == 2
    (transform,) = book.fill(header(4), [NamedHypotheses("c", (hypothesis(T=turned), hypothesis("box")))], "left/")
    assert (transform.header.frame_id, transform.header.stamp.sec, transform.child_frame_id) == (
        "camera",
        4,
        "left/mug_c",
    )
    t, q = transform.transform.translation, transform.transform.rotation
    np.testing.assert_allclose((t.x, t.y, t.z), (0.1, 0.2, 1.5))
    np.testing.assert_allclose((q.x, q.y, q.z, q.w), (0, 0, 0.5**0.5, 0.5**0.5), atol=1e-12)


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
