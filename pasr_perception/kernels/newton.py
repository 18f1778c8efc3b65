"""Where hypotheses go next: splat, pieces of surface and a climb. Twin: `refine.newton.next_in_tensors`, as it is on CUDA."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pasr_perception.kernels.carried import UNKNOWNS, Model, Posed, outlined_room, splat_terms
from pasr_perception.kernels.climb import Box, Way, climb, outlined, splat_step
from pasr_perception.kernels.compiled import kernel, made_in_kernels, trial
from pasr_perception.kernels.cores import on_all_cores
from pasr_perception.kernels.surface import Cloud, Pixels, cut, keep, pixels_room
from pasr_perception.kernels.visit import (
    Compared,
    Poses,
    Raster,
    Splat,
    compare_one,
    one_of_each,
    splat_one,
    splat_room,
)


@dataclass(frozen=True)
class Drawn:
    """What draws H hypotheses besides features, and how far they may go."""

    edges: np.ndarray  # [H, 4]
    clipped: np.ndarray  # [H, 4] bool
    toll: np.ndarray  # [H]
    trust: np.ndarray  # [H]
    damping: np.ndarray  # [H]


@dataclass(frozen=True)
class SplatModels:
    """What H splats are worth and how that goes with the unknowns."""

    similarity: np.ndarray  # [H]
    covered: np.ndarray  # [H] int64 pixels
    gradient: np.ndarray  # [H, 6]
    curvature: np.ndarray  # [H, 6, 6]


@made_in_kernels
def _pieces(
    cloud: Cloud, cells: np.ndarray, rotation: np.ndarray, moved: np.ndarray, raster: Raster, robust: float
) -> tuple[Pixels, Splat]:
    """What the splat of one pose shows, and the splat."""
    splat = splat_room(cloud.points.shape[0], raster)
    splat_one(cloud.points, rotation, moved, raster, splat)
    kept, number = np.empty(splat.filled.shape[0], np.int64), np.zeros(1, np.int64)
    keep(splat.filled, raster.size, kept, number)
    pixels, mine = pixels_room(number[0], cloud.features.shape[1]), kept[: number[0]]
    radius = raster.radius * raster.radius
    cut(cloud, cells, splat.taken, splat.filled, splat.uv, raster.size, radius, robust, mine, pixels)
    return pixels, splat


@kernel
def _next_one(
    cloud: Cloud,
    cells: np.ndarray,
    box: Box,
    rotation: np.ndarray,
    moved: np.ndarray,
    trust: np.float32,
    damping: np.float32,
    raster: Raster,
    way: Way,
) -> None:
    """Move one hypothesis [3, 3] and [3]."""
    pixels, _ = _pieces(cloud, cells, rotation, moved, raster, way.robust)
    pose = Posed(rotation, moved, outlined_room())
    outlined(cloud.outer, rotation, raster, pose.at)
    if way.far:
        climb(cloud.outer, cells, pixels, box, pose, trust, raster, way)
    else:
        splat_step(pixels, box, pose, trust, damping, raster, way)


def next_poses(poses: Poses, drawn: Drawn, compared: Compared, raster: Raster, way: Way) -> Poses:
    """Where H hypotheses go from poses."""
    found = Poses(poses.rotation.copy(), poses.moved.copy())

    def one(h: int) -> None:
        box = Box(drawn.edges[h], drawn.clipped[h], drawn.toll[h : h + 1])
        mine = compared.clouds[h], compared.cells[h], box, found.rotation[h], found.moved[h]
        _next_one(*mine, drawn.trust[h], drawn.damping[h], raster, way)

    on_all_cores(one, len(found.rotation))
    return found


@kernel
def _model_one(
    cloud: Cloud,
    cells: np.ndarray,
    counts: np.ndarray,
    rotation: np.ndarray,
    moved: np.ndarray,
    raster: Raster,
    robust: float,
    covered: np.ndarray,
    model: Model,
) -> None:
    """The derivatives of one splat, and how many pixels it covers to covered [1]."""
    pixels, splat = _pieces(cloud, cells, rotation, moved, raster, robust)
    covered[0] = (splat.filled > 0).sum()
    pose = Posed(rotation, moved, outlined_room())
    outlined(cloud.outer, rotation, raster, pose.at)
    splat_terms(pixels, pose, raster.size, model)
    cosines = np.empty(2, np.float32)
    compare_one(cloud, cells, counts, raster, splat, cosines)
    model.value[0] = cosines[0]


def splat_models(poses: Poses, compared: Compared, raster: Raster, robust: float) -> SplatModels:
    """The derivatives of H splats at their poses."""
    count = len(poses.rotation)
    found = SplatModels(
        np.zeros(count, np.float32),
        np.empty(count, np.int64),
        np.zeros((count, UNKNOWNS), np.float32),
        np.zeros((count, UNKNOWNS, UNKNOWNS), np.float32),
    )

    def one(h: int) -> None:
        model = Model(found.similarity[h : h + 1], found.gradient[h], found.curvature[h])
        _model_one(*compared.of(h), poses.rotation[h], poses.moved[h], raster, robust, found.covered[h : h + 1], model)

    on_all_cores(one, count)
    found.curvature[:] += np.tril(found.curvature, -1).transpose(0, 2, 1)
    return found


@trial
def _on_one_point() -> None:
    poses, cloud, cells, raster = one_of_each()
    ones = np.ones(1, np.float32)
    drawn = Drawn(np.ones((1, 4), np.float32), np.zeros((1, 4), bool), ones, ones, ones)
    compared = Compared([cloud], [cells], [np.ones(len(cells), np.float32)])
    for far in (False, True):
        next_poses(poses, drawn, compared, raster, Way(6, 3.0, 0.0, far))
    splat_models(poses, compared, raster, 3.0)
