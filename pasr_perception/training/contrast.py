"""Contrastive training of the global embedding (CMIC): a photo's vector shall be nearest to its own shape's.

From the same observations as the point encoder. The photo is one view; the shape is the cloud with the features that the *other*
views show at its points, so that no photo meets itself. Every other photo wears another look than the shape (inexact colours).
Loss: InfoNCE both ways among the batch's meshes, plus the same with all meshes of the photo's category as right answers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn.functional import log_softmax

from pasr_perception.encoders.global_embedding import GlobalConfig, GlobalEmbedding
from pasr_perception.training.cache import ObservationCache
from pasr_perception.training.point_targets import shape_features

NO_CATEGORY = "object"


@dataclass(frozen=True)
class ContrastConfig:
    """How the global embedding is trained; all numbers are own choices but the two kinds of contrast."""

    steps: int = 1500
    batch_size: int = 48  # meshes
    members: int = 192  # cells, and points, drawn of each
    learning_rate: float = 5e-4
    weight_decay: float = 1e-2
    category_weight: float = 0.2
    seed: int = 0
    model: GlobalConfig = field(default_factory=GlobalConfig)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "members"):
            if getattr(self, name) < 2:
                raise ValueError(f"contrast.{name}: expected at least 2, got {getattr(self, name)}")


@dataclass(frozen=True)
class ContrastScores:
    """Retrieval among held-out meshes, of views that their shapes were not made from."""

    meshes: int
    top1: float
    top5: float


class Pairs:
    """(photo, shape) pairs of one part of the cached meshes."""

    def __init__(self, cache: ObservationCache, part: str) -> None:
        """Raises ValueError where the cache holds none of this part."""
        self.meshes = cache.of(part)
        self._looks = [cache.load(mesh) for mesh in self.meshes]
        names = sorted({mesh.category for mesh in self.meshes})
        # meshes of no known category are each one of their own
        self.category = torch.tensor(
            [names.index(m.category) if m.category != NO_CATEGORY else -1 - i for i, m in enumerate(self.meshes)]
        )

    def pair(self, mesh: int, view: int, look: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A photo's cells [n, D], of a view of some look, and the shape's points [m, D], of the first look's other views."""
        first = self._looks[mesh][0]
        photo = self._looks[mesh][look].views[view]
        others = [v for i, v in enumerate(first.views) if look != 0 or i != view]
        return photo.target.float(), shape_features(first, others)[1]

    def drawn(self, mesh: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        looks = self._looks[mesh]
        look = 0 if rng.random() < 0.5 else int(rng.integers(len(looks)))
        return self.pair(mesh, int(rng.integers(len(looks[look].views))), look)

    def first_views(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """One pair of every mesh: its first view against its others."""
        return [self.pair(mesh, 0, 0) for mesh in range(len(self.meshes))]


def contrast(photo: torch.Tensor, shape: torch.Tensor, scale: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """InfoNCE both ways for unit vectors [B, E]; `right` [B, B] bool says which shapes answer which photo."""
    products = photo @ shape.T * scale
    share = right.float() / right.sum(1, keepdim=True)
    there = -(share * log_softmax(products, 1)).sum(1).mean()
    share = right.T.float() / right.T.sum(1, keepdim=True)
    return (there - (share * log_softmax(products.T, 1)).sum(1).mean()) / 2


def train_global(
    cache: ObservationCache, config: ContrastConfig, progress: Callable[[str, int, int], None] = lambda *_: None
) -> tuple[GlobalEmbedding, ContrastScores]:
    """Train on the cache's training meshes; scores are of its validation meshes. Deterministic by the seed."""
    pairs = Pairs(cache, "train")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        module = GlobalEmbedding(dataclasses.replace(config.model, dim=int(cache.header["dim"])))
    optimiser = torch.optim.AdamW(module.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    for step in range(config.steps):
        progress("global", step, config.steps)
        rng = np.random.default_rng([config.seed, step])
        chosen = rng.permutation(len(pairs.meshes))[: config.batch_size]
        drawn = [pairs.drawn(int(i), rng) for i in chosen]
        photo, shape = (_packed([pair[k] for pair in drawn], config.members, rng) for k in (0, 1))
        vectors = module.photo(*photo), module.shape(*shape)
        scale, same = module.log_scale.exp(), torch.eye(len(chosen), dtype=torch.bool)
        category = pairs.category[torch.as_tensor(chosen)]
        kind = contrast(*vectors, scale, category[:, None] == category)
        loss = contrast(*vectors, scale, same) + config.category_weight * kind
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    module.eval().requires_grad_(False)
    return module, _scores(module, Pairs(cache, "validation"))


def _packed(sets: Sequence[torch.Tensor], members: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Up to `members` of each set as one batch [B, n, D] with a mask [B, n]."""
    taken = [s[torch.as_tensor(rng.permutation(len(s))[:members])] for s in sets]
    mask = torch.zeros(len(sets), members, dtype=torch.bool)
    batch = torch.zeros(len(sets), members, sets[0].shape[1])
    for i, some in enumerate(taken):
        batch[i, : len(some)], mask[i, : len(some)] = some, True
    return batch, mask


def _scores(module: GlobalEmbedding, pairs: Pairs) -> ContrastScores:
    photos, shapes = zip(*pairs.first_views(), strict=True)
    seen = torch.cat([module.photo(p[None], torch.ones(1, len(p), dtype=torch.bool)) for p in photos])
    known = torch.stack([module.embed_mesh(s) for s in shapes])
    products = seen @ known.T
    rank = (products > products.diagonal()[:, None]).sum(1)
    return ContrastScores(len(rank), float((rank < 1).float().mean()), float((rank < 5).float().mean()))
