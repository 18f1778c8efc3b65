"""Centring: what all of an object's features have in common, and all of a mesh's, is taken out before they are compared.

A photo's light, blur, colour cast and background shift all features of its crop alike; a renderer's shading, or random textures,
shift all features of a view of a mesh. Neither says which mesh it is, or how it is turned: that lies in how features differ from
place to place. (Instance normalisation over the detection's box, with half the power of its scaling.) Views that a mesh's features
are lifted from are centred as a crop is, each by itself, before they are averaged. What all of its points then have in common sets
an object apart from the backgrounds of its renderings, and less so from those of photos (docs/adr/0021-centred-views.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

SCALE_POWER = 0.5  # of each channel's spread that is divided out: 1 makes quiet channels as loud as the others
MIN_SPREAD = 1e-4
MEAN_SHARE = 0.5  # of what a mesh's points have in common that is taken out of features made from centred views


def centred_maps(maps: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Unit features [B, T, D, g, g] of crops in T turns -> the same, centred crop by crop over what is inside [B, T, g, g]."""
    return _centred(maps, inside[:, :, None], (1, 3, 4), 2)


def centred_views(maps: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Unit features [V, D, g, g] of views whose object fills boxes [V, 4] (`share_inside`) -> the same, centred view by view."""
    inside = share_inside(boxes.to(maps.device), [0], maps.shape[-1])
    return centred_maps(maps[:, None], inside)[:, 0]


def evened_cloud(features: torch.Tensor) -> torch.Tensor:
    """Unit features [N, D] of a mesh's points, made from centred views -> the same with less of what all of them have in common."""
    return torch.nn.functional.normalize(features - MEAN_SHARE * features.mean(0), dim=1)


def centred_cloud(features: torch.Tensor) -> torch.Tensor:
    """Unit features [N, D] of a mesh's points -> the same, centred over its points."""
    return _centred(features, features.new_ones(len(features), 1), (0,), 1)


def _centred(features: torch.Tensor, weight: torch.Tensor, over: tuple[int, ...], channel: int) -> torch.Tensor:
    weight = weight / weight.sum(over, keepdim=True)
    rest = features - (features * weight).sum(over, keepdim=True)
    variance = (rest.square() * weight).sum(over, keepdim=True)
    spread = variance.clamp(min=MIN_SPREAD**2).sqrt()  # in this order a channel without any has a gradient
    return torch.nn.functional.normalize(rest / spread**SCALE_POWER, dim=channel)


def share_inside(boxes: torch.Tensor, turns: Sequence[int], grid: int) -> torch.Tensor:
    """Which share of every cell of a grid over the crop lies in its box: [B, T, g, g] for each turn.

    boxes [B, 4] are x_min, y_min, x_max, y_max in crop sizes; turns are anticlockwise quarters. Raises ValueError for a box that
    misses its crop.
    """
    begin = torch.arange(grid, device=boxes.device) / grid

    def along(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        end = torch.minimum(high[:, None], begin + 1 / grid)
        return (end - torch.maximum(low[:, None], begin)).clamp(min=0) * grid  # [B, g]

    across, down = along(boxes[:, 0], boxes[:, 2]), along(boxes[:, 1], boxes[:, 3])
    inside = down[:, :, None] * across[:, None, :]
    empty = (inside.sum((1, 2)) <= 0).nonzero()[:, 0].tolist()
    if empty:
        raise ValueError(f"boxes: expected all to overlap the crop (0..1), got {boxes[empty[0]].tolist()}")
    return torch.stack([torch.rot90(inside, turn, (1, 2)) for turn in turns], 1)
