"""ROS messages out: hypotheses to Detection3DArray, transforms and markers. Pure functions; publish.py sends them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, Quaternion, TransformStamped, Vector3
from std_msgs.msg import ColorRGBA, Header
from vision_msgs.msg import BoundingBox3D, Detection3D, Detection3DArray, ObjectHypothesisWithPose
from visualization_msgs.msg import Marker, MarkerArray

from pasr_perception.geometry.se3 import is_rotation, quaternions_xyzw
from pasr_perception.types import FrameResult, Hypothesis

ROTATION_TOLERANCE = 1e-4  # what float32 leaves of a rotation, with room
MAX_DISTANCE = 1e6  # metres
MESHES, LABELS = "meshes", "labels"  # marker namespaces
NOT_IN_FRAME_NAMES = re.compile(r"[^A-Za-z0-9._/-]")


class LibraryEntry(Protocol):
    """What the messages need to know of a mesh."""

    @property
    def id(self) -> str: ...
    @property
    def center(self) -> Sequence[float]: ...  # [3] metres, the bounding box's centre in the mesh frame
    @property
    def extent(self) -> Sequence[float]: ...  # [3] metres, the bounding box's size


@dataclass(frozen=True)
class Shape:
    """A mesh as RViz and Detection3D need it."""

    center: np.ndarray  # [3] metres, in the mesh frame
    extent: np.ndarray  # [3] metres
    uri: str  # file://...


@dataclass(frozen=True)
class NamedHypotheses:
    """The ranked hypotheses of one object, best first, under the name that it has in all outputs."""

    name: str
    hypotheses: tuple[Hypothesis, ...]

    @property
    def best(self) -> Hypothesis:
        return self.hypotheses[0]

    @cached_property
    def poses(self) -> tuple[Pose, ...]:
        """One message per hypothesis, shared by all that tell of it."""
        T = np.stack([h.T_cam_obj for h in self.hypotheses]).astype(np.float64)
        columns = zip(T[:, :3, 3].tolist(), quaternions_xyzw(T[:, :3, :3]).tolist(), strict=True)
        return tuple(Pose(position=_point(t), orientation=Quaternion(**_named("xyzw", q))) for t, q in columns)

    def at(self, point: np.ndarray) -> Point:
        """Where a point [3] of the best mesh's frame is, in the camera's."""
        T = self.best.T_cam_obj
        return _point((T[:3, :3] @ point + T[:3, 3]).tolist())


def named_hypotheses(result: FrameResult, coarse: bool = False) -> tuple[list[NamedHypotheses], list[str]]:
    """The objects of a result that have an answer, and why the others are left out.

    Only rigid, finite poses pass: nothing else may ever reach TF.
    """
    named: list[NamedHypotheses] = []
    problems: list[str] = []
    for estimate in result.objects:
        offered = estimate.coarse if coarse else estimate.hypotheses
        usable = tuple(h for h in offered if is_pose(h.T_cam_obj))
        if usable:
            named.append(NamedHypotheses(estimate.detection.id, usable))
        else:
            poses = f"{len(offered)} poses, none of them finite and rigid" if offered else "no hypotheses"
            problems.append(f"detection {estimate.detection.id!r}: {poses}")
    return named, problems


def is_pose(T: np.ndarray) -> bool:
    """Whether T is [4, 4], finite, rigid and of this world."""
    of_this_world = T.shape == (4, 4) and bool((np.abs(T) < MAX_DISTANCE).all())  # false for NaN as well
    return of_this_world and is_rotation(T[:3, :3], ROTATION_TOLERANCE)


def _named(names: str, values: Sequence[float]) -> dict[str, float]:
    return dict(zip(names, values, strict=True))


def _point(values: Sequence[float]) -> Point:
    return Point(**_named("xyz", values))


def _vector(values: Sequence[float]) -> Vector3:
    return Vector3(**_named("xyz", values))


def objects_to_msg(header: Header, objects: Sequence[NamedHypotheses], shapes: Mapping[str, Shape]) -> Detection3DArray:
    """Ranked hypotheses per object; `bbox` is the best mesh's box, standing where that mesh stands."""
    message = Detection3DArray(header=header)
    for item in objects:
        detection = Detection3D(header=header, id=item.name)
        for hypothesis, pose in zip(item.hypotheses, item.poses, strict=True):
            result = ObjectHypothesisWithPose()
            result.hypothesis.class_id = hypothesis.mesh_id
            result.hypothesis.score = float(hypothesis.score)
            result.pose.pose = pose
            detection.results.append(result)
        shape = shapes[item.best.mesh_id]
        center = Pose(position=item.at(shape.center), orientation=item.poses[0].orientation)
        detection.bbox = BoundingBox3D(center=center, size=_vector(shape.extent.tolist()))
        message.detections.append(detection)
    return message


