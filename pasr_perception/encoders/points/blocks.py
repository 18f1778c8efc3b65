"""PointNeXt's building blocks (Qian et al. 2022): local aggregation, set abstraction, the inverted residual block InvResMLP.

A neighbourhood layer is max_j L([f_j, (p_j - p_i) / r]) with a linear L. Since L(...) = A f_j + B p_j / r - B p_i / r + c, and the
last two do not depend on j, A f_j + B p_j / r is computed once per point, not once per pair: the same numbers for 1/K of the work.
The maximum's gradient goes to the winner alone, so only winners are remembered.

Normalisation is LayerNorm where PointNeXt has BatchNorm (an own choice): the same in training and use, whatever the batch.
"""

from __future__ import annotations

import torch
from torch import nn


def rows_of(index: torch.Tensor, rows: int) -> torch.Tensor:
    """Index [B, ...] into rows of each of B tables of `rows` rows -> index into the tables laid end to end."""
    first = torch.arange(len(index), device=index.device) * rows
    return index + first.view(-1, *[1] * (index.ndim - 1))


def take(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Rows of values [B, N, C] at index [B, M] -> [B, M, C]."""
    rows = rows_of(index, values.shape[1]).flatten()
    return values.flatten(0, 1).index_select(0, rows).view(*index.shape, values.shape[2])


def neighbourhood_max(values: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
    """Largest value of each channel over groups [B, M, K] of values [B, N, C] -> [B, M, C]."""
    flat, rows = values.flatten(0, 1), rows_of(group, values.shape[1]).flatten(0, 1)  # [B * M, K]
    with torch.no_grad():
        winner = _winner(flat, rows)
    return flat.gather(0, winner).view(*group.shape[:2], -1)


def _winner(values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Which row of values [R, C] is largest among rows [M, K], for each channel: [M, C] int64.

    One neighbour at a time: whole rows are copied and compared, which is many times faster than an argmax over [M, K, C].
    """
    best = values.index_select(0, rows[:, 0])
    slot = torch.zeros_like(best, dtype=torch.uint8)
    for k in range(1, rows.shape[1]):
        other = values.index_select(0, rows[:, k])
        slot.masked_fill_(other > best, k)
        torch.maximum(best, other, out=best)
    return rows.gather(1, slot.long())


class LocalAggregation(nn.Module):
    """max over neighbours of a linear layer on their features and relative positions, then norm and ReLU."""

    def __init__(self, channels_in: int, channels_out: int, radius: float) -> None:
        super().__init__()
        self._radius = radius
        self.feature = nn.Linear(channels_in, channels_out)
        self.position = nn.Linear(3, channels_out, bias=False)
        self.norm = nn.LayerNorm(channels_out)

    def forward(
        self, features: torch.Tensor, points: torch.Tensor, centres: torch.Tensor, group: torch.Tensor
    ) -> torch.Tensor:
        """features [B, N, C], points [B, N, 3], centres [B, M, 3], group [B, M, K] into the points -> [B, M, C']."""
        value = self.feature(features) + self.position(points / self._radius)
        largest = neighbourhood_max(value, group) - self.position(centres / self._radius)
        return torch.relu(self.norm(largest))


class InvResMLP(nn.Module):
    """Aggregate at one scale, widen, narrow, add what came in (PointNeXt figure 2)."""

    def __init__(self, channels: int, radius: float, expansion: int) -> None:
        super().__init__()
        self.aggregation = LocalAggregation(channels, channels, radius)
        self.widen = nn.Linear(channels, channels * expansion)
        self.narrow = nn.Linear(channels * expansion, channels)
        self.widened, self.narrowed = nn.LayerNorm(channels * expansion), nn.LayerNorm(channels)

    def forward(self, features: torch.Tensor, points: torch.Tensor, around: torch.Tensor) -> torch.Tensor:
        """features [B, M, C], points [B, M, 3], around [B, M, K] -> [B, M, C]."""
        inner = self.aggregation(features, points, points, around)
        inner = torch.relu(self.widened(self.widen(inner)))
        return torch.relu(features + self.narrowed(self.narrow(inner)))
