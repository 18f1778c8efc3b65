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
from pasr_perception.kernels.cores import on_all_cores
from pasr_perception.refine.problem import Clouds, Pose, RenderScene
from pasr_perception.refine.similarity import projected
from pasr_perception.types import Crop

SIDE = 112  # pixels of the crop as it is looked at
BORDER = 14  # pixels around it that a silhouette may reach, and around a silhouette that are looked at
SMOOTHING = 1.0  # pixels, of the gradients
NEUTRAL = 0.5  # agreement that speaks neither for nor against
LEAST_PIXELS = 10  # of contour and bands each, below which there is nothing to say


@dataclass(frozen=True)
class CropEdges:
    """What contours are compared with in B crops."""

    edges: np.ndarray  # [B, S, S, 3] float32: gradient in x and y of the channel that changes most, and its length
    shade: (
        np.ndarray
    )  # [B, S, S] int16, the colour's cell; -1 where the photo shows nothing, whose border is no contour

    @classmethod
    def of(cls, crops: Sequence[Crop]) -> CropEdges:
        edges, shades = zip(*(_edges_and_shades(crop.image) for crop in crops), strict=True)
        return cls(np.stack(edges), np.stack(shades))


def _edges_and_shades(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[S, S, 3] float32 and [S, S] int16 of one crop's image."""
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    smooth = cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32), (0, 0), SMOOTHING)
    edges, shade = np.empty((SIDE, SIDE, 3), np.float32), np.empty((SIDE, SIDE), np.int16)
    kernels.strongest_edges(smooth, edges)
    kernels.shades(small, image, np.array(BACKGROUND, np.uint8), shade)
    return edges, shade


def distances(uv: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """How far pixels lie within the silhouette of points uv [N, 2] grown by `CLOSING`, and how far from the points.

    Both [h, w], of the part of the crop and its border that silhouettes reach, and the pixel [2] (x, y) where it begins;
    None where no point is there. The silhouette itself, closed over the gaps between points, is where the former exceeds `CLOSING`.
    """
    marks, bounds = np.ones((SIDE + 2 * BORDER,) * 2, np.uint8), np.array([SIDE + 2 * BORDER] * 2 + [-1, -1])
    kernels.mark(uv, BORDER, marks, bounds)
    if bounds[2] < 0:
        return None
    left, top = np.maximum(bounds[:2] - BORDER, 0)
    right, bottom = bounds[2:] + BORDER + 1
    outer = cv2.distanceTransform(marks[top:bottom, left:right], cv2.DIST_L2, 5)
    inner = cv2.distanceTransform((outer <= kernels.CLOSING).astype(np.uint8), cv2.DIST_L2, 5)
    return inner, outer, np.array([left - BORDER, top - BORDER])


def evidence(uv: np.ndarray, edges: np.ndarray, shade: np.ndarray) -> np.ndarray:
    """Edge and region cue [2] of points uv [N, 2] (float32, pixels of `SIDE`) over one crop; `NEUTRAL` where nothing is seen."""
    around = distances(uv)
    if around is None:
        return np.full(2, NEUTRAL, np.float32)
    found, counts = np.empty(3, np.float32), np.empty((2, kernels.SHADES**3), np.float32)
    kernels.look_along(*around, edges, shade, counts, found)
    return found[:2] if found[2] >= LEAST_PIXELS else np.full(2, NEUTRAL, np.float32)


def contour_agreement(
    pose: Pose, cloud: torch.Tensor, clouds: Clouds, seen: CropEdges, crop: torch.Tensor, scene: RenderScene
) -> torch.Tensor:
    """How much crops [H] look as if clouds [H] ended where they do at poses: [H], 0..1, on the clouds' device.

    Poses are where the points are: of a rendering that was scaled, without the margin of its splats (`splat_margin`).
    """
    uv = projected(pose, cloud, clouds, scene)[0].cpu().numpy() * np.float32(SIDE / scene.splat.size)
    of_crop, found = crop.tolist(), np.empty(len(uv), np.float32)

    def one(h: int) -> None:
        found[h] = evidence(uv[h], seen.edges[of_crop[h]], seen.shade[of_crop[h]]).mean()

    on_all_cores(one, len(uv))
    return torch.from_numpy(found).to(clouds.points.device)
