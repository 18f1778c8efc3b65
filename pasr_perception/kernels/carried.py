"""What product maps say of poses of carried pixels, with two derivatives. Twin: `refine.newton.Carried` as it is on CUDA."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pasr_perception.kernels.compiled import kernel, trial
from pasr_perception.kernels.cores import on_all_cores

UNKNOWNS = 6


@dataclass(frozen=True)
class Pixels:
    """Covered pixels of H hypotheses, as pieces of surface."""

    products: np.ndarray  # [H, P, S * S] float32, with the crop's cells
    surface: np.ndarray  # [H, P, 3] object frame
    correction: np.ndarray  # [H, P, 2] pixels, to where each is
    middle: np.ndarray  # [H, P, 2] where each was splatted
    tilt: np.ndarray  # [H, P, 2] added to the products' gradient
    weight: np.ndarray  # [H, P]


@dataclass(frozen=True)
class Poses:
    """H poses, and how the placement by outline goes with their rotations."""

    rotation: np.ndarray  # [H, 3, 3]
    shift: np.ndarray  # [H, 2] crop sizes
    log_scale: np.ndarray  # [H]
    offset: np.ndarray  # [H, 3]
    focal: np.ndarray  # [H]
    offset_rate: np.ndarray  # [H, 2, 3]
    zoom_rate: np.ndarray  # [H, 3]


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
def _model(
    products: np.ndarray,
    surface: np.ndarray,
    correction: np.ndarray,
    middle: np.ndarray,
    tilt: np.ndarray,
    weight: np.ndarray,
    rotation: np.ndarray,
    shift: np.ndarray,
    scale: float,
    offset: np.ndarray,
    zoom: float,
    offset_rate: np.ndarray,
    zoom_rate: np.ndarray,
    size: int,
    still: bool,
    value: np.ndarray,
    gradient: np.ndarray,
    curvature: np.ndarray,
) -> None:
    """Of one hypothesis: adds to value [1], gradient [6] and the lower half of curvature [6, 6].

    `still` pixels are at their middles, exactly: the second derivative jumps there.
    """
    wide, half, last = np.float32(size), np.float32(0.5), np.float32(size - 1)
    by_x, by_y, tap_x, tap_y = (
        np.empty((3, 4), np.float32),
        np.empty((3, 4), np.float32),
        np.empty(4, np.int64),
        np.empty(4, np.int64),
    )
    rate_u, rate_v = np.zeros(6, np.float32), np.zeros(6, np.float32)
    rate_u[3] = rate_v[4] = wide
    for i in range(weight.shape[0]):
        w = weight[i]
        if w == 0:
            continue
        s = surface[i]
        p_x = rotation[0, 0] * s[0] + rotation[0, 1] * s[1] + rotation[0, 2] * s[2]
        p_y = rotation[1, 0] * s[0] + rotation[1, 1] * s[1] + rotation[1, 2] * s[2]
        p_z = rotation[2, 0] * s[0] + rotation[2, 1] * s[1] + rotation[2, 2] * s[2]
        near = np.float32(1) / (p_z + offset[2])
        u, v = (p_x + offset[0]) * near, (p_y + offset[1]) * near
        out_u, out_v = scale * zoom * u, scale * zoom * v  # from the crop's middle
        at_u = out_u + (shift[0] + half) * wide + correction[i, 0]
        at_v = out_v + (shift[1] + half) * wide + correction[i, 1]
        if still:
            at_u, at_v = middle[i, 0], middle[i, 1]
        _taps(min(max(at_u - half, np.float32(0)), last), size - 1, by_x, tap_x)
        _taps(min(max(at_v - half, np.float32(0)), last), size - 1, by_y, tap_y)
        fits, g_u, g_v = np.float32(0), np.float32(0), np.float32(0)
        h_uu, h_uv, h_vv = np.float32(0), np.float32(0), np.float32(0)
        for row in range(4):
            first, flat, slope, bend = tap_y[row] * size, np.float32(0), np.float32(0), np.float32(0)
            for column in range(4):
                cell = products[i, first + tap_x[column]]
                flat += by_x[0, column] * cell
                slope += by_x[1, column] * cell
                bend += by_x[2, column] * cell
            fits += by_y[0, row] * flat
            g_u += by_y[0, row] * slope
            h_uu += by_y[0, row] * bend
            g_v += by_y[1, row] * flat
            h_uv += by_y[1, row] * slope
            h_vv += by_y[2, row] * flat
        fits += tilt[i, 0] * (at_u - middle[i, 0]) + tilt[i, 1] * (at_v - middle[i, 1])
        g_u += tilt[i, 0]
        g_v += tilt[i, 1]
        # by a turn about each axis: the point's own motion, the aim's and the zoom's (`quadratic.pixels_rate`)
        lever = scale * zoom * near
        rate_u[0] = lever * (-u * p_y + offset_rate[0, 0]) + out_u * zoom_rate[0]
        rate_u[1] = lever * (p_z + u * p_x + offset_rate[0, 1]) + out_u * zoom_rate[1]
        rate_u[2] = lever * (-p_y + offset_rate[0, 2]) + out_u * zoom_rate[2]
        rate_v[0] = lever * (-p_z - v * p_y + offset_rate[1, 0]) + out_v * zoom_rate[0]
        rate_v[1] = lever * (v * p_x + offset_rate[1, 1]) + out_v * zoom_rate[1]
        rate_v[2] = lever * (p_x + offset_rate[1, 2]) + out_v * zoom_rate[2]
        rate_u[5], rate_v[5] = out_u, out_v
        value[0] += w * fits
        for a in range(6):
            gradient[a] += w * (rate_u[a] * g_u + rate_v[a] * g_v)
            bent_u, bent_v = w * (h_uu * rate_u[a] + h_uv * rate_v[a]), w * (h_uv * rate_u[a] + h_vv * rate_v[a])
            for b in range(a + 1):
                curvature[a, b] -= bent_u * rate_u[b] + bent_v * rate_v[b]


def model(pixels: Pixels, poses: Poses, size: int, still: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value [H], gradient [H, 6] and negated Hessian [H, 6, 6] by turn, shift and log scale, on maps of `size` cells a side.

    `still` says that the poses are those at which the pixels were splatted.
    """
    count = len(poses.rotation)
    value, gradient = np.zeros(count, np.float32), np.zeros((count, UNKNOWNS), np.float32)
    curvature = np.zeros((count, UNKNOWNS, UNKNOWNS), np.float32)
    scale, zoom = np.exp(poses.log_scale), poses.focal * np.float32(size)

    def one(h: int) -> None:
        _model(
            pixels.products[h],
            pixels.surface[h],
            pixels.correction[h],
            pixels.middle[h],
            pixels.tilt[h],
            pixels.weight[h],
            poses.rotation[h],
            poses.shift[h],
            scale[h],
            poses.offset[h],
            zoom[h],
            poses.offset_rate[h],
            poses.zoom_rate[h],
            size,
            still,
            value[h : h + 1],
            gradient[h],
            curvature[h],
        )

    on_all_cores(one, count)
    lower = np.tril(curvature, -1)
    return value, gradient, curvature + lower.transpose(0, 2, 1)


@trial
def _on_one_pixel() -> None:
    def ones(*shape: int) -> np.ndarray:
        return np.ones((1, *shape), np.float32)

    pixels = Pixels(ones(1, 16), ones(1, 3), ones(1, 2), ones(1, 2), ones(1, 2), ones(1))
    model(pixels, Poses(ones(3, 3), ones(2), ones(), ones(3), ones(), ones(2, 3), ones(3)), 4)
