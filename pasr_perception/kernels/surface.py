"""Splatted pixels as pieces of surface. Twin: `refine.template.closer_in_tensors`, as it is on CUDA."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pasr_perception.kernels.compiled import kernel, trial
from pasr_perception.kernels.cores import on_all_cores
from pasr_perception.kernels.splat import Splatting

PIXELS_AT_A_TIME = 128  # a fraction of a millisecond
LEAST_LENGTH = 1e-8  # of what a pixel shows
LEAST_COSINE = 0.05  # of a pixel's curvature, which is that of a match


@dataclass(frozen=True)
class Shown:
    """m covered pixels of H hypotheses, all of them float32 but for what counts."""

    hypothesis: np.ndarray  # [m] int64
    cell: np.ndarray  # [m] int64, row * size + column
    index: np.ndarray  # [m, K] int64 of the points that each takes, -1 = empty
    weight: np.ndarray  # [m, K] of these
    feature: np.ndarray  # [m, D] that they show, of any length
    seen: np.ndarray  # [m, D] unit, of the crop
    cosine: np.ndarray  # [m] of the two


@dataclass(frozen=True)
class Placed:
    """The points that pixels were made of, float32."""

    uv: np.ndarray  # [H, N, 2] pixels
    cloud: np.ndarray  # [H] int64
    points: np.ndarray  # [C, N, 3] object frame
    features: np.ndarray  # [C, N, D]


@dataclass(frozen=True)
class Pieces:
    """What small movements of m pieces of surface change; see `refine.template.Template`."""

    surface: np.ndarray  # [m, 3]
    unit: np.ndarray  # [m, D] what is shown, of unit length
    pull: np.ndarray  # [m, 2]
    metric: np.ndarray  # [m, 2, 2]

    @classmethod
    def empty(cls, count: int, channels: int) -> Pieces:
        return cls(*(np.empty((count, *shape), np.float32) for shape in ((3,), (channels,), (2,), (2, 2))))


@kernel
def _closer(
    first: int,
    last: int,
    hypothesis: np.ndarray,
    cell: np.ndarray,
    index: np.ndarray,
    weight: np.ndarray,
    feature: np.ndarray,
    seen: np.ndarray,
    cosine: np.ndarray,
    uv: np.ndarray,
    cloud: np.ndarray,
    points: np.ndarray,
    features: np.ndarray,
    size: int,
    radius: float,
    floor: float,
    surface: np.ndarray,
    unit: np.ndarray,
    pull: np.ndarray,
    metric: np.ndarray,
) -> None:
    """The pixels first to last - 1; `radius` is squared, `floor` is the least weight of a pixel's points together."""
    channels, half = feature.shape[1], np.float32(0.5)
    by_x, by_y = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for i in range(first, last):
        h, total = hypothesis[i], np.float32(0)
        mesh = cloud[h]
        middle_x, middle_y = np.float32(cell[i] % size) + half, np.float32(cell[i] // size) + half
        by_x[:], by_y[:], surface[i] = 0, 0, 0
        for slot in range(index.shape[1]):
            point = index[i, slot]
            if point < 0:
                continue
            w = weight[i, slot]
            total += w
            for axis in range(3):
                surface[i, axis] += w * points[mesh, point, axis]
            rate_x = (middle_x - uv[h, point, 0]) * np.float32(2 / radius)
            rate_y = (middle_y - uv[h, point, 1]) * np.float32(2 / radius)
            for d in range(channels):
                by_x[d] += rate_x * features[mesh, point, d]
                by_y[d] += rate_y * features[mesh, point, d]
        total, square = max(total, np.float32(floor)), np.float32(0)
        for d in range(channels):
            square += feature[i, d] * feature[i, d]
        length = max(np.float32(math.sqrt(square)), np.float32(LEAST_LENGTH))
        along_x, along_y, fits_x, fits_y = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        xx, xy, yy = np.float32(0), np.float32(0), np.float32(0)
        for d in range(channels):
            unit[i, d] = feature[i, d] / length
            along_x += by_x[d] * unit[i, d]
            along_y += by_y[d] * unit[i, d]
            fits_x += by_x[d] * seen[i, d]
            fits_y += by_y[d] * seen[i, d]
            xx += by_x[d] * by_x[d]
            xy += by_x[d] * by_y[d]
            yy += by_y[d] * by_y[d]
        for axis in range(3):
            surface[i, axis] /= total
        scale = np.float32(1) / (total * length)
        pull[i, 0], pull[i, 1] = (fits_x - along_x * cosine[i]) * scale, (fits_y - along_y * cosine[i]) * scale
        bent = max(cosine[i], np.float32(LEAST_COSINE)) * scale * scale
        metric[i, 0, 0], metric[i, 1, 1] = bent * (xx - along_x * along_x), bent * (yy - along_y * along_y)
        metric[i, 0, 1] = metric[i, 1, 0] = bent * (xy - along_x * along_y)


def closer(shown: Shown, placed: Placed, splatting: Splatting, floor: float) -> Pieces:
    """Splatted pixels as pieces of surface; `floor` is the least weight of a pixel's points together."""
    count = len(shown.cell)
    found = Pieces.empty(count, shown.feature.shape[1])
    pixels = Shown(*(np.ascontiguousarray(a) for a in vars(shown).values()))
    points = Placed(*(np.ascontiguousarray(a) for a in vars(placed).values()))

    def piece(number: int) -> None:
        first = number * PIXELS_AT_A_TIME
        last = min(first + PIXELS_AT_A_TIME, count)
        _closer(
            first,
            last,
            pixels.hypothesis,
            pixels.cell,
            pixels.index,
            pixels.weight,
            pixels.feature,
            pixels.seen,
            pixels.cosine,
            points.uv,
            points.cloud,
            points.points,
            points.features,
            splatting.size,
            splatting.radius**2,
            floor,
            found.surface,
            found.unit,
            found.pull,
            found.metric,
        )

    on_all_cores(piece, -(-count // PIXELS_AT_A_TIME))
    return found


@trial
def _on_one_pixel() -> None:
    def ones(*shape: int) -> np.ndarray:
        return np.ones((1, *shape), np.float32)

    none = np.zeros(1, np.int64)
    shown = Shown(none, none, none[None], ones(1), ones(8), ones(8), ones())
    placed = Placed(ones(1, 2), none, ones(1, 3), ones(1, 8))
    closer(shown, placed, Splatting(1, 1.0, 1, math.inf), 1e-4)
