"""Where a pose goes by what its splat shows: a climb over the crop, or one step by the splat's derivative.

Twins: `refine.newton.climb` and `splat_model`, `refine.quadratic` and `refine.coverage`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from pasr_perception.kernels.carried import UNKNOWNS, Carrying, Model, Outlined, Posed, carry, settle, splat_terms
from pasr_perception.kernels.compiled import kernel
from pasr_perception.kernels.outline import outline_one
from pasr_perception.kernels.surface import Pixels
from pasr_perception.kernels.visit import Raster

CLIMB_STEPS = 3  # on the crop as it is carried over, between two splats
DAMPING, RELAX, STIFFEN = 0.1, 0.3, 5.0  # share of the largest curvature, and its change after good and bad steps
BEYOND = 1.001  # of the trust region is still in it: the first step often goes to its border, give or take rounding
LATE_TRUST = 0.15  # largest change by a splat step; radians, crop sizes and log scale alike
TOLERANCE = (
    0.04  # crop sizes; what a detector's edges are off by (5 % of a box that fills 0.8): squared below, linear above
)
LEAST_CURVATURE = 1e-9


class Way(NamedTuple):
    """How hypotheses move."""

    unknowns: int  # 3, 5 or 6
    robust: float  # medians wide, 0 = all pixels alike
    margin: float  # log scale by which a splat passes the points' outline
    far: bool  # carried, else by the splat's derivative


class Box(NamedTuple):
    """A detection's box as a hypothesis is drawn to it."""

    edges: np.ndarray  # [4] x_min, y_min, x_max, y_max in crop sizes
    clipped: np.ndarray  # [4] bool
    toll: np.ndarray  # [1] of missing it; 0 = no box


@kernel
def less_coverage(box: Box, pose: Posed, margin: float, model: Model) -> None:
    """The same less what missing the box costs: `refine.coverage`."""
    if box.toll[0] == 0:
        return
    moved, at = pose.moved, pose.at
    half, share, rate = np.float32(0.5), box.toll[0] / np.float32(4), np.zeros(UNKNOWNS, np.float32)
    scale, tolerance = np.exp(moved[2] + np.float32(margin)), np.float32(TOLERANCE)
    for e in range(4):
        axis, from_middle = e % 2, at.edges[e] - half
        off = from_middle * scale + moved[axis] + half - box.edges[e]
        if box.clipped[e] and (off < 0) == (e < 2):
            continue
        off /= tolerance
        root = np.sqrt(np.float32(1) + off * off)
        for k in range(3):
            rate[k] = scale * at.edges_rate[e, k]
        rate[3], rate[4], rate[5] = axis == 0, axis == 1, scale * from_middle
        model.value[0] -= share * (root - np.float32(1))
        slope, bend = share / tolerance * off / root, share / (tolerance * tolerance) / root
        for a in range(UNKNOWNS):
            model.gradient[a] -= slope * rate[a]
            for b in range(a + 1):
                model.curvature[a, b] += bend * rate[a] * rate[b]


@kernel
def _step(model: Model, unknowns: int, damping: np.float32, longest: np.float32, step: np.ndarray) -> None:
    """`refine.quadratic.newton_step` to step [6]; none where there is no number to follow."""
    step[:] = 0
    for a in range(unknowns):
        if not np.isfinite(model.gradient[a]):
            return
        for b in range(a + 1):
            if not np.isfinite(model.curvature[a, b]):
                return
    values, vectors = np.linalg.eigh(model.curvature[:unknowns, :unknowns].copy())
    values = np.abs(values)
    least = damping * values.max() + np.float32(LEAST_CURVATURE)
    for k in range(unknowns):
        along = np.float32(0)
        for a in range(unknowns):
            along += vectors[a, k] * model.gradient[a]
        along /= values[k] + least
        for a in range(unknowns):
            step[a] += vectors[a, k] * along
    length = np.float32(0)
    for a in range(unknowns):
        length += step[a] * step[a]
    length = np.sqrt(length)
    if length > longest:
        step *= longest / length


