"""Ranking (PASR eq. 9-10): final similarity minus the mesh's own offset; one hypothesis per mesh; a score in [0, 1].

Meshes attract unequally: some win for every query. How much each attracts was measured when the library was built, on crops of
a photo that shows none of them (strangers: mean and spread of its best similarity). A mesh whose colours are known has more to
say of its own image than a bare one, so being no better than with strangers counts more against it (`known_margin`).
The score is the share of strangers that a hypothesis beats, taking their similarities as normally distributed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from pasr_perception.config import RankConfig
from pasr_perception.types import Candidates


@dataclass(frozen=True)
class Attraction:
    """How a library's meshes answer strangers."""

    mean: torch.Tensor  # [M] best similarity over poses
    std: torch.Tensor  # [M] its standard deviation
    known: torch.Tensor  # [M] bool, the mesh's colours are those of the real object

    def offset(self, known_margin: float) -> torch.Tensor:
        """[M] what is subtracted from similarities before meshes compete."""
        return self.mean + known_margin * self.known.float()


@dataclass(frozen=True)
class Ranked:
    """One crop's hypotheses, best first, one per mesh."""

    mesh_index: tuple[int, ...]
    rotation: torch.Tensor  # [k, 3, 3]
    similarity: tuple[float, ...]
    score: tuple[float, ...]


def attraction_score(similarity: float, mean: float, std: float) -> float:
    """Share of non-matching queries that this similarity beats, in [0, 1]."""
    return 0.5 * math.erfc((mean - similarity) / (math.sqrt(2) * max(std, 1e-6)))


def rank(candidates: Candidates, attraction: Attraction, config: RankConfig) -> Ranked:
    """Order one crop's refined candidates by what their value has over their mesh's offset."""
    index = candidates.mesh_index
    margin = candidates.value.cpu() - attraction.offset(config.known_margin)[index]
    chosen: list[int] = []
    seen: set[int] = set()
    for i in torch.argsort(margin, descending=True, stable=True).tolist():
        if int(index[i]) not in seen:
            seen.add(int(index[i]))
            chosen.append(i)
    chosen = chosen[: config.hypotheses]
    meshes = tuple(int(index[i]) for i in chosen)
    similarities = tuple(float(candidates.similarity[i]) for i in chosen)
    scores = tuple(
        attraction_score(float(candidates.value[i]), float(attraction.mean[m]), float(attraction.std[m]))
        for i, m in zip(chosen, meshes, strict=True)
    )
    return Ranked(meshes, candidates.rotation[chosen], similarities, scores)
