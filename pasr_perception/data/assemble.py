"""Joining the messages of a bag that carry the same stamp into frames."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pasr_perception.data import messages
from pasr_perception.data.records import BagFrame, Truth
from pasr_perception.types import Camera, Detection, Frame

log = logging.getLogger(__name__)

MAX_PENDING = 30  # images that may wait for their detections before they are handed out without


@dataclass(frozen=True)
class BagTopics:
    """Topic names of an input bag (DESIGN section 6)."""

    image: str = "/camera/image_raw"  # or, compressed, the same with "/compressed" appended
    camera_info: str = "/camera/camera_info"
    detections: str = "/detections"
    truth: str = "/ground_truth/objects"
    truth_boxes: str = "/ground_truth/boxes"
    tf: str = "/tf"

    @property
    def compressed(self) -> str:
        return f"{self.image}/compressed"


@dataclass(frozen=True)
class RawMessage:
    """One message as it lies in the bag."""

    topic: str
    type: str  # e.g. sensor_msgs/msg/Image
    log_ns: int
    data: bytes  # CDR


@dataclass
class _Pending:
    """What has come so far for one stamp."""

    image: np.ndarray | None = None
    frame_id: str = ""
    camera: Camera | None = None
    detections: tuple[Detection, ...] | None = None
    truth: Any = None
    boxes: dict[str, np.ndarray] | None = None
    T_fixed_cam: np.ndarray | None = None


class FrameAssembler:
    """Joins messages that carry the same stamp into frames, in the order of their stamps."""

    def __init__(self, path: Path, topics: BagTopics, present: Collection[str]) -> None:
        self._path, self._topics = path, topics
        parts = {"camera": topics.camera_info, "detections": topics.detections}
        parts |= {"truth": topics.truth, "boxes": topics.truth_boxes}
        self._needs = [name for name, topic in parts.items() if topic in present]
        self._pending: dict[int, _Pending] = {}
        self._camera: Camera | None = None

    def add(self, raw: RawMessage, message: Any) -> list[BagFrame]:
        """Take one message; returns the frames that are now complete (or have waited too long)."""
        topics = self._topics
        if raw.topic == topics.tf:
            T_fixed_cam = messages.camera_transform_from_message(message)
            if T_fixed_cam is not None:
                self._pending.setdefault(messages.stamp_of(message), _Pending()).T_fixed_cam = T_fixed_cam
            return self.take(keep=MAX_PENDING)
        stamp = messages.stamp_of(message)
        entry = self._pending.setdefault(stamp, _Pending())
        if raw.topic in (topics.image, topics.compressed):
            entry.image, entry.frame_id = messages.image_from_message(message), message.header.frame_id
        elif raw.topic == topics.camera_info:
            entry.camera = self._camera = messages.camera_from_message(message)
        elif raw.topic == topics.detections:
            entry.detections = messages.detections_from_message(message)
        elif raw.topic == topics.truth:
            entry.truth = message
        else:
            entry.boxes = {d.id: d.box for d in messages.detections_from_message(message)}
        return self.take(keep=MAX_PENDING)

    def take(self, keep: int) -> list[BagFrame]:
        """Frames from the front of the queue: complete ones, and incomplete ones while more than `keep` wait."""
        ready = []
        while self._pending:
            stamp = min(self._pending)
            entry = self._pending[stamp]
            complete = entry.image is not None and all(getattr(entry, name) is not None for name in self._needs)
            if not complete and len(self._pending) <= keep:
                break
            del self._pending[stamp]
            if entry.image is None:
                log.debug("%s: messages stamped %d ns have no image and are left out", self._path, stamp)
            else:
                ready.append(self._frame(stamp, entry))
        return ready

    def _frame(self, stamp: int, entry: _Pending) -> BagFrame:
        camera = entry.camera or self._camera
        if camera is None or entry.image is None:
            raise ValueError(f"no camera calibration on {self._topics.camera_info} for the image stamped {stamp} ns")
        truths: tuple[Truth, ...] = ()
        if entry.truth is not None:
            truths = messages.truths_from_message(entry.truth, entry.boxes or {})
        height, width = entry.image.shape[:2]
        camera = camera if (camera.width, camera.height) != (0, 0) else replace(camera, width=width, height=height)
        frame = Frame(entry.image, camera, stamp, entry.frame_id)
        return BagFrame(frame, entry.detections or (), truths, entry.T_fixed_cam)
