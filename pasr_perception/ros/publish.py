"""Everything the node publishes about a frame: objects, TF, markers, the library it uses, and a debug image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import trimesh
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection3DArray, VisionInfo
from visualization_msgs.msg import MarkerArray

import pasr_perception
from pasr_perception.evaluation.overlay import draw_overlay
from pasr_perception.ros.books import MarkerBook, ObjectBook, TransformBook
from pasr_perception.ros.checks import stamp_to_ns
from pasr_perception.ros.compat import TransformBroadcaster
from pasr_perception.ros.images import BRIDGE
from pasr_perception.ros.messages import (
    LibraryEntry,
    NamedHypotheses,
    Shape,
    named_hypotheses,
    sound_poses,
)
from pasr_perception.ros.params import NodeConfig
from pasr_perception.types import Frame, FrameResult

LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Library(Protocol):
    """What publishing needs of a mesh library."""

    @property
    def entries(self) -> Sequence[LibraryEntry]: ...

    def mesh_path(self, mesh_id: str) -> Path: ...

    def load_mesh(self, mesh_id: str) -> trimesh.Trimesh: ...


class ResultPublisher:
    """Owns the publishers of the node's results. `publish` runs in the worker thread."""

    def __init__(self, node: Node, config: NodeConfig, library: Library) -> None:
        self._node = node
        self.config = config
        self._objects = self._publisher(Detection3DArray, "~/objects", 10)
        self._coarse = self._publisher(Detection3DArray, "~/coarse_objects", 10)
        self._tentative = self._publisher(Detection3DArray, "~/tentative_objects", 10)
        self._marker_publisher = self._publisher(MarkerArray, "~/markers", 10)
        self._info = self._publisher(VisionInfo, "~/vision_info", LATCHED)
        self._debug = self._publisher(Image, "~/debug_image", QoSProfile(depth=1)) if config.debug_image else None
        self._tf = TransformBroadcaster(node) if config.publish_tf else None
        self._markers, self._transforms = MarkerBook(), TransformBook()
        self._book, self._coarse_book, self._tentative_book = ObjectBook(), ObjectBook(), ObjectBook()
        self._last_tf_ns = -1
        self._last_header: Header | None = None
        self.use_library(library)

    def destroy(self) -> None:
        """Take the publishers down."""
        made = (self._objects, self._coarse, self._tentative, self._marker_publisher, self._info, self._debug)
        broadcaster = getattr(self._tf, "pub_tf", None)
        for publisher in (*made, broadcaster):
            if publisher is not None:
                self._node.destroy_publisher(publisher)

    def use_library(self, library: Library) -> None:
        """Show meshes of this library from now on."""
        self._library = library
        self._shapes = {e.id: _shape(e, library.mesh_path(e.id)) for e in library.entries}
        self._meshes: dict[str, trimesh.Trimesh] = {}  # those that were drawn

    def publish_library(self, version: int) -> None:
        """Latch which library the mesh ids refer to; `version` counts its reloads."""
        message = VisionInfo(method=f"pasr_perception {pasr_perception.__version__}", database_version=version)
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.database_location = str(Path(self.config.library).expanduser().absolute())
        self._info.publish(message)

    def forget(self) -> None:
        """Take all markers away and forget what was sent to TF."""
        self._last_tf_ns = -1
        if self._last_header is not None and self._node.context.ok():
            self._marker_publisher.publish(self._markers.clear(self._last_header))

    def publish(
        self, header: Header, result: FrameResult, unsettled: FrameResult | None = None
    ) -> tuple[int, list[str]]:
        """Send objects, TF and markers of one frame, whose image had this `header`, and what is not settled apart from them.

        Returns how many objects were sent, and why the others were not.
        """
        objects, problems = named_hypotheses(result)
        self._last_header = header
        self._objects.publish(self._book.fill(header, objects, self._shapes))
        self._publish_tf(header, objects)
        if self._marker_publisher.get_subscription_count():
            markers = self._markers.update(header, objects, self._shapes, self.config.marker_lifetime_s)
            self._marker_publisher.publish(markers)
        if self._coarse.get_subscription_count():
            coarse, _ = named_hypotheses(result, coarse=True)
            self._coarse.publish(self._coarse_book.fill(header, coarse, self._shapes))
        if unsettled is not None and self._tentative.get_subscription_count():
            tentative, more = named_hypotheses(unsettled)
            self._tentative.publish(self._tentative_book.fill(header, tentative, self._shapes))
            problems += more
        return len(objects), problems

    def publish_debug(self, header: Header, frame: Frame, result: FrameResult) -> None:
        """Draw and send the debug image if someone listens."""
        if self._debug is None or not self._debug.get_subscription_count():
            return
        answered = [e for e in result.objects if e.hypotheses]
        poses = sound_poses([e.best.T_cam_obj for e in answered])
        estimates = [e for e, pose in zip(answered, poses, strict=True) if pose is not None]
        for mesh_id in {e.best.mesh_id for e in estimates} - set(self._meshes):
            self._meshes[mesh_id] = self._library.load_mesh(mesh_id)
        drawing = draw_overlay(frame.image, frame.camera, estimates, self._meshes)
        self._debug.publish(BRIDGE.cv2_to_imgmsg(drawing, "rgb8", header=header))

    def _publish_tf(self, header: Header, objects: Sequence[NamedHypotheses]) -> None:
        """Send transforms unless this stamp or a later one was sent before: tf2 would warn at every listener."""
        stamp_ns = stamp_to_ns(header)
        if self._tf is None or not objects or stamp_ns <= self._last_tf_ns:
            return
        self._last_tf_ns = stamp_ns
        self._tf.sendTransform(self._transforms.fill(header, objects, self.config.tf_prefix))

    def _publisher(self, kind: type, topic: str, qos: QoSProfile | int) -> Publisher:
        overrides = QoSOverridingOptions.with_default_policies()
        return self._node.create_publisher(kind, topic, qos, qos_overriding_options=overrides)


def _shape(entry: LibraryEntry, mesh: Path) -> Shape:
    center, extent = np.asarray(entry.center, np.float64), np.asarray(entry.extent, np.float64)
    return Shape(center=center, extent=extent, uri=mesh.absolute().as_uri())
