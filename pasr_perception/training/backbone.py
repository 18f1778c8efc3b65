"""Tuning of the default backbone's last blocks for dense correspondence, from the published weights at a low rate.

A surface point's feature in one view of a mesh shall be nearer to the same point's in another view, in other colours and light,
than to other places of the mesh and to those of the other meshes of the batch, half of which are of one category: InfoNCE both
ways. Features are compared as in use: projected, then centred over the mesh's points. A second term holds them near the published
network's, which know far more than a few hundred meshes can teach. Batch norms are folded and stay as they are. The weights with
the lowest loss on validation meshes are kept, and the projection is fitted to them anew.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy, grid_sample, normalize

from pasr_perception.encoders.centring import centred_cloud
from pasr_perception.encoders.efficientnet_lite import EfficientNetLite
from pasr_perception.encoders.fit import FitConfig, PointViews, statistics
from pasr_perception.encoders.projection import FeatureProjection
from pasr_perception.encoders.tuned import Tail, TunedBackbone
from pasr_perception.training.mesh_views import PHOTO, MeshViews

logger = logging.getLogger(__name__)

NO_CATEGORY = "object"
MATCHED = 0.2  # radii within which a match counts
FEWEST = 16  # points that two views must have in common

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class TuneConfig:
    """How the backbone is tuned."""

    steps: int = 300
    meshes: int = 8  # per step, two views of each
    points: int = 64  # of each mesh, seen in both views
    learning_rate: float = 5e-5
    warmup_steps: int = 20
    temperature: float = 0.1
    far: float = 0.2  # radii beyond which another place is a wrong answer
    pull: float = 1.0  # weight of the distance from the published network's features
    validate_every: int = 25  # steps
    patience: int = 4  # validations without a better one, after which training ends
    seed: int = 0
    fit: FitConfig = field(default_factory=FitConfig)

    def __post_init__(self) -> None:
        for name in ("meshes", "points", "validate_every", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"tune.{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "temperature", "far"):
            if getattr(self, name) <= 0:
                raise ValueError(f"tune.{name}: expected more than 0, got {getattr(self, name)}")
        for name in ("steps", "warmup_steps", "pull"):
            if getattr(self, name) < 0:
                raise ValueError(f"tune.{name}: expected 0 or more, got {getattr(self, name)}")


@dataclass(frozen=True)
class Subject:
    """A mesh's views, and what the published network makes of them."""

    views: MeshViews
    before: torch.Tensor  # [V, P, D] float16, unit features of its points
    pairs: tuple[tuple[int, int], ...]  # of views with enough points in common

    @classmethod
    def of(cls, views: MeshViews, published: Tail, projection: FeatureProjection) -> Subject:
        count = len(views.seen)
        pairs = [(a, b) for a in range(count) for b in range(a + 1, count) if len(views.common(a, b)) >= FEWEST]
        with torch.no_grad():
            before = features_at(projection(published(views.first.float())), views.uv)
        return cls(views, before.half(), tuple(pairs))


Chosen = tuple[Subject, int, int]  # a mesh and two of its views


@dataclass(frozen=True)
class Pairs:
    """Points of several meshes, each in two views; of the 2 B views the first B are the anchors'."""

    first: torch.Tensor  # [2 B, C, g, g] float32, the first tap
    uv: torch.Tensor  # [2 B, n, 2]
    before: torch.Tensor  # [2 B, n, D] float32, what the published network makes of the points
    place: torch.Tensor  # [B n, 3]
    mesh: torch.Tensor  # [B n] int64, equal for points of one mesh

    @classmethod
    def of(cls, chosen: Sequence[Chosen], points: int, rng: np.random.Generator) -> Pairs:
        """`points` common points of two views of each mesh, some more than once where there are fewer."""
        index = []
        for subject, a, b in chosen:
            common = subject.views.common(a, b)
            index.append(common[torch.as_tensor(rng.choice(len(common), points, replace=len(common) < points))])
        sides = [[(s, (a, b)[k], i) for (s, a, b), i in zip(chosen, index, strict=True)] for k in (0, 1)]
        both, names = [*sides[0], *sides[1]], sorted({s.views.id for s, _, _ in chosen})
        return cls(
            torch.stack([s.views.first[k] for s, k, _ in both]).float().contiguous(memory_format=torch.channels_last),
            torch.stack([s.views.uv[k][i] for s, k, i in both]),
            torch.stack([s.before[k][i] for s, k, i in both]).float(),
            torch.cat([s.views.place[i] for s, _, i in sides[0]]),
            torch.tensor([names.index(s.views.id) for s, _, _ in sides[0]]).repeat_interleave(points),
        )

    def near(self, radius: float) -> torch.Tensor:
        """Which points are within a radius of which on the same mesh, [B n, B n] bool."""
        return (self.mesh[:, None] == self.mesh) & (torch.cdist(self.place, self.place) <= radius)


