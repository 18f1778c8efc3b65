"""The slow, obvious twin of `splat.py`: PyTorch3D's point rasterising and compositing as plain loops over pixels.

It is the oracle of the fast one's tests. Read it to learn what the fast one computes; nothing else calls it.
"""

from __future__ import annotations

import torch

from pasr_perception.kernels.splat import MIN_WEIGHT_SUM
from pasr_perception.render.splat import Fragments, SplatConfig, check_projected


def rasterise(uv: torch.Tensor, depth: torch.Tensor, config: SplatConfig) -> Fragments:
    """As `splat.rasterise`: uv [B, N, 2] pixels, depth [B, N] -> the points of every covered pixel."""
    check_projected(uv, depth)
    size = config.size
    pixels, indices, weights = [], [], []
    for b in range(len(uv)):
        for row in range(size):
            for column in range(size):
                centre = uv.new_tensor([column + 0.5, row + 0.5])
                d2 = (uv[b] - centre).square().sum(-1)  # [N]
                taken = _taken(d2.tolist(), depth[b].tolist(), config)
                if not taken:
                    continue
                empty = config.points_per_pixel - len(taken)
                weight = 1 - d2[taken] / config.radius_px**2
                pixels.append((b * size + row) * size + column)
                indices.append(taken + [-1] * empty)
                weights.append(torch.cat([weight, weight.new_zeros(empty)]))
    slots = config.points_per_pixel
    return Fragments(
        pixel=torch.tensor(pixels, dtype=torch.long, device=uv.device),
        index=torch.tensor(indices, dtype=torch.long, device=uv.device).reshape(-1, slots),
        weight=torch.stack(weights) if weights else uv.new_zeros(0, slots),
    )


def _taken(d2: list[float], depth: list[float], config: SplatConfig) -> list[int]:
    """The points that one pixel takes, nearest first, of equally near ones the lower index first."""
    near = [n for n in range(len(d2)) if d2[n] < config.radius_px**2 and depth[n] >= 0]
    near.sort(key=lambda n: (depth[n], n))
    if near and config.depth_band is not None:
        near = [n for n in near if depth[n] <= depth[near[0]] + config.depth_band]
    return near[: config.points_per_pixel]


def composite(fragments: Fragments, features: torch.Tensor, cloud: torch.Tensor | None = None) -> torch.Tensor:
    """As `splat.composite`: features [N, D], or [C, N, D] with `cloud` [M] choosing -> [M, D]."""
    out = []
    for m in range(len(fragments.pixel)):
        own = features if cloud is None else features[int(cloud[m])]  # [N, D]
        total = own.new_zeros(own.shape[-1])
        weight_sum = fragments.weight[m].sum()
        for weight, index in zip(fragments.weight[m], fragments.index[m].tolist(), strict=True):
            if index >= 0:
                total = total + weight * own[index]
        out.append(total / weight_sum.clamp(min=MIN_WEIGHT_SUM))
    return torch.stack(out) if out else features.new_zeros(0, features.shape[-1])


def splat(
    uv: torch.Tensor, depth: torch.Tensor, features: torch.Tensor, config: SplatConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `splat.splat`: -> image [B, D, S, S], mask [B, S, S]."""
    size = config.size
    fragments = rasterise(uv, depth, config)
    values = dict(zip(fragments.pixel.tolist(), composite(fragments, features), strict=True))
    empty = features.new_zeros(features.shape[-1])
    pixels = range(len(uv) * size * size)
    image = torch.stack([values.get(pixel, empty) for pixel in pixels]).reshape(-1, size, size, features.shape[-1])
    mask = torch.tensor([pixel in values for pixel in pixels], device=uv.device).reshape(-1, size, size)
    return image.permute(0, 3, 1, 2), mask
