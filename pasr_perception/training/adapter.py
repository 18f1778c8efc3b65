"""Training of the feature adapter (InexactCAD 3.1.1) on the point encoder's observations, whatever their colours.

A covered cell of a view knows its place on the object: the splatted mean of its points, a normalised object coordinate (NOC). Two
views of one mesh, each in its own look, give triplets. The anchor is a cell of the first, the positive the cell of the second
that is nearest on the object, the negatives are those that look similar but are elsewhere on it, as symmetric parts do. A decoder
of two layers reads the NOC from adapted features while training. Loss: triplet + lambda * L1 of the NOC.

The paper's lambda, margins and thresholds were not at hand: those below are own choices, made on validation meshes.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import relu

from pasr_perception.data.split import TRAIN, VALIDATION, meshes_of
from pasr_perception.encoders.adapter import AdapterConfig, FeatureAdapter
from pasr_perception.training.cache import ObservationCache
from pasr_perception.training.observe import Look, ObservedView
from pasr_perception.training.point_targets import shape_features

MATCHED = 0.2  # radii within which a held-out cell's match counts
SPARSE = 4  # of cells and points every n-th tells meshes apart


@dataclass(frozen=True)
class AdaptConfig:
    """How the adapter is trained."""

    steps: int = 2500
    batch_size: int = 8  # meshes, two views of each
    cells: int = 96  # drawn of each view
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    margin: float = 0.4  # of cosines, that a positive shall be nearer than a negative
    near: float = 0.1  # radii: a positive lies within
    far: float = 0.3  # radii: a negative lies beyond
    noc_weight: float = 0.2  # lambda
    seed: int = 0
    model: AdapterConfig = field(default_factory=AdapterConfig)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "cells"):
            if getattr(self, name) < 1:
                raise ValueError(f"adapt.{name}: expected at least 1, got {getattr(self, name)}")
        if not 0 < self.near < self.far:
            raise ValueError(f"adapt.near: expected more than 0 and less than far={self.far}, got {self.near}")
        for name in ("margin", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"adapt.{name}: expected more than 0, got {getattr(self, name)}")
        if self.noc_weight < 0:
            raise ValueError(f"adapt.noc_weight: expected 0 or more, got {self.noc_weight}")


@dataclass(frozen=True)
class PlacedCells:
    """Cells of one view with their places on the object."""

    feature: torch.Tensor  # [M, D] float32, centred
    place: torch.Tensor  # [M, 3] float32, normalised object coordinates

    @classmethod
    def of(cls, look: Look, view: ObservedView) -> PlacedCells:
        weight = view.weight.float()
        return cls(view.target.float(), (look.cloud.points[view.index.long()] * weight[..., None]).sum(1))

    def drawn(self, count: int, rng: np.random.Generator) -> PlacedCells:
        """`count` of them, some more than once where there are fewer."""
        some = torch.as_tensor(rng.choice(len(self.place), count, replace=len(self.place) < count))
        return PlacedCells(self.feature[some], self.place[some])


class PlacedViews:
    """All views of the cached meshes of one part of the split."""

    def __init__(self, cache: ObservationCache, part: str) -> None:
        """Raises ValueError where the cache holds none of this part."""
        self.meshes = cache.of(part)
        self.looks = [cache.load(mesh) for mesh in self.meshes]

    def pair(self, mesh: int, rng: np.random.Generator) -> tuple[PlacedCells, PlacedCells]:
        """Two different views of one mesh, of any looks."""
        views = [(look, view) for look in self.looks[mesh] for view in look.views]
        first, second = rng.permutation(len(views))[:2]
        return PlacedCells.of(*views[first]), PlacedCells.of(*views[second])


def triplet_loss(
    anchor: torch.Tensor, other: torch.Tensor, distance: torch.Tensor, config: AdaptConfig
) -> torch.Tensor:
    """Mean hinge of all triplets that violate the margin: adapted features [B, n, K], [B, m, K], distances [B, n, m] on the object.

    The hardest negatives alone would let all features fall together. Anchors without a near cell in the other view do not count.
    """
    cosine = anchor @ other.transpose(1, 2)
    nearest, index = distance.min(2)
    positive = cosine.gather(2, index[..., None])
    counts = (nearest < config.near)[..., None] & (distance > config.far)
    hinge = relu(config.margin + cosine - positive) * counts
    return hinge.sum() / (hinge > 0).sum().clamp(min=1)


class Adapting(nn.Module):
    """The adapter with the decoder that is left behind after training."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.adapter = FeatureAdapter(config)
        self.decoder = nn.Sequential(nn.Linear(config.adapted, config.adapted), nn.ReLU(), nn.Linear(config.adapted, 3))


