"""What a pose is worth: eq. 8 of one hypothesis after the other. Twin: `refine.template.splat`, as it is on CUDA."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pasr_perception.kernels.compiled import kernel, made_in_kernels, trial
from pasr_perception.kernels.cores import on_all_cores
from pasr_perception.kernels.placement import View, project_one
from pasr_perception.kernels.splat import REACH_MARGIN, Splatting, mean_cosines, take_one
from pasr_perception.kernels.surface import Cloud


class Raster(NamedTuple):
    """How points become pixels: placement and splatting in numbers."""

    fill: float
    distance: float
    iterations: int
    size: int
    radius: float  # pixels
    points_per_pixel: int
    band: float  # infinite for none

    @classmethod
    def of(cls, view: View, splatting: Splatting) -> Raster:
        size, radius, slots, band = splatting.size, splatting.radius, splatting.points_per_pixel, splatting.band
        return cls(view.fill, view.distance, view.iterations, size, radius, slots, band)


class Splat(NamedTuple):
    """A cloud's splat: room for it, or what it is."""

    uv: np.ndarray  # [N, 2] pixels
    depth: np.ndarray  # [N]
    taken: np.ndarray  # [S*S, K] int32 of the points that each pixel takes, nearest first
    nearness: np.ndarray  # [S*S, K] their depth
    filled: np.ndarray  # [S*S] int32, how many


@made_in_kernels
def splat_room(points: int, raster: Raster) -> Splat:
    """Room for the splat of so many points, where nothing is taken yet."""
    cells, slots = raster.size * raster.size, raster.points_per_pixel
    taken, nearness = np.empty((cells, slots), np.int32), np.empty((cells, slots), np.float32)
    uv, depth, filled = np.empty((points, 2), np.float32), np.empty(points, np.float32), np.zeros(cells, np.int32)
    return Splat(uv, depth, taken, nearness, filled)


@dataclass(frozen=True)
class Poses:
    """H poses, float32."""

    rotation: np.ndarray  # [H, 3, 3]
    moved: np.ndarray  # [H, 3] shift in crop sizes and log scale


@dataclass(frozen=True)
class Compared:
    """What H hypotheses are made of and compared with."""

    clouds: Sequence[Cloud]
    cells: Sequence[np.ndarray]  # [S*S, D] float32 of each one's crop, unit
    counts: Sequence[np.ndarray]  # [S*S] float32, how much each cell counts

    def of(self, h: int) -> tuple[Cloud, np.ndarray, np.ndarray]:
        """Those of one hypothesis."""
        return self.clouds[h], self.cells[h], self.counts[h]


@kernel
def splat_one(points: np.ndarray, rotation: np.ndarray, moved: np.ndarray, raster: Raster, splat: Splat) -> None:
    """Fill a splat, where nothing is taken yet, with points [N, 3] at a pose."""
    view = (raster.fill, raster.distance, raster.iterations)
    project_one(points, rotation, raster.size, view, moved, splat.uv, splat.depth)
    radius, reach = np.float32(raster.radius * raster.radius), np.float32(raster.radius + 0.5 + REACH_MARGIN)
    take_one(splat.uv, splat.depth, raster.size, radius, reach, raster.band, splat.taken, splat.nearness, splat.filled)


@kernel
def compare_one(
    cloud: Cloud, cells: np.ndarray, counts: np.ndarray, raster: Raster, splat: Splat, out: np.ndarray
) -> None:
    """Eq. 8 of a cloud's splat with a crop, over all cells alike and as much as they count, to out [2]."""
    radius = raster.radius * raster.radius
    mean_cosines(splat.uv, splat.taken, splat.filled, cloud.features, cells, counts, raster.size, radius, out)


@kernel
def _visit(
    cloud: Cloud,
    cells: np.ndarray,
    counts: np.ndarray,
    rotation: np.ndarray,
    moved: np.ndarray,
    raster: Raster,
    out: np.ndarray,
) -> None:
    splat = splat_room(cloud.points.shape[0], raster)
    splat_one(cloud.points, rotation, moved, raster, splat)
    compare_one(cloud, cells, counts, raster, splat, out)


def visits(poses: Poses, compared: Compared, raster: Raster) -> np.ndarray:
    """Eq. 8 [H, 2] float32 of hypotheses at poses, over all cells alike and as much as they count."""
    out = np.empty((len(poses.rotation), 2), np.float32)

    def one(h: int) -> None:
        _visit(*compared.of(h), poses.rotation[h], poses.moved[h], raster, out[h])

    on_all_cores(one, len(out))
    return out


def one_of_each() -> tuple[Poses, Cloud, np.ndarray, Raster]:
    """The smallest hypothesis of the kinds that kernels are given, for trials."""
    poses = Poses(np.eye(3, dtype=np.float32)[None], np.zeros((1, 3), np.float32))
    point, feature = np.zeros((1, 3), np.float32), np.ones((1, 8), np.float32)
    raster = Raster.of(View(0.8, 6.0, 1), Splatting(2, 1.0, 1, math.inf))
    cells = np.ones((4, 8), np.float32)
    halves = feature.astype(np.float16).view(np.uint16)  # as libraries keep them
    return poses, Cloud(point, halves, point), cells, raster


@trial
def _on_one_point() -> None:
    poses, cloud, cells, raster = one_of_each()
    visits(poses, Compared([cloud], [cells], [np.ones(len(cells), np.float32)]), raster)
