"""What a bag holds, as frozen dataclasses: camera frames with detections and truth, and what the node published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from pasr_perception.types import Detection, Frame


@dataclass(frozen=True)
class Truth:
    """Ground truth of one object in one frame."""

    id: str  # the same in every frame; detections of this object carry it too
    mesh_id: str
    T_cam_obj: np.ndarray  # [4, 4] float64, metres
    box: np.ndarray | None = None  # [4] float64, xyxy pixels around what is visible; None = unknown
    visible_fraction: float = 1.0  # visible pixels / all pixels of the object, those outside the image too
    center: np.ndarray = field(default_factory=lambda: np.zeros(3))  # [3] of the mesh's bounds, in obj, metres
    size: np.ndarray = field(default_factory=lambda: np.zeros(3))  # [3] extents of those bounds, metres; 0 = unknown


@dataclass(frozen=True)
class BagFrame:
    """One camera image and everything in the bag that carries its stamp."""

    frame: Frame
    detections: tuple[Detection, ...] = ()
    truths: tuple[Truth, ...] = ()
    T_fixed_cam: np.ndarray | None = (
        None  # [4, 4] float64, where the camera is in a frame that stands still; None = unknown
    )


@dataclass(frozen=True)
class PublishedHypothesis:
    """One ranked answer as it was published."""

    mesh_id: str
    score: float
    T_cam_obj: np.ndarray  # [4, 4] float64, metres


@dataclass(frozen=True)
class PublishedObject:
    """One Detection3D: hypotheses in the published order (best first)."""

    id: str
    hypotheses: tuple[PublishedHypothesis, ...]
    center: np.ndarray  # [3] of the metric box, in cam, metres
    size: np.ndarray  # [3] of the metric box, metres


@dataclass(frozen=True)
class PublishedFrame:
    """One Detection3DArray."""

    stamp_ns: int  # of the image it answers
    log_ns: int  # when it was recorded
    frame_id: str
    objects: tuple[PublishedObject, ...]


@dataclass(frozen=True)
class PublishedStatus:
    """One DiagnosticStatus."""

    log_ns: int
    name: str
    level: int
    message: str
    values: Mapping[str, str]
