"""What training maximises: the masked mean cosine between splatted point features and the image's (PASR eq. 7-8).

The image's features were centred when it was observed, as a query's are (docs/adr/0008-centring.md). What is predicted are these:
the cloud's are not centred once more, as those lifted from centred views are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn.functional import embedding_bag, normalize

from pasr_perception.training.observe import ObservedView


class Wanted(Protocol):
    """M features that those of B clouds of N points are to be like."""

    @property
    def target(self) -> torch.Tensor: ...  # [M, D] float32, unit

    @property
    def cloud(self) -> torch.Tensor: ...  # [M] int64, which of the clouds each is of

    @property
    def group(self) -> torch.Tensor: ...  # [M] int64, what each is averaged with

    def predicted(self, features: torch.Tensor) -> torch.Tensor:
        """What clouds with features [B, N, D], of any length, say each is: [M, D], unit."""
        ...


@dataclass(frozen=True)
class Cells:
    """The covered cells of several views of B clouds of N points, laid end to end."""

    target: torch.Tensor  # [M, D] float32, the image's centred feature
    index: torch.Tensor  # [M, K] int64 into the B * N points
    weight: torch.Tensor  # [M, K] float32, summing to 1
    view: torch.Tensor  # [M] int64, the view that each belongs to
    cloud: torch.Tensor  # [M] int64, and the cloud

    @classmethod
    def of(cls, views: Sequence[Sequence[ObservedView]], points: int) -> Cells:
        """The cells of some views of each cloud."""
        flat = [(cloud, view) for cloud, some in enumerate(views) for view in some]
        sizes = torch.tensor([len(view.index) for _, view in flat])
        clouds = torch.tensor([cloud for cloud, _ in flat])
        return cls(
            torch.cat([view.target for _, view in flat]).float(),
            torch.cat([view.index.long() + cloud * points for cloud, view in flat]),
            torch.cat([view.weight for _, view in flat]).float(),
            torch.arange(len(flat)).repeat_interleave(sizes),
            clouds.repeat_interleave(sizes),
        )

    @property
    def group(self) -> torch.Tensor:
        return self.view

    def predicted(self, features: torch.Tensor) -> torch.Tensor:
        """Features [M, D] that clouds with features [B, N, D] show in the cells (eq. 7)."""
        unit = normalize(features.float().flatten(0, 1), dim=1)
        return normalize(embedding_bag(self.index, unit, per_sample_weights=self.weight, mode="sum"), dim=1)

    def to(self, device: torch.device) -> Cells:
        return Cells(**{name: tensor.to(device) for name, tensor in vars(self).items()})


def alignment(predicted: torch.Tensor, wanted: Wanted) -> torch.Tensor:
    """Mean cosine of every group, of cells that of every view (eq. 8), for what `wanted.predicted` gives [M, D]."""
    cosine = (predicted * wanted.target).sum(1)
    count = torch.bincount(wanted.group)
    return cosine.new_zeros(len(count)).index_add(0, wanted.group, cosine) / count
