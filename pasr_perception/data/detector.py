"""A detector that knows the truth but is as loose as a real one: jittered boxes, small or hidden objects missed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pasr_perception.data.records import BagFrame, Truth
from pasr_perception.types import Camera, Detection

BORDER = 1.0  # px; an edge this near to the image border stays there, as a detector cannot see beyond it


@dataclass(frozen=True)
class DetectorSpec:
    """How good the boxes are."""

    jitter: float = 0.05  # every edge moves by up to this share of the box's width (or height), evenly distributed
    min_visibility: float = 0.3  # objects less visible are missed
    min_side: float = 24.0  # px; boxes whose longer side is shorter are missed
    missed: float = 0.0  # share of visible objects that are missed all the same
    invented: float = 0.0  # boxes around nothing, as a share of the right ones
    named: bool = True  # detections carry their object's id; false: none, as from a detector that does not track

    def __post_init__(self) -> None:
        if not 0 <= self.jitter < 0.5:
            raise ValueError(f"jitter: expected a share of the box in 0..0.5, got {self.jitter}")
        if not 0 <= self.min_visibility <= 1:
            raise ValueError(f"min_visibility: expected 0..1, got {self.min_visibility}")
        for name in ("missed", "invented"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a share in 0..1, got {getattr(self, name)}")


def jitter_box(box: np.ndarray, fraction: float, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """Move the edges of an xyxy box [4] independently; edges at (or beyond) the image border stay, none crosses it."""
    width, height = box[2:] - box[:2]
    limit = np.array([camera.width, camera.height, camera.width, camera.height], float)
    moved = box + rng.uniform(-fraction, fraction, 4) * np.array([width, height, width, height])
    moved = np.clip(moved, 0, limit)
    at_border = (box <= BORDER) | (box >= limit - BORDER)
    return np.where(at_border, box, moved)


def detect(
    truths: Sequence[Truth], spec: DetectorSpec, camera: Camera, rng: np.random.Generator
) -> tuple[Detection, ...]:
    """One detection per object that is visible enough; `id` is the object's, the class stays unknown."""
    found = []
    for truth in truths:
        if truth.box is None or truth.visible_fraction < spec.min_visibility:
            continue
        if (truth.box[2:] - truth.box[:2]).max() < spec.min_side:
            continue
        if spec.missed and rng.random() < spec.missed:
            continue
        name = truth.id if spec.named else ""
        found.append(Detection(jitter_box(truth.box, spec.jitter, camera, rng), 1.0, "", name))
        if spec.invented and rng.random() < spec.invented:
            found.append(Detection(_moved_away(truth.box, camera, rng), 1.0, "", f"false_{truth.id}" if name else ""))
    return tuple(found)


def _moved_away(box: np.ndarray, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """A box [4] of this size somewhere in the image."""
    size = np.minimum(box[2:] - box[:2], (camera.width, camera.height))
    corner = rng.uniform(0, 1, 2) * ((camera.width, camera.height) - size)
    return np.concatenate([corner, corner + size])


def with_detections(frames: Iterable[BagFrame], spec: DetectorSpec, seed: int) -> Iterator[BagFrame]:
    """The frames with detections of their truths; boxes it already has (without truth) stay, jittered."""
    rng = np.random.default_rng(seed)
    for item in frames:
        camera = item.frame.camera
        found = detect(item.truths, spec, camera, rng)
        extra = tuple(replace(d, box=jitter_box(d.box, spec.jitter, camera, rng)) for d in item.detections)
        yield replace(item, detections=found + extra)
