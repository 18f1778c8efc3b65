"""What a crop says of a pose of carried pixels, with two derivatives. Twins: `refine.newton.Carried` and `splat_model`.

The product of a pixel's feature with a cell is made where it is read: a pixel looks at 16 cells of the crop's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pasr_perception.kernels.compiled import kernel, made_in_kernels
from pasr_perception.kernels.surface import Pixels

UNKNOWNS = 6  # turn, shift, log scale


class Outlined(NamedTuple):
    """The placement by outline at a rotation, and how it goes with it; see `refine.outline.Outline`."""

    placed: np.ndarray  # [4] offset and focal
    offset_rate: np.ndarray  # [2, 3]
    zoom_rate: np.ndarray  # [3]
    edges: np.ndarray  # [4]
    edges_rate: np.ndarray  # [4, 3]


@made_in_kernels
def outlined_room() -> Outlined:
    """Room for one."""
    placed, edges, zoom_rate = np.empty(4, np.float32), np.empty(4, np.float32), np.empty(3, np.float32)
    return Outlined(placed, np.empty((2, 3), np.float32), zoom_rate, edges, np.empty((4, 3), np.float32))


class Posed(NamedTuple):
    """One hypothesis' pose with its outline."""

    rotation: np.ndarray  # [3, 3]
    moved: np.ndarray  # [3] shift in crop sizes and log scale
    at: Outlined


class Carrying(NamedTuple):
    """Pixels that are carried over a crop from where they were splatted."""

    pixels: Pixels
    cells: np.ndarray  # [S*S, R] of the crop
    correction: np.ndarray  # [P, 2] from where a surface lies, on average of its points, to its pixel's middle
    tilt: np.ndarray  # [P, 2] makes the gradient the mean of the crop's and of the rendering's own


class Model(NamedTuple):
    """Value [1], gradient [6] and the lower half of the negated Hessian [6, 6]."""

    value: np.ndarray
    gradient: np.ndarray
    curvature: np.ndarray


@kernel
def _taps(at: float, last: int, weight: np.ndarray, tap: np.ndarray) -> None:
    """Catmull-Rom's weights [3, 4] of value, first and second derivative at `at`, and the cells [4] that they are of."""
    one, half, two, three = np.float32(1), np.float32(0.5), np.float32(2), np.float32(3)
    base = int(np.floor(at))
    t = at - np.float32(base)
    s = t * t
    weight[0, 0], weight[0, 1] = half * (-t + two * s - s * t), half * (two - np.float32(5) * s + three * s * t)
    weight[0, 2], weight[0, 3] = half * (t + np.float32(4) * s - three * s * t), half * (s * t - s)
    weight[1, 0], weight[1, 1] = (
        half * (-one + np.float32(4) * t - three * s),
        half * (np.float32(9) * s - np.float32(10) * t),
    )
    weight[1, 2], weight[1, 3] = half * (one + np.float32(8) * t - np.float32(9) * s), half * (three * s - two * t)
    weight[2, 0], weight[2, 1] = two - three * t, np.float32(9) * t - np.float32(5)
    weight[2, 2], weight[2, 3] = np.float32(4) - np.float32(9) * t, three * t - one
    for k in range(4):
        tap[k] = min(max(base + k - 1, 0), last)


@kernel
def look_up(
    feature: np.ndarray,
    cells: np.ndarray,
    size: int,
    at: np.ndarray,
    weight: np.ndarray,
    tap: np.ndarray,
    found: np.ndarray,
) -> None:
    """A feature's [R] product with cells [S*S, R] at [2]: value, gradient and second derivatives to found [6].

    weight [2, 3, 4] and tap [2, 4] are scratch. Beyond the outermost cells' middles the value at the border goes on.
    """
    half, last = np.float32(0.5), np.float32(size - 1)
    for axis in range(2):
        _taps(min(max(at[axis] - half, np.float32(0)), last), size - 1, weight[axis], tap[axis])
    by_x, by_y = weight[0], weight[1]
    value, by_u, by_v = np.float32(0), np.float32(0), np.float32(0)
    by_uu, by_uv, by_vv = np.float32(0), np.float32(0), np.float32(0)
    for row in range(4):
        first, flat, slope, bend = tap[1, row] * size, np.float32(0), np.float32(0), np.float32(0)
        for column in range(4):
            cell, product = cells[first + tap[0, column]], np.float32(0)
            for r in range(feature.shape[0]):
                product += feature[r] * cell[r]
            flat += by_x[0, column] * product
            slope += by_x[1, column] * product
            bend += by_x[2, column] * product
        value += by_y[0, row] * flat
        by_u += by_y[0, row] * slope
        by_v += by_y[1, row] * flat
        by_uu += by_y[0, row] * bend
        by_uv += by_y[1, row] * slope
        by_vv += by_y[2, row] * flat
    found[0], found[1], found[2], found[3], found[4], found[5] = value, by_u, by_v, by_uu, by_uv, by_vv


