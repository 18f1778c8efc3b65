"""What the features of a look's points shall be where its views are taken together: the mean of what all of them show.

One view's features (PASR eq. 8) also hold its light, background and blur, which no cloud foretells. Their mean holds little of
these, as a lifted library's features do, so that a model learns from it in far fewer steps (docs/learned.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import normalize

from pasr_perception.encoders.centring import evened_cloud
from pasr_perception.training.observe import Look, ObservedView

Shown = tuple[
    torch.Tensor, torch.Tensor
]  # which of a cloud's points some view shows [N] bool, and their features [n, D]


def shape_features(look: Look, views: Sequence[ObservedView]) -> Shown:
    """Which of the cloud's points [N] bool the views show, and the features [n, D] of these, as a library has them."""
    total = torch.zeros(len(look.cloud.points), views[0].target.shape[1])
    for view in views:
        target, weight = view.target.float(), view.weight.float()
        for k in range(view.index.shape[1]):
            total.index_add_(0, view.index[:, k].long(), target * weight[:, k : k + 1])
    seen = total.abs().sum(1) > 0
    return seen, evened_cloud(normalize(total[seen], dim=1))


@dataclass(frozen=True)
class PointTargets:
    """Of B looks with N points each, the points that some view shows, laid end to end."""

    target: torch.Tensor  # [M, D] float32, unit
    index: torch.Tensor  # [M] int64 into the B * N points
    cloud: torch.Tensor  # [M] int64

    @classmethod
    def of(cls, shown: Sequence[Shown]) -> PointTargets:
        """From what `shape_features` gives for each of the looks."""
        points = len(shown[0][0])
        index = [seen.nonzero()[:, 0] + cloud * points for cloud, (seen, _) in enumerate(shown)]
        sizes = torch.tensor([len(i) for i in index])
        features = torch.cat([feature.float() for _, feature in shown])
        return cls(features, torch.cat(index), torch.arange(len(shown)).repeat_interleave(sizes))

    @property
    def group(self) -> torch.Tensor:
        return self.cloud

    def predicted(self, features: torch.Tensor) -> torch.Tensor:
        """Features [M, D] that a library would hold of the points, for those [B, N, D] of the clouds, of any length."""
        evened = torch.stack([evened_cloud(cloud) for cloud in normalize(features.float(), dim=2)])
        return evened.flatten(0, 1)[self.index]

    def to(self, device: torch.device) -> PointTargets:
        return PointTargets(**{name: tensor.to(device) for name, tensor in vars(self).items()})
