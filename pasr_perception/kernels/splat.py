"""Which points every pixel of a splat takes, and how well a crop fits what it would show.

Twins: `render.splat` as it is on CUDA, and `refine.similarity`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pasr_perception.kernels.compiled import exact_kernel, floored, kernel, made_in_kernels, number, trial
from pasr_perception.kernels.cores import each_on_all_cores

AT_ONCE = 4  # points that share what reading and writing a sum of features costs
MIN_WEIGHT_SUM = 1e-4  # of a pixel's points together: NormWeightedCompositor's floor
LEAST_COVERED = 1e-4  # pixels: of a pose that covers none, the mean is 0
REACH_MARGIN = 1e-3  # pixels; a window this much wider than the radius cannot lose a hit to rounding


@dataclass(frozen=True)
class Splatting:
    """How points become pixels: `render.SplatConfig` in numbers."""

    size: int
    radius: float  # pixels
    points_per_pixel: int
    band: float  # depth behind a pixel's nearest point from which others are hidden; infinite for none


@dataclass(frozen=True)
class Taken:
    """What every pixel of a cloud's splat takes."""

    index: np.ndarray  # [S*S, K] int32 into the cloud's points, nearest first, -1 = empty
    count: np.ndarray  # [S*S] int32, how many


@made_in_kernels
def _window(middle: Any, reach: Any, size: int) -> tuple[int, int]:
    """The rows, or columns, whose middles are within reach of a coordinate: the first, and the one after the last."""
    return max(-floored(reach - middle), 0), min(floored(middle + reach), size)


@exact_kernel
def _hits(
    uv: np.ndarray,
    depth: np.ndarray,
    size: int,
    radius: np.floating,
    reach: np.floating,
    pixels: np.ndarray,
    points: np.ndarray,
    nearest: np.ndarray,
    number: np.ndarray,
) -> None:
    """Which pixels which points reach, to pixels and points [M], point after point; how many to number [1].

    The least depth of each pixel goes to nearest [S*S].
    """
    kind, far, count = uv.dtype.type, np.float32(np.inf), 0
    half = kind(0.5)
    for point in range(uv.shape[0]):
        x, y, z = uv[point, 0], uv[point, 1], depth[point]
        if not (z >= 0 and x > -reach and x < size + reach and y > -reach and y < size + reach):
            continue
        top, bottom = _window(y, reach, size)
        left, right = _window(x, reach, size)
        for row in range(top, bottom):
            dy = kind(row) + half - y
            for column in range(left, right):
                dx, pixel = kind(column) + half - x, row * size + column
                hit = dy * dy + dx * dx < radius
                pixels[count], points[count] = pixel, point
                count += hit  # where it is none the next takes its place: no branch to guess
                nearest[pixel] = min(nearest[pixel], z if hit else far)
    number[0] = count


@exact_kernel
def take_one(
    uv: np.ndarray,
    depth: np.ndarray,
    size: int,
    radius: np.floating,
    reach: np.floating,
    band: float,
    index: np.ndarray,
    nearness: np.ndarray,
    count: np.ndarray,
) -> None:
    """One cloud: uv [N, 2] and depth [N] into index and nearness [S*S, K] and count [S*S].

    `radius` is squared, of the points' own kind; `reach` is how far beyond a pixel's corner its window begins.
    """
    slots, across = index.shape[1], int(2 * reach - 1) + 1  # pixels that a window spans at most
    room = uv.shape[0] * across * across + 1
    pixels, points, number = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(1, np.int64)
    farthest = np.full(size * size, np.inf, np.float32)
    _hits(uv, depth, size, radius, reach, pixels, points, farthest, number)
    for pixel in range(size * size):
        farthest[pixel] += np.float32(band)
    kept = 0  # on most clouds a few of the hits: what is hidden is left out first, again without a branch
    for hit in range(number[0]):
        pixel, point = pixels[hit], points[hit]
        pixels[kept], points[kept] = pixel, point
        kept += depth[point] <= farthest[pixel]
    for hit in range(kept):
        pixel, point = pixels[hit], points[hit]
        z, slot = depth[point], count[pixel]
        if slot == slots:
            if not z < nearness[pixel, slots - 1]:
                continue
            slot -= 1
        else:
            count[pixel] += 1
        while slot > 0 and z < nearness[pixel, slot - 1]:
            nearness[pixel, slot], index[pixel, slot] = nearness[pixel, slot - 1], index[pixel, slot - 1]
            slot -= 1
        nearness[pixel, slot], index[pixel, slot] = z, point


