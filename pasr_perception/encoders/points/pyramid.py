"""A cloud at all scales: which points are kept, which are neighbours, and how scales are interpolated back (PASR eq. 4-5).

None of this depends on weights or features, and turning a cloud changes none of it, so training computes it once per mesh.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch

from pasr_perception.encoders.points.config import OUTPUT_SCALES, PointEncoderConfig
from pasr_perception.encoders.points.sampling import ball_query, farthest_points, nearest_points


@dataclass(frozen=True)
class Scale:
    """One scale of M points, each a point of the scale before (N points), in farthest-point order."""

    centre: torch.Tensor  # [B, M] int64, index into the scale before
    group: torch.Tensor  # [B, M, K] int64, neighbours in the scale before: what set abstraction looks at
    around: torch.Tensor  # [B, M, K] int64, neighbours at this scale: what InvResMLP looks at


@dataclass(frozen=True)
class Interpolation:
    """How N points take features from the M of one scale."""

    index: torch.Tensor  # [B, N, k] int64
    weight: torch.Tensor  # [B, N, k] float32, summing to 1


@dataclass(frozen=True)
class Pyramid:
    """Neighbourhoods of B clouds at all scales."""

    scales: tuple[Scale, ...]
    back: tuple[Interpolation, ...]  # of the last three scales

    def to(self, device: torch.device) -> Pyramid:
        return Pyramid(
            tuple(Scale(*(getattr(s, f.name).to(device) for f in fields(s))) for s in self.scales),
            tuple(Interpolation(i.index.to(device), i.weight.to(device)) for i in self.back),
        )


def interpolation(points: torch.Tensor, centres: torch.Tensor, count: int, temperature: float) -> Interpolation:
    """Eq. 4-5 for one cloud: its `count` nearest centres, weighed by softmax(-d^2 / tau)."""
    index, d2 = nearest_points(points, centres, count)
    return Interpolation(index[None], torch.softmax(-d2 / temperature, 1)[None])


def build_pyramid(points: torch.Tensor, config: PointEncoderConfig) -> Pyramid:
    """The pyramid of one cloud [N, 3], B = 1: its first `input_points` are encoded, all N get features.

    Raises ValueError for fewer points than the first scale keeps.
    """
    seen = points[: config.input_points]
    order = farthest_points(seen, config.scales[0])
    scales, kept = [], seen
    for i, count in enumerate(config.scales):
        centre = order if i == 0 else torch.arange(count, device=points.device)
        centres = kept[centre[:count]]
        radius = config.radius_of(i)
        group = ball_query(centres, kept, radius, config.neighbours)
        around = ball_query(centres, centres, 2 * radius, config.neighbours)
        scales.append(Scale(centre[None, :count], group[None], around[None]))
        kept = centres
    at = [seen[order[:count]] for count in config.scales[-OUTPUT_SCALES:]]
    back = [interpolation(points, centres, config.interpolated, config.temperature) for centres in at]
    return Pyramid(tuple(scales), tuple(back))


def joined_pyramids(pyramids: Sequence[Pyramid]) -> Pyramid:
    """Pyramids of clouds of the same size as one batch."""
    scales = [
        Scale(*(torch.cat([getattr(s, f.name) for s in same]) for f in fields(Scale)))
        for same in zip(*(p.scales for p in pyramids), strict=True)
    ]
    back = [
        Interpolation(torch.cat([i.index for i in same]), torch.cat([i.weight for i in same]))
        for same in zip(*(p.back for p in pyramids), strict=True)
    ]
    return Pyramid(tuple(scales), tuple(back))
