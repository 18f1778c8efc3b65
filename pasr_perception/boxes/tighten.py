"""The box stage: a detector's boxes, whose edges are off, become the boxes that everything after looks through.

Templates, outlines and distance take the object to fill its box, so a box that is off by a tenth costs more than any other single
thing (docs/adr/0015-tight-boxes.md). An edge at the image's border stays: what is beyond it nobody sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from pasr_perception.boxes.network import CROP, Trunk, beliefs, expected
from pasr_perception.boxes.weights import load_head, shipped_weights
from pasr_perception.config import BoxConfig
from pasr_perception.crop import crop_detections
from pasr_perception.encoders.base import image_batch
from pasr_perception.geometry.boxes import sides
from pasr_perception.types import Camera, Crop, Detection, Frame

LEAST_SIDE = 24.0  # pixels of the image; of what is smaller, edges cannot be seen well enough


class Tightener:
    """Called with a frame and its detections."""

    def __init__(self, device: torch.device, config: BoxConfig, network: Any | None = None) -> None:
        """With the package's weights unless `config` names others. Raises EncoderError for a file that holds none.

        `network`: that of an `EfficientNetLite` on the same device, which is loaded already.
        """
        head, _ = load_head(config.weights or shipped_weights())
        self._gain = config.gain
        self._head, self._trunk, self._device = head.to(device), Trunk(network).to(device), device

    def __call__(self, frame: Frame, detections: Sequence[Detection]) -> list[Detection]:
        """The detections with tighter boxes, in their order; those that cannot be cropped, or are small, as they are."""
        wide = [d for d in detections if _side(d.box) >= LEAST_SIDE]
        crops, _ = crop_detections(frame, wide, CROP)
        if not crops:
            return list(detections)
        moved = self._moved(crops)
        tight = {id(c.detection): in_image(c, box, frame.camera) for c, box in zip(crops, moved, strict=True)}
        return [replace(d, box=tight[id(d)]) if id(d) in tight else d for d in detections]

    @torch.no_grad()
    def _moved(self, crops: Sequence[Crop]) -> np.ndarray:
        """Where the boxes of crops should end [B, 4], in their pixels."""
        images = image_batch([c.image for c in crops])
        boxes = torch.tensor(np.stack([c.box for c in crops]), dtype=torch.float32, device=self._device)
        edges = expected(beliefs(self._head(self._trunk(images.to(self._device)), boxes), boxes))
        return (boxes + self._gain * (edges - boxes)).double().cpu().numpy()


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
