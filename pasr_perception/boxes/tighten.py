"""The box stage: a detector's boxes, whose edges are off, become the boxes that everything after looks through; and what they show.

Templates, outlines and distance take the object to fill its box, so a box that is off by a tenth costs more than any other single
thing (docs/adr/0015-tight-boxes.md). An edge at the image's border stays: what is beyond it nobody sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from pasr_perception.boxes.network import CROP, EdgeHead, Trunk, beliefs, expected
from pasr_perception.boxes.shown import Shown, ShownHead
from pasr_perception.boxes.weights import load_head, shipped_weights
from pasr_perception.config import BoxConfig
from pasr_perception.crop import crop_detections
from pasr_perception.encoders.base import image_batch
from pasr_perception.geometry.boxes import sides
from pasr_perception.types import Camera, Crop, Detection, Frame

LEAST_SIDE = 24.0  # pixels of the image; of what is smaller, edges cannot be seen well enough


@dataclass(frozen=True)
class Tight:
    """What was made of one detection."""

    detection: Detection  # with the box that everything after looks through
    shown: Shown | None = None  # what of the image shows its object; None where nothing was looked at


class Tightener:
    """Called with a frame and its detections."""

    def __init__(self, device: torch.device, config: BoxConfig, network: Any | None = None) -> None:
        """With the package's weights unless `config` names others. Raises EncoderError for a file that holds none.

        `network`: that of an `EfficientNetLite` on the same device, which is loaded already.
        """
        head, _ = load_head(config.weights or shipped_weights(EdgeHead), EdgeHead)
        shown, _ = load_head(config.shown_weights or shipped_weights(ShownHead), ShownHead)
        self._gain = config.gain
        self._head, self._shown, self._trunk = head.to(device), shown.to(device), Trunk(network).to(device)
        self._device = device

    def __call__(self, frame: Frame, detections: Sequence[Detection]) -> list[Tight]:
        """The detections with tighter boxes, in their order; those that cannot be cropped, or are small, as they are."""
        wide = [d for d in detections if _side(d.box) >= LEAST_SIDE]
        crops, _ = crop_detections(frame, wide, CROP)
        if not crops:
            return [Tight(d) for d in detections]
        tight = {}
        for crop, box, belief in zip(crops, *self._seen(crops), strict=True):
            detection = replace(crop.detection, box=in_image(crop, box, frame.camera))
            tight[id(crop.detection)] = Tight(detection, Shown(crop, belief))
        return [tight.get(id(d), Tight(d)) for d in detections]

    @torch.no_grad()
    def _seen(self, crops: Sequence[Crop]) -> tuple[np.ndarray, np.ndarray]:
        """Where the boxes of crops should end [B, 4], in their pixels, and how surely cells show their objects [B, g, g]."""
        images = image_batch([c.image for c in crops])
        boxes = torch.tensor(np.stack([c.box for c in crops]), dtype=torch.float32, device=self._device)
        taps = self._trunk(images.to(self._device))
        edges = expected(beliefs(self._head(taps, boxes), boxes))
        shown = self._shown(taps, boxes).sigmoid()
        return (boxes + self._gain * (edges - boxes)).double().cpu().numpy(), shown.cpu().numpy()


def _side(box: np.ndarray) -> float:
    """The longer side of a box; of one that is none, 0."""
    box = np.asarray(box, dtype=np.float64)
    return float((box[2:] - box[:2]).max()) if box.shape == (4,) and np.isfinite(box).all() else 0.0


def in_image(crop: Crop, moved: np.ndarray, camera: Camera) -> np.ndarray:
    """The detection's box [4] with its edges moved as `moved` [4] differs from `crop.box`, within the image."""
    box = np.asarray(crop.detection.box, dtype=np.float64)
    tight = box + (moved - crop.box) * (sides(box) / sides(crop.box))
    within = np.clip(tight, 0, [camera.width, camera.height] * 2)
    return np.where(crop.clipped, box, within)