def correspondence(anchor: torch.Tensor, other: torch.Tensor, near: torch.Tensor, temperature: float) -> torch.Tensor:
    """InfoNCE both ways of centred unit features [n, D] of the same n points in two views.

    Points `near` [n, n] bool one another are neither right nor wrong, except each for itself.
    """
    same = torch.eye(len(anchor), dtype=torch.bool, device=anchor.device)
    products = (anchor @ other.T / temperature).masked_fill(near & ~same, -torch.inf)
    right = torch.arange(len(anchor), device=anchor.device)
    return (cross_entropy(products, right) + cross_entropy(products.T, right)) / 2


def features_at(maps: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
    """Unit features [B, n, D] of maps [B, D, g, g] at places uv [B, n, 2] in image sizes, bilinear."""
    at = grid_sample(maps, (uv * 2 - 1)[:, :, None], align_corners=False, padding_mode="border")
    return normalize(at[..., 0].transpose(1, 2), dim=2)


def objective(
    tail: Tail, projection: FeatureProjection, pairs: Pairs, config: TuneConfig
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The loss, and the centred features [B n, D] of anchors and others."""
    after = features_at(projection(tail(pairs.first)), pairs.uv)
    strayed = (1 - (after * pairs.before).sum(2)).mean()
    anchor, other = torch.cat([centred_cloud(of_view) for of_view in after]).chunk(2)
    loss = correspondence(anchor, other, pairs.near(config.far), config.temperature)
    return loss + config.pull * strayed, anchor, other


def drawn(subjects: Sequence[Subject], config: TuneConfig, rng: np.random.Generator) -> Pairs:
    """One step's pairs: half of the meshes of one category, where there are as many, the others at random."""
    category = [subject.views.category for subject in subjects]
    one = category[int(rng.integers(len(subjects)))]
    alike = [i for i, name in enumerate(category) if name == one != NO_CATEGORY]
    chosen = [alike[i] for i in rng.permutation(len(alike))[: config.meshes // 2]]
    chosen += [i for i in rng.permutation(len(subjects)) if i not in chosen][: config.meshes - len(chosen)]
    pairs = []
    for subject in (subjects[i] for i in chosen):
        a, b = rng.permutation(subject.pairs[int(rng.integers(len(subject.pairs)))])
        pairs.append((subject, int(a), int(b)))
    return Pairs.of(pairs, config.points, rng)


@dataclass(frozen=True)
class TuneScores:
    """Of held-out meshes: points of the photos matched among all points that the renderings of a batch's meshes show."""

    loss: float
    matched: float  # share whose match is on the same mesh, within MATCHED of the point


@torch.no_grad()
def validated(tail: Tail, projection: FeatureProjection, subjects: Sequence[Subject], config: TuneConfig) -> TuneScores:
    """Scores over every photo with each of its renderings."""
    losses, hits = [], []
    rng = np.random.default_rng(config.seed)
    for chosen in _batches(subjects, config.meshes):
        pairs = Pairs.of(chosen, config.points, rng)
        loss, anchor, other = objective(tail, projection, pairs, config)
        losses.append(float(loss))
        best = (anchor @ other.T).argmax(1)
        hits.append(float(pairs.near(MATCHED).gather(1, best[:, None]).float().mean()))
    return TuneScores(float(np.mean(losses)), float(np.mean(hits)))


def _batches(subjects: Sequence[Subject], size: int) -> Iterator[list[Chosen]]:
    for pair in sorted({pair for subject in subjects for pair in subject.pairs if PHOTO in pair}):
        usable = [(subject, *pair) for subject in subjects if pair in subject.pairs]
        yield from (usable[begin : begin + size] for begin in range(0, len(usable), size))


@torch.no_grad()
def fitted(tail: Tail, meshes: Sequence[MeshViews], config: FitConfig) -> FeatureProjection:
    """The projection fitted to what the tail makes of these meshes' views."""
    found = []
    for views in meshes:
        taps = torch.cat(tail(views.first.float()), 1)
        raw = grid_sample(taps, (views.uv * 2 - 1)[:, :, None], align_corners=False, padding_mode="border")
        found.append(PointViews(raw[..., 0].transpose(1, 2), views.seen))
    return statistics(found, config)


def tune(
    encoder: EfficientNetLite,
    train: Sequence[MeshViews],
    watched: Sequence[MeshViews],
    config: TuneConfig,
    progress: Progress = lambda *_: None,
) -> TunedBackbone:
    """Tune on some meshes, stop by others. Deterministic by the seed; without steps the published weights, fitted anew."""
    projection = fitted(encoder.tail, train, config.fit)
    subjects, held_out = (
        [s for s in (Subject.of(views, encoder.tail, projection) for views in part) if s.pairs]
        for part in (train, watched)
    )
    tail, curve = _tuned(encoder.tail, projection, (subjects, held_out), config, progress)
    own = fitted(tail, train, config.fit) if curve else projection
    apart = dataclasses.replace(config, pull=0.0)  # features of two projections have no distance
    scores = {
        "published": validated(encoder.tail, projection, held_out, apart),
        "tuned": validated(tail, own, held_out, apart),
    }
    card = {
        "recipe": dataclasses.asdict(config),
        "meshes": sorted({m.id for m in train}),
        "watched": sorted({m.id for m in watched}),
        "curve": curve,
        "validation": {name: dataclasses.asdict(of) for name, of in scores.items()},
    }
    return TunedBackbone(dict(tail.state_dict()), own, card)


def _tuned(
    published: Tail,
    projection: FeatureProjection,
    parts: tuple[Sequence[Subject], Sequence[Subject]],
    config: TuneConfig,
    progress: Progress,
) -> tuple[Tail, list[dict[str, Any]]]:
    """The tail with the lowest validation loss, and the losses on the way."""
    tail = copy.deepcopy(published)
    weights = [p.requires_grad_() for p in tail.parameters() if p.ndim > 1]  # what is folded of batch norms stays
    optimiser = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=0.0)
    train, watched = parts
    best, curve, waited = copy.deepcopy(tail), list[dict[str, Any]](), 0
    lowest, losses = validated(tail, projection, watched, config).loss, list[float]()
    for step in range(config.steps):
        progress("backbone", step, config.steps)
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * _rate(step, config)
        pairs = drawn(train, config, np.random.default_rng([config.seed, step]))
        loss = objective(tail, projection, pairs, config)[0]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
        if (step + 1) % config.validate_every and step + 1 < config.steps:
            continue
        scores = validated(tail, projection, watched, config)
        curve.append({"step": step + 1, "train": float(np.mean(losses)), **dataclasses.asdict(scores)})
        logger.info("step %d: %s", step + 1, curve[-1])
        losses.clear()
        waited = 0 if scores.loss < lowest else waited + 1
        if scores.loss < lowest:
            lowest, best = scores.loss, copy.deepcopy(tail)
        if waited >= config.patience:
            break
    return best.requires_grad_(False), curve


def _rate(step: int, config: TuneConfig) -> float:
    """Share of the learning rate: warm-up, then a cosine down to a hundredth."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
    return 0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2