@kernel
def _moving(surface: np.ndarray, pose: Posed, size: int, pixel: np.ndarray, rate: np.ndarray) -> None:
    """Where a piece of surface [3] is, to pixel [2], and how that goes with the unknowns, to rate [2, 6]."""
    rotation, moved, at = pose.rotation, pose.moved, pose.at
    wide, half = np.float32(size), np.float32(0.5)
    p_x = rotation[0, 0] * surface[0] + rotation[0, 1] * surface[1] + rotation[0, 2] * surface[2]
    p_y = rotation[1, 0] * surface[0] + rotation[1, 1] * surface[1] + rotation[1, 2] * surface[2]
    p_z = rotation[2, 0] * surface[0] + rotation[2, 1] * surface[1] + rotation[2, 2] * surface[2]
    near, zoom = np.float32(1) / (p_z + at.placed[2]), np.exp(moved[2]) * at.placed[3] * wide
    u, v = (p_x + at.placed[0]) * near, (p_y + at.placed[1]) * near
    out_u, out_v = zoom * u, zoom * v  # from the crop's middle
    pixel[0], pixel[1] = out_u + (moved[0] + half) * wide, out_v + (moved[1] + half) * wide
    # by a turn about each axis: the point's own motion, the aim's and the zoom's (`quadratic.pixels_rate`)
    lever = zoom * near
    rate[0, 0] = lever * (-u * p_y + at.offset_rate[0, 0]) + out_u * at.zoom_rate[0]
    rate[0, 1] = lever * (p_z + u * p_x + at.offset_rate[0, 1]) + out_u * at.zoom_rate[1]
    rate[0, 2] = lever * (-p_y + at.offset_rate[0, 2]) + out_u * at.zoom_rate[2]
    rate[1, 0] = lever * (-p_z - v * p_y + at.offset_rate[1, 0]) + out_v * at.zoom_rate[0]
    rate[1, 1] = lever * (v * p_x + at.offset_rate[1, 1]) + out_v * at.zoom_rate[1]
    rate[1, 2] = lever * (p_x + at.offset_rate[1, 2]) + out_v * at.zoom_rate[2]
    rate[0, 3], rate[0, 4], rate[0, 5] = wide, 0, out_u
    rate[1, 3], rate[1, 4], rate[1, 5] = 0, wide, out_v


@kernel
def _add(w: float, looked: np.ndarray, rate: np.ndarray, model: Model) -> None:
    """One pixel's value, gradient and second derivatives `looked` [6] by where it is."""
    model.value[0] += w * looked[0]
    for a in range(UNKNOWNS):
        u, v = w * rate[0, a], w * rate[1, a]
        model.gradient[a] += u * looked[1] + v * looked[2]
        bent_u, bent_v = looked[3] * u + looked[4] * v, looked[4] * u + looked[5] * v
        for b in range(a + 1):
            model.curvature[a, b] -= bent_u * rate[0, b] + bent_v * rate[1, b]


@kernel
def splat_terms(pixels: Pixels, pose: Posed, size: int, model: Model) -> None:
    """Adds what the pixels' pull and metric say at the pose that they were splatted at."""
    pixel, rate, looked = np.empty(2, np.float32), np.empty((2, UNKNOWNS), np.float32), np.zeros(6, np.float32)
    for i in range(pixels.weight.shape[0]):
        _moving(pixels.surface[i], pose, size, pixel, rate)
        looked[1], looked[2] = pixels.pull[i, 0], pixels.pull[i, 1]
        looked[3], looked[4], looked[5] = -pixels.metric[i, 0, 0], -pixels.metric[i, 0, 1], -pixels.metric[i, 1, 1]
        _add(pixels.weight[i], looked, rate, model)


@kernel
def settle(carried: Carrying, pose: Posed, size: int, model: Model) -> None:
    """Before pixels are carried from where they were splatted: fills correction and tilt, and adds the model there."""
    pixels, correction, tilt = carried.pixels, carried.correction, carried.tilt
    pixel, rate, looked = np.empty(2, np.float32), np.empty((2, UNKNOWNS), np.float32), np.empty(6, np.float32)
    weight, tap = np.empty((2, 3, 4), np.float32), np.empty((2, 4), np.int64)
    for i in range(pixels.weight.shape[0]):
        _moving(pixels.surface[i], pose, size, pixel, rate)
        look_up(pixels.feature[i], carried.cells, size, pixels.middle[i], weight, tap, looked)
        for axis in range(2):
            correction[i, axis] = pixels.middle[i, axis] - pixel[axis]
            tilt[i, axis] = (pixels.pull[i, axis] - looked[1 + axis]) / 2
            looked[1 + axis] += tilt[i, axis]
        _add(pixels.weight[i], looked, rate, model)


@kernel
def carry(carried: Carrying, pose: Posed, size: int, model: Model) -> None:
    """Adds what the crop's cells say of the pixels at another pose."""
    pixels, tilt = carried.pixels, carried.tilt
    pixel, rate, looked = np.empty(2, np.float32), np.empty((2, UNKNOWNS), np.float32), np.empty(6, np.float32)
    weight, tap = np.empty((2, 3, 4), np.float32), np.empty((2, 4), np.int64)
    for i in range(pixels.weight.shape[0]):
        _moving(pixels.surface[i], pose, size, pixel, rate)
        for axis in range(2):
            pixel[axis] += carried.correction[i, axis]
        look_up(pixels.feature[i], carried.cells, size, pixel, weight, tap, looked)
        for axis in range(2):
            looked[0] += tilt[i, axis] * (pixel[axis] - pixels.middle[i, axis])
            looked[1 + axis] += tilt[i, axis]
        _add(pixels.weight[i], looked, rate, model)
