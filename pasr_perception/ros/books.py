"""Messages that are made once and filled again for every frame: objects, transforms and markers.

Making a message in Python takes far longer than filling one, since each part is made with all of its parts. What a book
returns is good until it is asked again, which suits a publisher: it serialises before it returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Quaternion, TransformStamped, Vector3
from std_msgs.msg import ColorRGBA, Header
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose
from visualization_msgs.msg import Marker, MarkerArray

from pasr_perception.ros.messages import NamedHypotheses, Shape, child_frames, set_numbers
from pasr_perception.types import Hypothesis

MESHES, LABELS = "meshes", "labels"  # marker namespaces
UNKNOWN_COVARIANCE = np.zeros(36)  # what geometry_msgs/PoseWithCovariance takes for "not known"


@dataclass
class _Slot:
    """One object's message, and results for as many hypotheses as it ever had."""

    message: Detection3D = field(default_factory=Detection3D)
    results: list[ObjectHypothesisWithPose] = field(default_factory=list)

    def fill(self, header: Header, item: NamedHypotheses, shape: Shape) -> Detection3D:
        while len(self.results) < len(item.hypotheses):
            self.results.append(ObjectHypothesisWithPose())
        message, results = self.message, self.results[: len(item.hypotheses)]
        for result, hypothesis, pose in zip(results, item.hypotheses, item.poses, strict=True):
            result.hypothesis.class_id, result.hypothesis.score = hypothesis.mesh_id, float(hypothesis.score)
            set_numbers(result.pose.pose.position, result.pose.pose.orientation, pose)
            result.pose.covariance = _covariance(hypothesis)
        message.header, message.id, message.results = header, item.name, results
        box, size = message.bbox.center, message.bbox.size
        set_numbers(box.position, box.orientation, (*item.at(shape.center), *item.poses[0][3:]))
        size.x, size.y, size.z = shape.extent.tolist()
        return message


class ObjectBook:
    """Detection3DArray messages: ranked hypotheses per object; `bbox` is the best mesh's box, where that mesh stands."""

    def __init__(self) -> None:
        self._message = Detection3DArray()
        self._slots: list[_Slot] = []

    def fill(self, header: Header, objects: Sequence[NamedHypotheses], shapes: Mapping[str, Shape]) -> Detection3DArray:
        """The message for a frame whose image had this `header`."""
        while len(self._slots) < len(objects):
            self._slots.append(_Slot())
        slots = zip(self._slots, objects, strict=False)  # slots of fuller frames stay for the next
        self._message.header = header
        self._message.detections = [slot.fill(header, item, shapes[item.best.mesh_id]) for slot, item in slots]
        return self._message


class TransformBook:
    """The best pose of each object as a transform from the camera; child frames are unique in the list."""

    def __init__(self) -> None:
        self._slots: list[TransformStamped] = []

    def fill(self, header: Header, objects: Sequence[NamedHypotheses], prefix: str) -> list[TransformStamped]:
        """The transforms of a frame whose image had this `header`."""
        while len(self._slots) < len(objects):
            self._slots.append(TransformStamped())
        filled = self._slots[: len(objects)]
        for message, item, child in zip(filled, objects, child_frames(objects, prefix), strict=True):
            message.header, message.child_frame_id = header, child
            set_numbers(message.transform.translation, message.transform.rotation, item.poses[0])
        return filled


def _covariance(hypothesis: Hypothesis) -> np.ndarray:
    if hypothesis.covariance is None:
        return UNKNOWN_COVARIANCE
    return np.asarray(hypothesis.covariance, np.float64).ravel()


@dataclass
class _Shown:
    """An object in RViz."""

    mesh: Marker
    label: Marker

    def fill(self, header: Header, item: NamedHypotheses, shape: Shape, lifetime: Duration) -> None:
        for marker in (self.mesh, self.label):
            marker.header, marker.lifetime = header, lifetime
        self.mesh.mesh_resource = shape.uri
        set_numbers(self.mesh.pose.position, self.mesh.pose.orientation, item.poses[0])
        radius = 0.5 * float(np.linalg.norm(shape.extent))
        position = self.label.pose.position
        position.x, position.y, position.z = item.at(shape.center)
        position.y -= radius  # up, in an optical frame
        self.label.scale.z = 0.25 * radius
        self.label.text = f"{item.best.mesh_id} {item.best.score:.2f}"


class MarkerBook:
    """Mesh and label markers with one id per object for as long as it is seen, and deletions once it is gone."""

    def __init__(self) -> None:
        self._shown: dict[str, _Shown] = {}
        self._next = 0
        self._fresh = True

    def clear(self, header: Header) -> MarkerArray:
        """The marker that takes everything away; the objects of the next update are new."""
        self._shown.clear()
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
        for name in [n for n in self._shown if n not in present]:
            number = self._shown.pop(name).mesh.id
            for ns in (MESHES, LABELS):
                array.markers.append(Marker(header=header, ns=ns, id=number, action=Marker.DELETE))
        for item in objects:
            if item.name not in self._shown:
                self._shown[item.name] = _Shown(_mesh(self._next), _label(self._next))
                self._next = (self._next + 1) % 2**31
            shown = self._shown[item.name]
            shown.fill(header, item, shapes[item.best.mesh_id], lifetime)
            array.markers += [shown.mesh, shown.label]
        return array


def _mesh(number: int) -> Marker:
    marker = Marker(ns=MESHES, id=number, type=Marker.MESH_RESOURCE, action=Marker.ADD)
    marker.scale = Vector3(x=1.0, y=1.0, z=1.0)
    marker.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
    marker.mesh_use_embedded_materials = True
    return marker


def _label(number: int) -> Marker:
    marker = Marker(ns=LABELS, id=number, type=Marker.TEXT_VIEW_FACING, action=Marker.ADD)
    marker.pose.orientation = Quaternion(w=1.0)
    marker.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
    return marker