@kernel
def add_four(features: np.ndarray, points: np.ndarray, weight: np.ndarray, at: int, sums: np.ndarray) -> None:
    """Add four points' features, each times its weight, to sums [D]: those from `at` on of points and weight, which are padded."""
    a, b, c, d = features[points[at]], features[points[at + 1]], features[points[at + 2]], features[points[at + 3]]
    of_a, of_b, of_c, of_d = weight[at], weight[at + 1], weight[at + 2], weight[at + 3]
    for k in range(sums.shape[0]):
        sums[k] += (of_a * number(a[k]) + of_b * number(b[k])) + (of_c * number(c[k]) + of_d * number(d[k]))


@kernel
def mean_cosines(
    uv: np.ndarray,
    index: np.ndarray,
    count: np.ndarray,
    features: np.ndarray,
    cells: np.ndarray,
    counts: np.ndarray,
    size: int,
    radius: float,
    out: np.ndarray,
) -> None:
    """Of one hypothesis, from what its pixels take: all alike, and as much as counts [S*S] say, to out [2]; `radius` is squared."""
    channels, square_radius = features.shape[1], np.float32(radius)
    shown, slots = np.empty(channels, np.float32), (index.shape[1] + AT_ONCE - 1) // AT_ONCE * AT_ONCE
    points, weight = np.zeros(slots, np.int64), np.empty(slots, np.float32)
    total, covered, counted, weighed = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    for pixel in range(size * size):
        if count[pixel] == 0:
            continue
        covered += 1
        counted += counts[pixel]
        shown[:] = 0
        weight[:] = 0  # of those that fill up
        for slot in range(count[pixel]):
            point = index[pixel, slot]
            dx = np.float32(pixel % size) + np.float32(0.5) - uv[point, 0]
            dy = np.float32(pixel // size) + np.float32(0.5) - uv[point, 1]
            points[slot], weight[slot] = point, np.float32(1) - (dx * dx + dy * dy) / square_radius
        for slot in range(0, count[pixel], AT_ONCE):
            add_four(features, points, weight, slot, shown)
        product, square = np.float32(0), np.float32(0)
        for d in range(channels):
            product += shown[d] * cells[pixel, d]
            square += shown[d] * shown[d]
        if square > 0:
            total += product / np.sqrt(square)
            weighed += counts[pixel] * product / np.sqrt(square)
    out[0] = total / max(covered, np.float32(LEAST_COVERED))
    out[1] = weighed / max(counted, np.float32(LEAST_COVERED))


def take(uv: np.ndarray, depth: np.ndarray, splatting: Splatting) -> Taken:
    """The nearest points of every pixel: uv [N, 2] pixels of any kind of float, depth [N] float32."""
    pixels, slots, kind = splatting.size**2, splatting.points_per_pixel, uv.dtype.type
    index, count = np.full((pixels, slots), -1, np.int32), np.zeros(pixels, np.int32)
    nearness = np.empty((pixels, slots), np.float32)
    radius, reach = kind(splatting.radius**2), kind(splatting.radius + 0.5 + REACH_MARGIN)
    uv, depth = np.ascontiguousarray(uv), np.ascontiguousarray(depth)
    take_one(uv, depth, splatting.size, radius, reach, splatting.band, index, nearness, count)
    return Taken(index, count)


def take_all(uv: np.ndarray, depth: np.ndarray, splatting: Splatting) -> list[Taken]:
    """`take` of several clouds: uv [B, N, 2], depth [B, N]."""
    return each_on_all_cores(lambda b: take(uv[b], depth[b], splatting), len(uv))


@trial
def _on_one_point() -> None:
    take(np.full((1, 2), 0.5, np.float32), np.ones(1, np.float32), Splatting(1, 1.0, 1, math.inf))
