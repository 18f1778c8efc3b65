"""Which cells of a crop show the object that its box is around, rather than what stands before or behind it.

A second small network sees that, from the maps that edges are seen in (`network.py`), knowing neither mesh nor encoder. What it is
good for: `refine/shown.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import nn

from pasr_perception.boxes.network import CROP, GRID, WIDTH, MixedTaps
from pasr_perception.geometry.camera import project, rays
from pasr_perception.types import Crop

DILATIONS = (1, 2, 4, 8)  # of the layers that see what is further away


class ShownHead(MixedTaps):
    """Taps and boxes -> logits of every cell's showing the object."""

    def __init__(self) -> None:
        super().__init__(DILATIONS)
        self.out = nn.Conv2d(WIDTH, 1, 1)

    def forward(self, taps: list[torch.Tensor], box: torch.Tensor) -> torch.Tensor:
        """Taps of crops and their boxes [B, 4] in crop pixels -> [B, GRID, GRID]."""
        return self.out(self.mixed(taps, box))[:, 0]


@dataclass(frozen=True)
class Shown:
    """What was seen through one loose box."""

    crop: Crop  # through it
    belief: np.ndarray  # [GRID, GRID] float32 0..1, that a cell of it shows the object

    def over(self, crop: Crop, grid: int) -> np.ndarray:
        """The same over a grid on another crop of the same image: [grid, grid] float32; 0 off what was seen."""
        centre = (np.arange(grid) + 0.5) * (len(crop.image) / grid)
        uv = np.stack(np.meshgrid(centre, centre), -1).reshape(-1, 2)
        seen = project(rays(uv, crop.K_crop) @ crop.R_cam_crop.T @ self.crop.R_cam_crop, self.crop.K_crop)
        at = np.nan_to_num(seen, nan=-CROP.size)  # behind that camera
        x, y = (at * (GRID / CROP.size) - 0.5).astype(np.float32).reshape(grid, grid, 2).transpose(2, 0, 1)
        return cv2.remap(self.belief, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)


def shown_in(crop: Crop, seen: Shown | None, grid: int) -> Crop:
    """The crop with what its cells show, as far as that was seen."""
    return crop if seen is None else replace(crop, shown=seen.over(crop, grid))
