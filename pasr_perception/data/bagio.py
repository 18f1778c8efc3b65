"""rosbag2 (mcap) bags without ROS: written complete or not at all, read lazily, damage reported by file and topic."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer

from pasr_perception.data import messages
from pasr_perception.data.assemble import BagTopics, FrameAssembler, RawMessage
from pasr_perception.data.records import BagFrame, PublishedFrame, PublishedStatus
from pasr_perception.data.ros_types import ros_types
from pasr_perception.types import Detection

Decoded = TypeVar("Decoded")


class BagError(ValueError):
    """A bag that cannot be read or written; the message names the file and, where it is known, the topic."""


class BagWriter:
    """Writes the bag folder `path`; it appears when the `with` block ends well and not at all when it fails.

    Raises BagError where `path` exists and is not to be overwritten, or is no bag.
    """

    def __init__(self, path: str | Path, overwrite: bool = False) -> None:
        self.path = Path(path)
        if self.path.exists() and not overwrite:
            raise BagError(f"{self.path}: exists already; choose another place or allow overwriting")
        if self.path.exists() and not (self.path / "metadata.yaml").is_file():
            raise BagError(f"{self.path}: exists and is not a bag (no metadata.yaml), so it is not overwritten")
        self._connections: dict[str, Any] = {}

    def __enter__(self) -> BagWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # the folder's name becomes the mcap's name, so the bag is built under its own name in a hidden folder
        self._workspace = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.", dir=self.path.parent))
        self._writer = Writer(self._workspace / self.path.name, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._writer.__exit__(kind, value, trace)
            if kind is None:
                if self.path.exists():
                    shutil.rmtree(self.path)
                os.replace(self._workspace / self.path.name, self.path)
        finally:
            shutil.rmtree(self._workspace, ignore_errors=True)

    def declare(self, topic: str, kind: str) -> None:
        """Make `topic` known even if nothing is ever written to it. BagError for a type that nobody here knows."""
        if topic in self._connections:
            return
        if kind not in ros_types().fielddefs:
            raise BagError(f"{self.path}: topic {topic}: no definition of message type {kind} is known here")
        self._connections[topic] = self._writer.add_connection(topic, kind, typestore=ros_types())

    def write_raw(self, message: RawMessage) -> None:
        """Append one serialised message."""
        self.declare(message.topic, message.type)
        self._writer.write(self._connections[message.topic], message.log_ns, message.data)

    def write(self, topic: str, message: Any, log_ns: int) -> None:
        """Append one `rosbags` message object."""
        kind = message.__msgtype__
        self.write_raw(RawMessage(topic, kind, log_ns, bytes(ros_types().serialize_cdr(message, kind))))

    def write_frame(self, item: BagFrame, topics: BagTopics, jpeg_quality: int = 0) -> None:
        """Append an image with everything that belongs to it; `jpeg_quality` 0 = uncompressed."""
        frame = item.frame
        stamp, name = frame.stamp_ns, frame.frame_id
        if item.T_fixed_cam is not None:  # first: whoever takes the image can look it up
            self.write(topics.tf, messages.camera_transform_message(item.T_fixed_cam, stamp, name), stamp)
        if jpeg_quality:
            self.write(topics.compressed, messages.compressed_image_message(frame, jpeg_quality), stamp)
        else:
            self.write(topics.image, messages.image_message(frame), stamp)
        self.write(topics.camera_info, messages.camera_info_message(frame), stamp)
        self.write(topics.detections, messages.detections_message(item.detections, stamp, name), stamp)
        self.write(topics.truth, messages.truths_message(item.truths, stamp, name), stamp)
        boxes = tuple(Detection(t.box, t.visible_fraction, t.mesh_id, t.id) for t in item.truths if t.box is not None)
        self.write(topics.truth_boxes, messages.detections_message(boxes, stamp, name), stamp)


def write_frames(path: str | Path, frames: Iterable[BagFrame], overwrite: bool = False, jpeg_quality: int = 0) -> int:
    """Write a whole input bag; returns how many frames it holds."""
    count = 0
    with BagWriter(path, overwrite) as writer:
        for item in frames:
            writer.write_frame(item, BagTopics(), jpeg_quality)
            count += 1
        if not count:
            raise BagError(f"{path}: expected at least one frame to write, got none")
    return count


@contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    """A damaged file can fail anywhere inside the parser: whatever is raised becomes a BagError with its place."""
    try:
        yield
    except BagError:
        raise
    except Exception as error:
        raise BagError(f"{path}: {what}: {type(error).__name__}: {error}") from error


class BagReader:
    """Opens a rosbag2 folder or a single .mcap/.db3 file; types are the bag's own definitions if it has them."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise BagError(f"{self.path}: no such bag")

    def __enter__(self) -> BagReader:
        with _reading(self.path, "cannot open as a rosbag2 bag"):
            self._reader = AnyReader([self.path], default_typestore=ros_types())
            self._reader.open()
            self.topics = {c.topic: c.msgtype for c in self._reader.connections}
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def raw(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Messages of `topics` (all by default) in recording order, serialised."""
        wanted = [c for c in self._reader.connections if topics is None or c.topic in topics]
        source = self._reader.messages(connections=wanted) if wanted else iter(())
        what = "file"
        while True:
            with _reading(self.path, f"damaged or truncated after {what}"):
                item = next(source, None)
            if item is None:
                return
            connection, log_ns, data = item
            what = f"a message of topic {connection.topic}"
            yield RawMessage(connection.topic, connection.msgtype, log_ns, bytes(data))

    def messages(self, topics: Collection[str] | None = None) -> Iterator[tuple[RawMessage, Any]]:
        """The same together with the deserialised `rosbags` message object."""
        for item in self.raw(topics):
            where = f"topic {item.topic}: message at {item.log_ns} ns"
            with _reading(self.path, f"{where} is damaged ({len(item.data)} bytes)"):
                message = self._reader.deserialize(item.data, item.type)
            yield item, message

    def convert(self, topics: Collection[str], decode: Callable[[RawMessage, Any], Decoded]) -> Iterator[Decoded]:
        """`decode(raw, message)` of every message; a ValueError it raises becomes a BagError naming file and topic."""
        for item, message in self.messages(topics):
            with _reading(self.path, f"topic {item.topic}: message at {item.log_ns} ns"):
                decoded = decode(item, message)
            yield decoded


def read_frames(path: str | Path, topics: BagTopics | None = None) -> Iterator[BagFrame]:
    """The camera frames of a bag, one after the other, with the detections and truth of the same stamp.

    A frame without a CameraInfo of its own gets the latest one. Raises BagError for damage and missing topics.
    """
    topics = topics or BagTopics()
    with BagReader(path) as reader:
        images = (topics.image, topics.compressed)
        wanted = (*images, topics.camera_info, topics.detections, topics.truth, topics.truth_boxes, topics.tf)
        for choice in (images, (topics.camera_info,)):
            if not any(topic in reader.topics for topic in choice):
                has = ", ".join(sorted(reader.topics)) or "none"
                raise BagError(f"{reader.path}: expected topic {' or '.join(choice)}; the bag has: {has}")
        assembler = FrameAssembler(reader.path, topics, reader.topics)
        for frames in reader.convert(wanted, assembler.add):
            yield from frames
        with _reading(reader.path, f"topic {topics.image}"):
            rest = assembler.take(keep=0)
        yield from rest


def read_published(path: str | Path, topic: str = "/pasr_node/objects") -> Iterator[PublishedFrame]:
    """What the node answered, from a recorded bag, in recording order."""
    with BagReader(path) as reader:
        yield from reader.convert([topic], lambda raw, message: messages.published_from_message(message, raw.log_ns))


def read_statuses(path: str | Path, topic: str = "/diagnostics") -> Iterator[PublishedStatus]:
    """Every DiagnosticStatus of a recorded bag, in recording order."""
    with BagReader(path) as reader:
        decoded = reader.convert([topic], lambda raw, message: messages.statuses_from_message(message, raw.log_ns))
        for statuses in decoded:
            yield from statuses
