"""What a run measures, and on what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pasr_perception.benchmark.queries import Query
from pasr_perception.config import PasrConfig
from pasr_perception.encoders.base import Encoder
from pasr_perception.library.store import MeshLibrary
from pasr_perception.pipeline import Pipeline


@dataclass(frozen=True)
class BenchPlan:
    """How much is measured. Sizes ascend; all but the last are timed in one process, the last in processes of its own."""

    sizes: tuple[int, ...] = (10, 100, 1000, 10000)
    crops: tuple[int, ...] = (1, 8)
    repeats: int = 9  # of stage times with one crop
    crowd_repeats: int = 3  # with more
    coarse_repeats: int = 9  # of the baselines, the slowest of which takes ten seconds a mesh
    queries: int = 120  # whose search results are compared
    refine_queries: int = 60
    open_repeats: int = 5
    reposed: int = 10  # real meshes that get both pose sets
    photos: int = 40  # that are simulated where there is no bag
    quick: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.sizes) < 3 or list(self.sizes) != sorted(set(self.sizes)) or self.sizes[0] < 1:
            raise ValueError(f"sizes: expected at least three ascending library sizes, got {self.sizes}")
        if not self.crops or min(self.crops) < 1:
            raise ValueError(f"crops: expected numbers of at least 1, got {self.crops}")

    def repeats_of(self, crops: int) -> int:
        """Repeats of frames of that many crops."""
        return self.repeats if crops == 1 else self.crowd_repeats

    @property
    def small(self) -> int:
        return self.sizes[0]

    @property
    def large(self) -> int:
        return self.sizes[-2]

    @property
    def huge(self) -> int:
        return self.sizes[-1]


QUICK = BenchPlan(
    repeats=3,
    crowd_repeats=2,
    coarse_repeats=3,
    queries=24,
    refine_queries=12,
    open_repeats=2,
    reposed=2,
    photos=6,
    quick=True,
)


@dataclass(frozen=True)
class Subject:
    """What is benchmarked: a library of real meshes, the encoder it was built with, and photos to ask about."""

    library: MeshLibrary
    encoder: Encoder
    device: torch.device
    config: PasrConfig
    queries: Sequence[Query]
    photos: str  # where the queries come from, for people

    def __post_init__(self) -> None:
        if not self.queries:
            raise ValueError("queries: expected photos with at least one detection, got none")

    def pipeline(self, library: MeshLibrary | None = None) -> Pipeline:
        """The pipeline over another library than its own, or over its own."""
        return Pipeline(library or self.library, self.encoder, self.config, self.device)
