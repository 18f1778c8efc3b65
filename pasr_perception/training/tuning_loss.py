"""Pairs of views of meshes, and what tuning the backbone minimises over them (`backbone.py`).

*Places*: a surface point's feature in one view of a mesh shall be nearer to the same point's in another view, in other colours and
light, than to other places of the mesh and to those of the other meshes of the batch: InfoNCE both ways.

*Meshes*: how well one view fits another is the mean, over its points, of each one's best match there. A view shall fit the other
view of its own mesh better than those of the other meshes: InfoNCE both ways again. Places alone made meshes harder to tell apart.

*The pull* holds features near the published network's, which knows far more than a few hundred meshes can teach.

Features are compared as in use: projected, then centred over the mesh's points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import grid_sample, normalize

from pasr_perception.encoders.centring import centred_cloud
from pasr_perception.encoders.projection import FeatureProjection
from pasr_perception.encoders.tuned import Tail
from pasr_perception.training.mesh_views import MeshViews
from pasr_perception.training.telling_apart import both_ways, places_apart

FEWEST = 16  # points that two views must have in common
SOFTNESS = 0.05  # of the best match while training: cosines this far below it count for a third


@dataclass(frozen=True)
class LossConfig:
    """What counts how much."""

    temperature: float = 0.1  # of places
    far: float = 0.2  # radii beyond which another place is a wrong answer
    meshes: float = 1.0  # weight of telling meshes apart
    meshes_temperature: float = 0.03
    pull: float = 0.5  # weight of the distance from the published network's features

    def __post_init__(self) -> None:
        for name in ("temperature", "far", "meshes_temperature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"tune.loss.{name}: expected more than 0, got {getattr(self, name)}")
        for name in ("meshes", "pull"):
            if getattr(self, name) < 0:
                raise ValueError(f"tune.loss.{name}: expected 0 or more, got {getattr(self, name)}")


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


@dataclass(frozen=True)
class Loss:
    """The loss, its parts, and the features that it is of."""

    total: torch.Tensor  # []
    places: torch.Tensor  # []
    meshes: torch.Tensor  # []
    anchor: torch.Tensor  # [B, n, D] centred unit features
    other: torch.Tensor  # [B, n, D]


def features_at(maps: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
    """Unit features [B, n, D] of maps [B, D, g, g] at places uv [B, n, 2] in image sizes, bilinear."""
    at = grid_sample(maps, (uv * 2 - 1)[:, :, None], align_corners=False, padding_mode="border")
    return normalize(at[..., 0].transpose(1, 2), dim=2)


def meshes_apart(anchor: torch.Tensor, other: torch.Tensor, temperature: float) -> torch.Tensor:
    """InfoNCE both ways of how well views [B, n, D] of meshes fit others [B, n, D] of the same: each point's best match, softly."""
    products = torch.einsum("and,bmd->abnm", anchor, other) / SOFTNESS
    fits = SOFTNESS * products.logsumexp(3).mean(2)  # [B, B], of anchors by others
    fitted = SOFTNESS * products.logsumexp(2).mean(2)  # of others by anchors
    return both_ways(fits / temperature, fitted.T / temperature)


def objective(tail: Tail, projection: FeatureProjection, pairs: Pairs, config: LossConfig) -> Loss:
    """What a step minimises."""
    after = features_at(projection(tail(pairs.first)), pairs.uv)
    strayed = (1 - (after * pairs.before).sum(2)).mean()
    anchor, other = torch.stack([centred_cloud(of_view) for of_view in after]).chunk(2)
    places = places_apart(anchor.flatten(0, 1), other.flatten(0, 1), pairs.near(config.far), config.temperature)
    meshes = meshes_apart(anchor, other, config.meshes_temperature)
    return Loss(places + config.meshes * meshes + config.pull * strayed, places, meshes, anchor, other)
