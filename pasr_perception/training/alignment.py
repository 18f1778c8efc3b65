"""What training maximises: the masked mean cosine between splatted point features and the image's (PASR eq. 7-8).

The image's features were centred when it was observed, as a query's are (docs/adr/0008-centring.md). What is predicted are these:
the cloud's are not centred once more, as those lifted from centred views are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import embedding_bag, normalize

from pasr_perception.training.observe import ObservedView


@dataclass(frozen=True)
class Cells:
    """The covered cells of several views of B clouds of N points, laid end to end."""

    target: torch.Tensor  # [M, D] float32, the image's centred feature
    index: torch.Tensor  # [M, K] int64 into the B * N points
    weight: torch.Tensor  # [M, K] float32, summing to 1
    view: torch.Tensor  # [M] int64, the view that each belongs to

    @classmethod
    def of(cls, views: Sequence[Sequence[ObservedView]], points: int) -> Cells:
        """The cells of some views of each cloud."""
        flat = [(cloud, view) for cloud, some in enumerate(views) for view in some]
        sizes = torch.tensor([len(view.index) for _, view in flat])
        return cls(
            torch.cat([view.target for _, view in flat]).float(),
            torch.cat([view.index.long() + cloud * points for cloud, view in flat]),
            torch.cat([view.weight for _, view in flat]).float(),
            torch.arange(len(flat)).repeat_interleave(sizes),
        )

    def to(self, device: torch.device) -> Cells:
        return Cells(**{name: tensor.to(device) for name, tensor in vars(self).items()})


def alignment(features: torch.Tensor, cells: Cells) -> torch.Tensor:
    """Masked mean cosine of every view [V] (eq. 8) for features [B, N, D] of the clouds, of any length."""
    unit = normalize(features.float().flatten(0, 1), dim=1)
    rendered = embedding_bag(cells.index, unit, per_sample_weights=cells.weight, mode="sum")
    cosine = (normalize(rendered, dim=1) * cells.target).sum(1)
    count = torch.bincount(cells.view)
    return cosine.new_zeros(len(count)).index_add(0, cells.view, cosine) / count
