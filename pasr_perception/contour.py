"""Contours: whether a crop looks as if the object ended where a pose says that it ends. Own; PASR compares features alone.

A patch feature says what is at a place, not how far it reaches: a short can and a long one have much the same. The image itself
has ten times as many pixels. Two cues of contour-based tracking are taken from it, along the silhouette that a pose gives a mesh:

    edge   = mean over the contour's pixels of   max_k exp(-k^2 / 8) |g . n| / (|g| + 1)
    region = 1 - sum over colours of   sqrt(p p')

with the crop's gradient g within a few pixels k along the normal n, and the shares p, p' that a colour has of the band inside the
contour and of the one outside (Bhattacharyya). Gradients count by direction more than by strength: an edge that crosses the contour
says nothing for it. Agreement is the mean of the two, `NEUTRAL` where next to nothing of the contour is seen. It needs neither
colours nor features of the mesh, so it speaks where features of bare meshes say least.

The silhouette is that of the library's points, closed over the gaps between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from pasr_perception.crop import BACKGROUND
from pasr_perception.kernels import contour as kernels
from pasr_perception.refine.problem import Clouds, Pose, RenderScene
from pasr_perception.types import Crop

SIDE = 112  # pixels of the crop as it is looked at
SMOOTHING = 1.0  # pixels, of the gradients
NEUTRAL = 0.5  # agreement that speaks neither for nor against
LEAST_PIXELS = 10  # of contour and bands each, below which there is nothing to say


@dataclass(frozen=True)
class CropEdges:
    """What contours are compared with in B crops."""

    each: tuple[kernels.Seen, ...]

    @classmethod
    def of(cls, crops: Sequence[Crop]) -> CropEdges:
        return cls(tuple(_edges_and_shades(crop.image) for crop in crops))


def _edges_and_shades(image: np.ndarray) -> kernels.Seen:
    """Of one crop's image."""
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    smooth = cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32), (0, 0), SMOOTHING)
    edges, shade = np.empty((SIDE, SIDE, 3), np.float32), np.empty((SIDE, SIDE), np.int16)
    kernels.strongest_edges(smooth, edges)
    kernels.shades(small, image, np.array(BACKGROUND, np.uint8), shade)
    return kernels.Seen(edges, shade)


def evidence(found: np.ndarray) -> np.ndarray:
    """Edge and region cue [..., 2] of what was found [..., 3] (`kernels.contour`); `NEUTRAL` where next to nothing was seen."""
    return np.where(found[..., 2:] >= LEAST_PIXELS, found[..., :2], np.float32(NEUTRAL))


def contour_agreement(
    pose: Pose, cloud: torch.Tensor, clouds: Clouds, seen: CropEdges, crop: torch.Tensor, scene: RenderScene
) -> torch.Tensor:
    """How much crops [H] look as if clouds [H] ended where they do at poses: [H], 0..1, on the clouds' device.

    Poses are where the points are: of a rendering that was scaled, without the margin of its splats (`splat_margin`).
    """
    points = clouds.points.cpu().contiguous().numpy()
    mine, of_crop = [points[c] for c in cloud.tolist()], [seen.each[b] for b in crop.tolist()]
    found = kernels.looks(pose.in_loops, mine, of_crop, scene.view.numbers)
    return torch.from_numpy(evidence(found).mean(1)).to(clouds.points.device)
