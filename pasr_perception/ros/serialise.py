"""A result as the bytes that go out, without a node: what publishing costs before DDS takes over (for `pasr bench`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from rclpy.serialization import serialize_message
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from pasr_perception.ros.books import MarkerBook, ObjectBook, TransformBook
from pasr_perception.ros.messages import LibraryEntry, Shape, named_hypotheses
from pasr_perception.types import FrameResult


class Library(Protocol):
    """What the messages need of a mesh library."""

    @property
    def entries(self) -> Sequence[LibraryEntry]: ...

    def index_of(self, mesh_id: str) -> int: ...

    def mesh_path(self, mesh_id: str) -> Path: ...


def serialise_result(result: FrameResult, library: Library) -> int:
    """Make and serialise objects, transforms and markers of one result; returns how many bytes that is."""
    header = Header(frame_id="camera")
    objects, _ = named_hypotheses(result)
    shapes = {item.best.mesh_id: _shape(library, item.best.mesh_id) for item in objects}
    messages = (
        ObjectBook().fill(header, objects, shapes),
        TFMessage(transforms=TransformBook().fill(header, objects, "")),
        MarkerBook().update(header, objects, shapes),
    )
    return sum(len(serialize_message(message)) for message in messages)


def _shape(library: Library, mesh_id: str) -> Shape:
    entry = library.entries[library.index_of(mesh_id)]
    uri = library.mesh_path(mesh_id).absolute().as_uri()
    return Shape(np.asarray(entry.center, np.float64), np.asarray(entry.extent, np.float64), uri)
