"""Batches of observed meshes: which mesh, in which look, turned how, decided by seed, epoch and position alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pasr_perception.encoders.points.config import PointEncoderConfig
from pasr_perception.encoders.points.encoder import point_inputs
from pasr_perception.encoders.points.pyramid import Pyramid, build_pyramid, joined_pyramids
from pasr_perception.training.alignment import Cells
from pasr_perception.training.cache import ObservationCache
from pasr_perception.training.observe import Look, ObservedView


@dataclass(frozen=True)
class Batch:
    inputs: torch.Tensor  # [B, n, channels], `point_inputs`
    pyramid: Pyramid
    cells: Cells

    def to(self, device: torch.device) -> Batch:
        return Batch(self.inputs.to(device), self.pyramid.to(device), self.cells.to(device))


@dataclass(frozen=True)
class LoadedMesh:
    looks: tuple[Look, ...]
    pyramid: Pyramid  # turning the cloud does not change it


class MeshDataset:
    """The cached meshes of one part of the split. What is read of a mesh is kept: about 3 MB each."""

    def __init__(self, cache: ObservationCache, part: str, config: PointEncoderConfig, at_most: int = 0) -> None:
        """`at_most` meshes, 0 = all. Raises ValueError where the cache holds none of this part."""
        self.meshes = cache.of(part)[: at_most or None]
        self._cache, self._config = cache, config
        self._loaded: dict[int, LoadedMesh] = {}

    def __len__(self) -> int:
        return len(self.meshes)

    def mesh(self, index: int) -> LoadedMesh:
        """One mesh; raises LibraryError if its file was damaged."""
        if index not in self._loaded:
            looks = self._cache.load(self.meshes[index])
            self._loaded[index] = LoadedMesh(tuple(looks), build_pyramid(looks[0].cloud.points, self._config))
        return self._loaded[index]

    def batches(
        self, epoch: int, batch_size: int, views: int, seed: int, shard: tuple[int, int] = (0, 1)
    ) -> Iterator[Batch]:
        """One epoch: every mesh once, in a random look and turn, some views of it; `shard` is (rank, processes).

        All processes get as many batches: the last ones begin the order anew where it does not come out even.
        """
        rank, processes = shard
        order = np.random.default_rng([seed, epoch]).permutation(len(self))
        whole = steps_per_epoch(len(self), batch_size, processes) * batch_size * processes
        for mine in np.resize(order, whole).reshape(-1, processes, batch_size)[:, rank]:
            yield self._batch([self._drawn(int(i), views, np.random.default_rng([seed, epoch, int(i)])) for i in mine])

    def everything(self, batch_size: int = 1) -> Iterator[tuple[Batch, list[bool]]]:
        """Every look of every mesh as it is, all views; with each batch whether its looks' colours are known."""
        items = [(i, look) for i in range(len(self)) for look in self.mesh(i).looks]
        for first in range(0, len(items), batch_size):
            some = items[first : first + batch_size]
            yield self._batch([(i, look, look.views) for i, look in some]), [look.cloud.known for _, look in some]

    def _drawn(self, index: int, views: int, rng: np.random.Generator) -> tuple[int, Look, Sequence[ObservedView]]:
        looks = self.mesh(index).looks
        look = looks[int(rng.integers(len(looks)))]
        chosen = [look.views[int(v)] for v in rng.permutation(len(look.views))[:views]]
        return index, Look(look.cloud.turned(about_up(float(rng.uniform(0, 2 * math.pi)))), look.views), chosen

    def _batch(self, items: Sequence[tuple[int, Look, Sequence[ObservedView]]]) -> Batch:
        inputs = torch.stack([point_inputs(look.cloud, self._config) for _, look, _ in items])
        pyramid = joined_pyramids([self.mesh(i).pyramid for i, _, _ in items])
        return Batch(inputs, pyramid, Cells.of([views for _, _, views in items], len(items[0][1].cloud.points)))


def steps_per_epoch(meshes: int, batch_size: int, processes: int = 1) -> int:
    return math.ceil(meshes / (batch_size * processes))


def about_up(angle: float) -> torch.Tensor:
    """Rotation [3, 3] about +y: which way a mesh faces in its own file means nothing."""
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
