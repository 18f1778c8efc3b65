"""One hypothesis' splat as pieces of surface. Twin: `refine.template.cut_template`, as it is on CUDA."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from pasr_perception.kernels.compiled import kernel, made_in_kernels
from pasr_perception.kernels.splat import AT_ONCE, MIN_WEIGHT_SUM, add_four

PIXELS_ENOUGH = 200  # covered pixels of a hypothesis beyond which every second one says the same
RESIDUAL_FLOOR = (
    1.0  # robust weights are never narrower: in a clean image the pixels that disagree are the ones to learn from
)
LEAST_LENGTH = 1e-8  # of what a pixel shows
LEAST_COSINE = 0.05  # of a pixel's curvature, which is that of a match


class Cloud(NamedTuple):
    """One mesh's points, float32 but for the features."""

    points: np.ndarray  # [N, 3] object frame
    features: np.ndarray  # [N, D] `as_numbers`
    outer: np.ndarray  # [K, 3] the points that may form its outline


class Pixels(NamedTuple):
    """Covered pixels of one hypothesis, as pieces of surface: `refine.template.Template`."""

    surface: np.ndarray  # [P, 3] object frame
    middle: np.ndarray  # [P, 2] where each was splatted
    weight: np.ndarray  # [P], sum 1
    feature: np.ndarray  # [P, D] unit
    pull: np.ndarray  # [P, 2]
    metric: np.ndarray  # [P, 2, 2]


@made_in_kernels
def pixels_room(count: int, channels: int) -> Pixels:
    """Room for so many."""
    surface, feature = np.empty((count, 3), np.float32), np.empty((count, channels), np.float32)
    middle, pull, metric = (
        np.empty((count, 2), np.float32),
        np.empty((count, 2), np.float32),
        np.empty((count, 2, 2), np.float32),
    )
    return Pixels(surface, middle, np.empty(count, np.float32), feature, pull, metric)


@kernel
def keep(count: np.ndarray, size: int, kept: np.ndarray, number: np.ndarray) -> None:
    """The covered pixels, of many those like the squares of one colour on a chess board: to kept, their number to number [1]."""
    covered = 0
    for pixel in range(count.shape[0]):
        covered += count[pixel] > 0
    checked = 2 if covered > PIXELS_ENOUGH else 1
    for pixel in range(count.shape[0]):
        if count[pixel] > 0 and (pixel % size + pixel // size) % checked == 0:
            kept[number[0]] = pixel
            number[0] += 1


@kernel
def _cut_one(
    pixel: int,
    i: int,
    cloud: Cloud,
    cells: np.ndarray,
    points: np.ndarray,
    count: int,
    uv: np.ndarray,
    size: int,
    radius: float,
    weights: np.ndarray,
    sums: np.ndarray,
    pixels: Pixels,
    cosine: np.ndarray,
) -> None:
    """One pixel, made of the first `count` of points [K], to place i; weights [3, K] and sums [2, D] are scratch."""
    cell, half, surface, shown = cells[pixel], np.float32(0.5), pixels.surface[i], pixels.feature[i]
    by_x, by_y = sums[0], sums[1]
    shown[:], by_x[:], by_y[:], surface[:] = 0, 0, 0, 0
    pixels.middle[i, 0], pixels.middle[i, 1] = np.float32(pixel % size) + half, np.float32(pixel // size) + half
    total, by_square = np.float32(0), np.float32(1 / radius)
    weights[:] = 0
    for slot in range(count):
        point = points[slot]
        dx, dy = pixels.middle[i, 0] - uv[point, 0], pixels.middle[i, 1] - uv[point, 1]
        w = np.float32(1) - (dx * dx + dy * dy) * by_square
        weights[0, slot], weights[1, slot], weights[2, slot] = w, 2 * dx * by_square, 2 * dy * by_square
        total += w
        for axis in range(3):
            surface[axis] += w * cloud.points[point, axis]
    for slot in range(0, count, AT_ONCE):
        add_four(cloud.features, points, weights[0], slot, shown)
        add_four(cloud.features, points, weights[1], slot, by_x)
        add_four(cloud.features, points, weights[2], slot, by_y)
    square, product, along_x, along_y = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    for d in range(shown.shape[0]):
        square += shown[d] * shown[d]
        product += shown[d] * cell[d]
        along_x += by_x[d] * shown[d]
        along_y += by_y[d] * shown[d]
    total = max(total, np.float32(MIN_WEIGHT_SUM))
    scale = np.float32(1) / (total * max(math.sqrt(square) / total, np.float32(LEAST_LENGTH)))  # 1 / length shown
    along_x *= scale * scale
    along_y *= scale * scale
    fits_x, fits_y, xx, xy, yy = np.float32(0), np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    for d in range(shown.shape[0]):  # what is shown changes in length too, which no cosine notices
        across_x, across_y = by_x[d] - along_x * shown[d], by_y[d] - along_y * shown[d]
        fits_x += across_x * cell[d]
        fits_y += across_y * cell[d]
        xx += across_x * across_x
        xy += across_x * across_y
        yy += across_y * across_y
    cosine[i] = product * scale
    for axis in range(3):
        surface[axis] /= total
    for d in range(shown.shape[0]):
        shown[d] *= scale
    pixels.pull[i, 0], pixels.pull[i, 1] = fits_x * scale, fits_y * scale
    bent = max(cosine[i], np.float32(LEAST_COSINE)) * scale * scale
    pixels.metric[i, 0, 0], pixels.metric[i, 1, 1] = bent * xx, bent * yy
    pixels.metric[i, 0, 1] = pixels.metric[i, 1, 0] = bent * xy


@kernel
def _weigh(cosine: np.ndarray, scale: float, weight: np.ndarray) -> None:
    """Robust weights, sum 1: `refine.template.robust_weight`."""
    weight[:] = 1
    if scale > 0:
        median = np.sort(np.float32(1) - cosine)[(cosine.shape[0] - 1) // 2]
        wide = max(np.float32(scale) * median, np.float32(RESIDUAL_FLOOR))
        for i in range(cosine.shape[0]):
            off = (np.float32(1) - cosine[i]) / wide
            bounded = np.float32(1) + off * off
            weight[i] = np.float32(1) / (bounded * bounded)
    total = np.float32(0)
    for i in range(weight.shape[0]):
        total += weight[i]
    for i in range(weight.shape[0]):
        weight[i] /= max(total, np.float32(1e-6))


@kernel
def cut(
    cloud: Cloud,
    cells: np.ndarray,
    index: np.ndarray,
    count: np.ndarray,
    uv: np.ndarray,
    size: int,
    radius: float,
    robust: float,
    kept: np.ndarray,
    pixels: Pixels,
) -> None:
    """The pixels `kept` of a splat, which takes the first `count` [S*S] of the points `index` [S*S, K]; `radius` is squared."""
    cosine, sums = np.empty(kept.shape[0], np.float32), np.empty((2, cloud.features.shape[1]), np.float32)
    slots = (index.shape[1] + AT_ONCE - 1) // AT_ONCE * AT_ONCE
    points, weights = np.zeros(slots, np.int64), np.empty((3, slots), np.float32)
    for i in range(kept.shape[0]):
        pixel = kept[i]
        for slot in range(slots):  # those that fill up weigh nothing
            points[slot] = index[pixel, slot if slot < count[pixel] else 0]
        _cut_one(pixel, i, cloud, cells, points, count[pixel], uv, size, radius, weights, sums, pixels, cosine)
    if kept.shape[0] > 0:
        _weigh(cosine, robust, pixels.weight)
