"""Ranking (PASR eq. 9-10): how far a similarity stands out from strangers'; one hypothesis per mesh; a score in [0, 1].

Meshes attract unequally: some win for every query. How much each attracts was measured when the library was built, on crops of
a photo that shows none of them (strangers: mean and spread of its best similarity). What counts is how many spreads a hypothesis
lies above that mean. A mesh's spread is drawn halfway to the library's typical one (`own_spread`): what stands far out competes
with meshes that look like it rather than with strangers, and among those a narrow spread says nothing. A mesh whose colours are
known has more to say of its own image than a bare one, so being no better than with strangers counts more against it
(`known_margin`).
The score is the probability of being the right mesh, calibrated on held-out objects (`confidence.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pasr_perception.confidence import probabilities
from pasr_perception.config import ConfidenceConfig, RankConfig
from pasr_perception.types import Candidates, Rivals

MIN_SPREAD = 1e-6


@dataclass(frozen=True)
class Attraction:
    """How a library's meshes answer strangers."""

    mean: torch.Tensor  # [M] best similarity over poses
    std: torch.Tensor  # [M] its standard deviation
    known: torch.Tensor  # [M] bool, the mesh's colours are those of the real object

    def rivals(self, config: RankConfig) -> Rivals:
        """What the meshes' values are compared with before meshes compete."""
        own = self.std.clamp(min=MIN_SPREAD).log()
        spread = (config.own_spread * own + (1 - config.own_spread) * own.mean()).exp()
        return Rivals(self.mean + config.known_margin * self.known.float(), spread)


@dataclass(frozen=True)
class Ranked:
    """One crop's hypotheses, best first, one per mesh."""

    mesh_index: tuple[int, ...]
    rotation: torch.Tensor  # [k, 3, 3]
    similarity: tuple[float, ...]
    score: tuple[float, ...]
    margin: tuple[float, ...]  # spreads above what strangers reach
    unknown: float  # probability that it is none of the library's meshes
    displacement: torch.Tensor  # [k, 3] of `Candidates`, zeros where it had none
    turn: tuple[int, ...]  # the quarter turn of the crop that each was found in
    distance: tuple[tuple[float, float], ...] = ()  # of `Candidates`: factor and noise; empty where it had none


def rank(candidates: Candidates, rivals: Rivals, config: RankConfig, confidence: ConfidenceConfig) -> Ranked:
    """Order one crop's refined candidates by how far they stand out from their meshes' strangers."""
    index = candidates.mesh_index
    margin = rivals.margin(candidates.value.cpu(), index)
    chosen: list[int] = []
    seen: set[int] = set()
    for i in torch.argsort(margin, descending=True, stable=True).tolist():
        if int(index[i]) not in seen:
            seen.add(int(index[i]))
            chosen.append(i)
    chosen = chosen[: config.hypotheses]
    meshes = tuple(int(index[i]) for i in chosen)
    similarities = tuple(float(candidates.similarity[i]) for i in chosen)
    margins = tuple(float(margin[i]) for i in chosen)
    scores, unknown = probabilities(margins, confidence)
    displacement = candidates.rotation.new_zeros(len(index), 3)
    if candidates.displacement is not None:
        displacement = candidates.displacement
    turns = tuple(candidates.turn[chosen].tolist())
    told = similarities, tuple(scores), margins, unknown
    distance = () if candidates.distance is None else tuple((f, n) for f, n in candidates.distance[chosen].tolist())
    return Ranked(meshes, candidates.rotation[chosen], *told, displacement[chosen], turns, distance)