def train_adapter(
    cache: ObservationCache, config: AdaptConfig, progress: Callable[[str, int, int], None] = lambda *_: None
) -> FeatureAdapter:
    """Train on the cache's training meshes. Deterministic by the seed."""
    views = PlacedViews(cache, TRAIN)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        module = Adapting(dataclasses.replace(config.model, dim=int(cache.header["dim"])))
    optimiser = torch.optim.AdamW(module.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
    for step in range(config.steps):
        progress("adapter", step, config.steps)
        rng = np.random.default_rng([config.seed, step])
        drawn = [views.pair(int(i), rng) for i in rng.integers(len(views.meshes), size=config.batch_size)]
        first, second = (_stacked([pair[k].drawn(config.cells, rng) for pair in drawn]) for k in (0, 1))
        adapted = [module.adapter(cells.feature) for cells in (first, second)]
        distance = torch.cdist(first.place, second.place)
        loss = triplet_loss(adapted[0], adapted[1], distance, config)
        if config.noc_weight > 0:
            noc = [(module.decoder(a) - c.place).abs().mean() for a, c in zip(adapted, (first, second), strict=True)]
            loss = loss + config.noc_weight * (noc[0] + noc[1]) / 2
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    return module.adapter.eval().requires_grad_(False)


@dataclass(frozen=True)
class MatchScores:
    """Cells of held-out views matched to their nearest point, by feature, of the mesh's cloud as the first look's other views
    show it; and the mesh itself found among all by the mean of these matches."""

    near: float  # share of cells whose match lies within `near`, mean over views
    top1: float  # share of views


@torch.no_grad()
def match(views: PlacedViews, seen: Callable[[torch.Tensor], torch.Tensor], near: float) -> MatchScores:
    """Scores over the views of every mesh of features changed by `seen`: centred [n, D] -> unit [n, E]."""
    clouds = []
    for looks in views.looks:
        shown, features = shape_features(looks[0], looks[0].views[1:])
        clouds.append((looks[0].cloud.points[shown], seen(features)))
    sparse = [features[::SPARSE].T for _, features in clouds]
    hits, right = [], []
    for mesh, looks in enumerate(views.looks):
        others = [(look, view) for look in looks[1:] for view in look.views]
        for cells in itertools.starmap(PlacedCells.of, [(looks[0], looks[0].views[0]), *others]):
            features = seen(cells.feature)
            found = clouds[mesh][0][(features @ clouds[mesh][1].T).argmax(1)]
            hits.append(((found - cells.place).norm(dim=1) < near).float().mean())
            best = torch.stack([(features[::SPARSE] @ cloud).amax(1).mean() for cloud in sparse])
            right.append(best.argmax() == mesh)
    return MatchScores(float(torch.stack(hits).mean()), float(torch.stack(right).float().mean()))


def card(cache: ObservationCache, config: AdaptConfig, module: FeatureAdapter) -> dict[str, Any]:
    """What to know of an adapter: recipe, data, and what it changes on validation meshes."""
    views = PlacedViews(cache, VALIDATION)
    shares = {"frozen": 0.0, "half adapted": 0.5, "adapted": 1.0}
    return {
        "recipe": dataclasses.asdict(config),
        "observations": cache.header,
        "meshes": meshes_of(TRAIN, sorted(m.id for m in cache.meshes)),
        "validation": {
            name: dataclasses.asdict(match(views, partial(module.fused, share=share), MATCHED))
            for name, share in shares.items()
        },
    }


def _stacked(cells: Sequence[PlacedCells]) -> PlacedCells:
    """Views of as many cells each as one batch: features [B, n, D], places [B, n, 3]."""
    return PlacedCells(torch.stack([c.feature for c in cells]), torch.stack([c.place for c in cells]))