@kernel
def _turned(tangent: np.ndarray, rotation: np.ndarray, turned: np.ndarray) -> None:
    """exp(tangent [3]) rotation, to turned [3, 3]."""
    x, y, z = np.float64(tangent[0]), np.float64(tangent[1]), np.float64(tangent[2])
    square = x * x + y * y + z * z
    angle = math.sqrt(square)
    sine, cosine = 1.0, 0.5
    if angle > 1e-6:
        sine, cosine = math.sin(angle) / angle, 2 * (math.sin(angle / 2) / angle) ** 2
    exp = np.array(
        [
            [1 - cosine * (y * y + z * z), cosine * x * y - sine * z, cosine * x * z + sine * y],
            [cosine * x * y + sine * z, 1 - cosine * (x * x + z * z), cosine * y * z - sine * x],
            [cosine * x * z - sine * y, cosine * y * z + sine * x, 1 - cosine * (x * x + y * y)],
        ]
    )
    for i in range(3):
        for j in range(3):
            turned[i, j] = exp[i, 0] * rotation[0, j] + exp[i, 1] * rotation[1, j] + exp[i, 2] * rotation[2, j]


@kernel
def _distance(
    rotation: np.ndarray, moved: np.ndarray, other: np.ndarray, other_moved: np.ndarray, out: np.ndarray
) -> None:
    """How far apart two poses are, to out [1]: `refine.quadratic.distance`."""
    chord, square = np.float32(0), np.float32(0)
    for i in range(3):
        square += (moved[i] - other_moved[i]) ** 2
        for j in range(3):
            chord += (rotation[i, j] - other[i, j]) ** 2
    angle = 2 * math.asin(min(math.sqrt(chord / 8), 1.0))
    out[0] = math.sqrt(angle * angle + square)


@kernel
def outlined(outer: np.ndarray, rotation: np.ndarray, raster: Raster, at: Outlined) -> None:
    """The outline of outer points [K, 3]."""
    view = (raster.fill, raster.distance, raster.iterations)
    outline_one(outer, rotation, view, at.placed, at.offset_rate, at.zoom_rate, at.edges, at.edges_rate)


@kernel
def climb(
    outer: np.ndarray,
    cells: np.ndarray,
    pixels: Pixels,
    box: Box,
    pose: Posed,
    trust: np.float32,
    raster: Raster,
    way: Way,
) -> None:
    """Move a pose to the best within trust that pixels carried over cells [S*S, R] lead to; its outline is scratch afterwards."""
    rotation, moved = pose.rotation, pose.moved
    carried = Carrying(pixels, cells, np.empty_like(pixels.pull), np.empty_like(pixels.pull))
    now = Model(np.zeros(1, np.float32), np.zeros(UNKNOWNS, np.float32), np.zeros((UNKNOWNS, UNKNOWNS), np.float32))
    settle(carried, pose, raster.size, now)
    less_coverage(box, pose, way.margin, now)
    damping, step, away = np.float32(DAMPING), np.empty(UNKNOWNS, np.float32), np.empty(1, np.float32)
    began, began_moved = rotation.copy(), moved.copy()
    ahead = Posed(np.empty_like(rotation), np.empty_like(moved), pose.at)
    for _ in range(CLIMB_STEPS):
        _step(now, way.unknowns, damping, trust, step)
        _turned(step[:3], rotation, ahead.rotation)
        ahead.moved[:] = moved + step[3:]
        outlined(outer, ahead.rotation, raster, ahead.at)
        there = Model(np.zeros(1, np.float32), np.zeros_like(now.gradient), np.zeros_like(now.curvature))
        carry(carried, ahead, raster.size, there)
        less_coverage(box, ahead, way.margin, there)
        _distance(ahead.rotation, ahead.moved, began, began_moved, away)
        if there.value[0] > now.value[0] and away[0] <= np.float32(BEYOND) * trust:
            rotation[:], moved[:], now = ahead.rotation, ahead.moved, there
            damping *= np.float32(RELAX)
        else:
            damping *= np.float32(STIFFEN)


@kernel
def splat_step(
    pixels: Pixels, box: Box, pose: Posed, trust: np.float32, damping: np.float32, raster: Raster, way: Way
) -> None:
    """Move a pose by the splat's derivative."""
    model = Model(np.zeros(1, np.float32), np.zeros(UNKNOWNS, np.float32), np.zeros((UNKNOWNS, UNKNOWNS), np.float32))
    splat_terms(pixels, pose, raster.size, model)
    less_coverage(box, pose, way.margin, model)
    step = np.empty(UNKNOWNS, np.float32)
    _step(model, way.unknowns, damping, min(trust, np.float32(LATE_TRUST)), step)
    _turned(step[:3], pose.rotation.copy(), pose.rotation)
    pose.moved[:] += step[3:]
