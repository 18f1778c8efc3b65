"""Tuning of the default backbone's last blocks on synthetic photos, from the published weights at a low rate.

Places shall be found again in other views, colours and light, and meshes told apart by it (`tuning_loss.py`). Half of a step's
meshes are of one category; most pairs are of a photo and a rendering, as a query and a library are. Batch norms are folded and
stay as they are, so do depthwise kernels (`depthwise.py`) and the projection. The weights with the lowest loss on validation
meshes are kept.
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

from pasr_perception.encoders.centring import centred_cloud
from pasr_perception.encoders.efficientnet_lite import EfficientNetLite
from pasr_perception.encoders.projection import FeatureProjection
from pasr_perception.encoders.tuned import Tail, TunedBackbone
from pasr_perception.training.depthwise import with_frozen_depthwise
from pasr_perception.training.mesh_views import PHOTO, MeshViews
from pasr_perception.training.tuning_loss import Chosen, LossConfig, Pairs, Subject, features_at, objective

logger = logging.getLogger(__name__)

NO_CATEGORY = "object"
MATCHED = 0.2  # radii within which a match counts

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class TuneConfig:
    """How the backbone is tuned."""

    steps: int = 700
    meshes: int = 8  # per step, two views of each
    points: int = 64  # of each mesh, seen in both views
    photo_share: float = 0.75  # of pairs that are surely of a photo and a rendering; the others are any two views
    learning_rate: float = 1e-4
    warmup_steps: int = 30
    validate_every: int = 50  # steps
    patience: int = 4  # validations without a better one, after which training ends
    seed: int = 0
    loss: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        for name in ("meshes", "points", "validate_every", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"tune.{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("steps", "warmup_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"tune.{name}: expected 0 or more, got {getattr(self, name)}")
        if self.learning_rate <= 0:
            raise ValueError(f"tune.learning_rate: expected more than 0, got {self.learning_rate}")
        if not 0 <= self.photo_share <= 1:
            raise ValueError(f"tune.photo_share: expected 0..1, got {self.photo_share}")


def drawn(subjects: Sequence[Subject], config: TuneConfig, rng: np.random.Generator) -> Pairs:
    """One step's pairs, each of another mesh: half of one category, where there are as many, the others at random."""
    category = [subject.views.category for subject in subjects]
    one = category[int(rng.integers(len(subjects)))]
    alike = [i for i in rng.permutation(len(subjects)) if category[i] == one != NO_CATEGORY]
    chosen = _of_other_meshes(subjects, alike, config.meshes // 2, set())
    taken = {subjects[i].views.id for i in chosen}
    rest = rng.permutation(len(subjects)).tolist()
    chosen += _of_other_meshes(subjects, rest, config.meshes - len(chosen), taken)
    pairs = []
    for subject in (subjects[i] for i in chosen):
        of_photo = [pair for pair in subject.pairs if PHOTO in pair]
        among = of_photo if of_photo and rng.random() < config.photo_share else subject.pairs
        a, b = rng.permutation(among[int(rng.integers(len(among)))])
        pairs.append((subject, int(a), int(b)))
    return Pairs.of(pairs, config.points, rng)


def _of_other_meshes(subjects: Sequence[Subject], order: Sequence[int], count: int, taken: set[str]) -> list[int]:
    """The first `count` of `order` whose meshes are neither `taken` nor one another's."""
    seen, found = set(taken), list[int]()
    for i in order:
        if len(found) < count and subjects[i].views.id not in seen:
            seen.add(subjects[i].views.id)
            found.append(int(i))
    return found


@dataclass(frozen=True)
class TuneScores:
    """Of held-out meshes."""

    loss: float  # of places and meshes
    matched: float  # share of points whose match among a batch's is on the same mesh, within MATCHED of their place
    found: float  # share of photos that fit the renderings of their own mesh best, among all held-out meshes


@torch.no_grad()
def validated(tail: Tail, projection: FeatureProjection, subjects: Sequence[Subject], config: TuneConfig) -> TuneScores:
    """Scores over every photo with each of its renderings."""
    losses, hits = [], []
    rng = np.random.default_rng(config.seed)
    for chosen in _batches(subjects, config.meshes):
        pairs = Pairs.of(chosen, config.points, rng)
        loss = objective(tail, projection, pairs, config.loss)
        losses.append(float(loss.places + config.loss.meshes * loss.meshes))
        best = (loss.anchor.flatten(0, 1) @ loss.other.flatten(0, 1).T).argmax(1)
        hits.append(float(pairs.near(MATCHED).gather(1, best[:, None]).float().mean()))
    return TuneScores(float(np.mean(losses)), float(np.mean(hits)), _found(tail, projection, subjects))


def _batches(subjects: Sequence[Subject], size: int) -> Iterator[list[Chosen]]:
    for pair in sorted({pair for subject in subjects for pair in subject.pairs if PHOTO in pair}):
        usable = [(subject, *pair) for subject in subjects if pair in subject.pairs]
        yield from (usable[begin : begin + size] for begin in range(0, len(usable), size))


def _found(tail: Tail, projection: FeatureProjection, subjects: Sequence[Subject]) -> float:
    """`TuneScores.found`: how well a photo fits a mesh is the mean, over its points, of each one's best match in any rendering."""
    photos, renderings = [], []
    for views in (subject.views for subject in subjects):
        at = features_at(projection(tail(views.first.float())), views.uv)
        photo, *others = (centred_cloud(f[seen]) for f, seen in zip(at, views.seen, strict=True) if seen.any())
        photos.append(photo)
        renderings.append(torch.cat(others))
    names = [subject.views.id for subject in subjects]
    best = [int(torch.stack([(p @ r.T).amax(1).mean() for r in renderings]).argmax()) for p in photos]
    return float(np.mean([names[i] == name for i, name in zip(best, names, strict=True)]))


def tune(
    encoder: EfficientNetLite,
    train: Sequence[MeshViews],
    watched: Sequence[MeshViews],
    config: TuneConfig,
    progress: Progress = lambda *_: None,
) -> TunedBackbone:
    """Tune on some meshes, stop by others. Deterministic by the seed; without steps the published weights."""
    projection = encoder.projection
    subjects, held_out = (
        [s for s in (Subject.of(views, encoder.tail, projection) for views in part) if s.pairs]
        for part in (train, watched)
    )
    before = validated(encoder.tail, projection, held_out, config)
    tail, after, curve = _tuned(encoder.tail, projection, (subjects, held_out), config, before, progress)
    scores = {"published": before, "tuned": after}
    card = {
        "recipe": dataclasses.asdict(config),
        "meshes": sorted({m.id for m in train}),
        "watched": sorted({m.id for m in watched}),
        "curve": curve,
        "validation": {name: dataclasses.asdict(of) for name, of in scores.items()},
    }
    return TunedBackbone(dict(tail.state_dict()), projection, card)


def _tuned(
    published: Tail,
    projection: FeatureProjection,
    parts: tuple[Sequence[Subject], Sequence[Subject]],
    config: TuneConfig,
    before: TuneScores,
    progress: Progress,
) -> tuple[Tail, TuneScores, list[dict[str, Any]]]:
    """The tail with the lowest validation loss, its scores, and those on the way; `before` are the published one's."""
    tail = with_frozen_depthwise(copy.deepcopy(published))
    weights = [p.requires_grad_() for p in tail.parameters() if p.ndim > 1]  # what is folded of batch norms stays
    optimiser = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=0.0)
    train, watched = parts
    best, reached = dict(published.state_dict()), before
    curve, losses, waited = list[dict[str, Any]](), list[float](), 0
    for step in range(config.steps):
        progress("backbone", step, config.steps)
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * _rate(step, config)
        pairs = drawn(train, config, np.random.default_rng([config.seed, step]))
        loss = objective(tail, projection, pairs, config.loss).total
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
        waited += 1
        if scores.loss < reached.loss:
            reached, best, waited = scores, {name: t.clone() for name, t in tail.state_dict().items()}, 0
        if waited >= config.patience:
            break
    kept = copy.deepcopy(published)
    kept.load_state_dict(best)
    return kept, reached, curve


def _rate(step: int, config: TuneConfig) -> float:
    """Share of the learning rate: warm-up, then a cosine down to a hundredth."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
    return 0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2
