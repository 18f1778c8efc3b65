"""Batches of observed meshes: which mesh, in which look, turned how, decided by seed, epoch and position alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pasr_perception.encoders.points.cloud import PointCloud
from pasr_perception.encoders.points.config import PointEncoderConfig
from pasr_perception.encoders.points.encoder import point_inputs
from pasr_perception.encoders.points.pyramid import Pyramid, build_pyramid, joined_pyramids
from pasr_perception.training.alignment import Cells
from pasr_perception.training.cache import ObservationCache
from pasr_perception.training.observe import Look, ObservedView
from pasr_perception.training.point_targets import PointTargets, Shown, shape_features


@dataclass(frozen=True)
class Batch:
    inputs: torch.Tensor  # [B, n, channels], `point_inputs`
    pyramid: Pyramid
    wanted: Cells | PointTargets

    def to(self, device: torch.device) -> Batch:
        return Batch(self.inputs.to(device), self.pyramid.to(device), self.wanted.to(device))


@dataclass(frozen=True)
class LoadedMesh:
    looks: tuple[Look, ...]
    pyramid: Pyramid  # turning the cloud does not change it
    shown: tuple[Shown, ...]  # of each look, by all of its views, float16; none where views are wanted


@dataclass(frozen=True)
class Drawn:
    """What one mesh brings to a batch."""

    mesh: int
    look: int
    cloud: PointCloud  # the look's, turned
    views: Sequence[ObservedView]  # none where points' means are wanted


class MeshDataset:
    """The cached meshes of one part of the split. What is read of a mesh is kept: about 6 MB each."""

    def __init__(
        self,
        cache: ObservationCache,
        part: str,
        config: PointEncoderConfig,
        at_most: int = 0,
        against: str = "views",
        copies: int = 0,
    ) -> None:
        """`at_most` meshes, 0 = all; `against`, `copies` as in `TrainConfig`. ValueError where the cache has none of this part."""
        self.meshes = cache.of(part, copies)[: at_most or None]
        self._cache, self._config, self._against = cache, config, against
        self._loaded: dict[int, LoadedMesh] = {}

    def __len__(self) -> int:
        return len(self.meshes)

    def mesh(self, index: int) -> LoadedMesh:
        """One mesh; raises LibraryError if its file was damaged."""
        if index not in self._loaded:
            looks = self._cache.load(self.meshes[index])
            shown: list[Shown] = []
            if self._against == "points":
                shown = [(seen, features.half()) for seen, features in (shape_features(k, k.views) for k in looks)]
                looks = [Look(look.cloud, ()) for look in looks]
            pyramid = build_pyramid(looks[0].cloud.points, self._config)
            self._loaded[index] = LoadedMesh(tuple(looks), pyramid, tuple(shown))
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

    def everything(self) -> Iterator[tuple[Batch, Drawn]]:
        """Every look of every mesh as it is, one a batch, against all of its views or its points."""
        for i in range(len(self)):
            for k, look in enumerate(self.mesh(i).looks):
                item = Drawn(i, k, look.cloud, look.views)
                yield self._batch([item]), item

    def _drawn(self, index: int, views: int, rng: np.random.Generator) -> Drawn:
        looks = self.mesh(index).looks
        look = int(rng.integers(len(looks)))
        chosen = [looks[look].views[int(v)] for v in rng.permutation(len(looks[look].views))[:views]]
        return Drawn(index, look, looks[look].cloud.turned(about_up(float(rng.uniform(0, 2 * math.pi)))), chosen)

    def _batch(self, items: Sequence[Drawn]) -> Batch:
        inputs = torch.stack([point_inputs(item.cloud, self._config) for item in items])
        pyramid = joined_pyramids([self.mesh(item.mesh).pyramid for item in items])
        if self._against == "points":
            return Batch(inputs, pyramid, PointTargets.of([self.mesh(item.mesh).shown[item.look] for item in items]))
        return Batch(inputs, pyramid, Cells.of([item.views for item in items], len(items[0].cloud.points)))


def steps_per_epoch(meshes: int, batch_size: int, processes: int = 1) -> int:
    return math.ceil(meshes / (batch_size * processes))


def about_up(angle: float) -> torch.Tensor:
    """Rotation [3, 3] about +y: which way a mesh faces in its own file means nothing."""
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
