"""Chroma that poses show and chroma of the crop beneath: sums over pixels, for `chroma.agreement`.

Twins: `chroma.templates_sums` over `PixelRuns` and `chroma.splats_sums` as it is on CUDA.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pasr_perception.kernels.compiled import array_at, kernel, trial
from pasr_perception.kernels.cores import on_all_cores
from pasr_perception.kernels.poses import Asked, Chosen, SparseWeights, apart
from pasr_perception.kernels.visit import Poses, Raster, one_of_each, splat_one, splat_room

SUMS = 8  # pixels; shown a, b; seen a, b; shown . shown, seen . seen, shown . seen


@dataclass(frozen=True)
class Coloured:
    """H hypotheses, their chroma, and what it is compared with."""

    points: Sequence[np.ndarray]  # [N, 3] float32 of each one's cloud
    colours: Sequence[np.ndarray]  # [N, 2] float32
    cells: Sequence[np.ndarray]  # [S*S, 2] float32 of each one's crop


@kernel
def _add(shown_a: np.float32, shown_b: np.float32, seen: np.ndarray, sums: np.ndarray) -> None:
    """One pixel."""
    sums[0] += 1
    sums[1] += shown_a
    sums[2] += shown_b
    sums[3] += seen[0]
    sums[4] += seen[1]
    sums[5] += shown_a * shown_a + shown_b * shown_b
    sums[6] += seen[0] * seen[0] + seen[1] * seen[1]
    sums[7] += shown_a * seen[0] + shown_b * seen[1]


@kernel
def _of_templates(
    table: np.ndarray,
    shape: tuple[int, ...],
    of: np.ndarray,
    turn: np.ndarray,
    pose: np.ndarray,
    first: int,
    last: int,
    sums: np.ndarray,
) -> None:
    """Of the poses from `first` to `last` of `poses.Asked`, whose features are colours."""
    for i in range(first, last):
        at, points = table[of[i]], table[of[i], 5]
        cells, colours = array_at(at[0], shape, np.float32), array_at(at[1], (points, 2), np.float32)
        bound = array_at(at[4], (pose[i] + 2,), np.int64)
        e, end = bound[pose[i]], bound[pose[i] + 1]
        pair, weight = array_at(at[2], (end,), np.int32), array_at(at[3], (end,), np.float32)
        while e < end:
            pixel = pair[e] // points
            begin, total, a, b = pixel * points, np.float32(0), np.float32(0), np.float32(0)
            while e < end and pair[e] < begin + points:
                colour = colours[pair[e] - begin]
                total += weight[e]
                a += weight[e] * colour[0]
                b += weight[e] * colour[1]
                e += 1
            if total > 0:
                _add(a / total, b / total, cells[turn[i], pixel], sums[i])


@kernel
def _of_splat(
    points: np.ndarray,
    colours: np.ndarray,
    cells: np.ndarray,
    rotation: np.ndarray,
    moved: np.ndarray,
    raster: Raster,
    sums: np.ndarray,
) -> None:
    """Of one hypothesis, points [N, 3] at a pose."""
    splat = splat_room(points.shape[0], raster)
    splat_one(points, rotation, moved, raster, splat)
    square_radius = np.float32(raster.radius * raster.radius)
    for pixel in range(raster.size * raster.size):
        total, a, b = np.float32(0), np.float32(0), np.float32(0)
        for slot in range(splat.filled[pixel]):
            point = splat.taken[pixel, slot]
            dx = np.float32(pixel % raster.size) + np.float32(0.5) - splat.uv[point, 0]
            dy = np.float32(pixel // raster.size) + np.float32(0.5) - splat.uv[point, 1]
            weight = np.float32(1) - (dx * dx + dy * dy) / square_radius
            total += weight
            a += weight * colours[point, 0]
            b += weight * colours[point, 1]
        if total > 0:
            _add(a / total, b / total, cells[pixel], sums)


def templates_sums(each: Sequence[Chosen]) -> list[np.ndarray]:
    """Sums [k, 8] of the poses of each: meshes have colours [N, 2] float32 for features, crops chroma for cells [T, g*g, 2]."""
    asked = Asked.of_each(each)
    sums = np.zeros((len(asked.pose), SUMS), np.float32)

    def piece(first: int, last: int) -> None:
        _of_templates(asked.table, asked.shape, asked.of, asked.turn, asked.pose, first, last, sums)

    asked.in_pieces(piece)
    return apart(sums, each)


def splats_sums(poses: Poses, coloured: Coloured, raster: Raster) -> np.ndarray:
    """Sums [H, 8] of hypotheses at poses."""
    sums = np.zeros((len(poses.rotation), SUMS), np.float32)

    def one(h: int) -> None:
        points, colours, cells = coloured.points[h], coloured.colours[h], coloured.cells[h]
        _of_splat(points, colours, cells, poses.rotation[h], poses.moved[h], raster, sums[h])

    on_all_cores(one, len(sums))
    return sums


@trial
def _on_one_pair() -> None:
    none, colour = np.zeros(1, np.int64), np.ones((1, 1, 2), np.float32)
    mesh = SparseWeights(colour[0], np.zeros(1, np.int32), np.ones(1, np.float32), np.arange(2))
    templates_sums([Chosen(colour, mesh, none, none)])
    poses, cloud, _, raster = one_of_each()
    splats_sums(poses, Coloured([cloud.points], [colour[0]], [np.ones((raster.size**2, 2), np.float32)]), raster)