def transforms_to_msgs(header: Header, objects: Sequence[NamedHypotheses], prefix: str) -> list[TransformStamped]:
    """The best pose of each object as a transform from the camera; child frames are unique in the list."""
    transforms: list[TransformStamped] = []
    taken: set[str] = set()
    for item in objects:
        child = NOT_IN_FRAME_NAMES.sub("_", f"{prefix}{item.best.mesh_id}_{item.name}").lstrip("/")
        while child in taken:
            child += "_"
        taken.add(child)
        transform = TransformStamped(header=header, child_frame_id=child)
        transform.transform.translation = _vector(item.best.T_cam_obj[:3, 3].tolist())
        transform.transform.rotation = item.poses[0].orientation
        transforms.append(transform)
    return transforms


class MarkerBook:
    """Mesh and label markers with one id per object for as long as it is seen, and deletions once it is gone."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._next = 0
        self._fresh = True

    def clear(self, header: Header) -> MarkerArray:
        """The marker that takes everything away; the objects of the next update are new."""
        self._ids.clear()
        return MarkerArray(markers=[Marker(header=header, action=Marker.DELETEALL)])

    def update(
        self, header: Header, objects: Sequence[NamedHypotheses], shapes: Mapping[str, Shape], lifetime_s: float = 0.0
    ) -> MarkerArray:
        """The markers that turn what RViz shows into `objects`; it drops one not renewed for `lifetime_s` (0: never)."""
        seconds = int(lifetime_s)
        lifetime = Duration(sec=seconds, nanosec=int((lifetime_s - seconds) * 1e9))
        array = MarkerArray()
        if self._fresh:  # whatever an earlier run of the node left behind
            array.markers.append(Marker(header=header, action=Marker.DELETEALL))
            self._fresh = False
        present = {item.name for item in objects}
        for name in [n for n in self._ids if n not in present]:
            number = self._ids.pop(name)
            for ns in (MESHES, LABELS):
                array.markers.append(Marker(header=header, ns=ns, id=number, action=Marker.DELETE))
        for item in objects:
            if item.name not in self._ids:
                self._ids[item.name] = self._next
                self._next = (self._next + 1) % 2**31
            number, shape = self._ids[item.name], shapes[item.best.mesh_id]
            for marker in (_mesh(header, number, item, shape), _label(header, number, item, shape)):
                marker.lifetime = lifetime
                array.markers.append(marker)
        return array


def _mesh(header: Header, number: int, item: NamedHypotheses, shape: Shape) -> Marker:
    marker = Marker(header=header, ns=MESHES, id=number, type=Marker.MESH_RESOURCE, action=Marker.ADD)
    marker.pose = item.poses[0]
    marker.scale = Vector3(x=1.0, y=1.0, z=1.0)
    marker.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
    marker.mesh_resource = shape.uri
    marker.mesh_use_embedded_materials = True
    return marker


def _label(header: Header, number: int, item: NamedHypotheses, shape: Shape) -> Marker:
    marker = Marker(header=header, ns=LABELS, id=number, type=Marker.TEXT_VIEW_FACING, action=Marker.ADD)
    radius = 0.5 * float(np.linalg.norm(shape.extent))
    marker.pose.position = item.at(shape.center)
    marker.pose.position.y -= radius  # up, in an optical frame
    marker.pose.orientation = Quaternion(w=1.0)
    marker.scale = Vector3(z=0.25 * radius)
    marker.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
    marker.text = f"{item.best.mesh_id} {item.best.score:.2f}"
    return marker
