"""Differentiable point splatting with PyTorch3D's semantics (PASR supplementary A; shared by search and refinement).

Every pixel takes the `points_per_pixel` nearest-in-depth points whose projection lies closer than `radius`, weighs each
by 1 - d^2/r^2 and averages their features (PyTorch3D's PointsRasterizer + NormWeightedCompositor). Occlusion acts only
through that cut; `depth_band` adds, if wanted, a real one: points farther behind the pixel's nearest than the band are
hidden. Which points a pixel takes is piecewise constant; gradients flow through the distances.

On the CPU a compiled loop selects the points (`kernels/splat.py`), elsewhere, and for huge images, a sort does.
`splat_reference` is the same thing as slow, obvious loops; `pytorch3d_backend` the same through PyTorch3D itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from pasr_perception.kernels.splat import MIN_WEIGHT_SUM, REACH_MARGIN, Splatting, take_all

CANDIDATES_PER_BLOCK = 2**24  # (point, pixel) pairs looked at together
DEPTH_BITS = 31  # of a float32 that is not negative
LARGEST_IN_LOOPS = 2**20  # pixels; beyond, a table of all of them is more than what most points cover
MOST_PAIRS = 2**32  # of a pixel and a point in a block: what an int64 has left beside a depth


@dataclass(frozen=True)
class SplatConfig:
    """How points become pixels."""

    size: int = 37  # square output, pixels
    radius: float = 0.04  # in normalised device units: 2 units span the image, so 0.04 at 37 px is 0.74 px
    points_per_pixel: int = 16
    depth_band: float | None = None  # in the points' depth unit; None = PyTorch3D's behaviour

    def __post_init__(self) -> None:
        for name, value in (("size", self.size), ("radius", self.radius), ("points_per_pixel", self.points_per_pixel)):
            if value <= 0:
                raise ValueError(f"splat.{name}: expected more than 0, got {value}")
        if self.depth_band is not None and self.depth_band <= 0:
            raise ValueError(f"splat.depth_band: expected more than 0 or none, got {self.depth_band}")

    @property
    def radius_px(self) -> float:
        return self.radius * self.size / 2

    @property
    def splatting(self) -> Splatting:
        """The same for kernels."""
        band = math.inf if self.depth_band is None else self.depth_band
        return Splatting(self.size, self.radius_px, self.points_per_pixel, band)


@dataclass(frozen=True)
class Fragments:
    """For every covered pixel the points it takes, nearest first; empty slots hold index -1 and weight 0."""

    pixel: torch.Tensor  # [M] int64, b * size * size + row * size + column, ascending
    index: torch.Tensor  # [M, K] int64 into the cloud's N points, -1 = empty
    weight: torch.Tensor  # [M, K] 1 - d^2/r^2, differentiable with respect to the projected points


def rasterise(uv: torch.Tensor, depth: torch.Tensor, config: SplatConfig) -> Fragments:
    """Select each pixel's points.

    uv [B, N, 2] are pixels (x right, y down, centres at +0.5), depth [B, N] in any unit. Points with depth below 0 or a
    NaN anywhere are dropped. Raises ValueError for other shapes, and for more than 2^32 pairs of a pixel and a point.
    """
    check_projected(uv, depth)
    if config.size**2 << _point_bits(depth.shape[1]) > MOST_PAIRS:
        got = f"{config.size}^2 pixels and {depth.shape[1]} points"
        raise ValueError(f"rasterise: expected at most {MOST_PAIRS} pairs of a pixel and a point, got {got}")
    with torch.no_grad():
        in_loops = uv.device.type == "cpu" and config.size**2 <= LARGEST_IN_LOOPS
        select = select_in_loops if in_loops else select_by_sorting
        pixel, index = select(uv, depth, config)
    return Fragments(pixel, index, _weights(uv, pixel, index, config))


def check_projected(uv: torch.Tensor, depth: torch.Tensor) -> None:
    """Raise ValueError unless uv is [B, N, 2] and depth [B, N]."""
    if uv.ndim != 3 or uv.shape[-1] != 2 or depth.shape != uv.shape[:2]:
        got = f"{list(uv.shape)} and {list(depth.shape)}"
        raise ValueError(f"rasterise: expected uv [B, N, 2] and depth [B, N], got {got}")


def select_in_loops(uv: torch.Tensor, depth: torch.Tensor, config: SplatConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Every covered pixel [M] and its points [M, K], on the CPU."""
    pixels, indices = [torch.empty(0, dtype=torch.long)], [torch.empty(0, config.points_per_pixel, dtype=torch.long)]
    every = take_all(uv.detach().numpy(), depth.detach().float().numpy(), config.splatting)
    for cloud, taken in enumerate(every):
        covered = torch.from_numpy(taken.count).nonzero()[:, 0]
        pixels.append(covered + cloud * config.size**2)
        indices.append(torch.from_numpy(taken.index)[covered].long())
    return torch.cat(pixels), torch.cat(indices)


def select_by_sorting(uv: torch.Tensor, depth: torch.Tensor, config: SplatConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """The same on any device, a block of clouds at a time."""
    batch, count = depth.shape
    per_cloud = config.size**2 << _point_bits(count)
    block = max(1, min(CANDIDATES_PER_BLOCK // max(1, count * _window(config.radius_px) ** 2), MOST_PAIRS // per_cloud))
    pixels, indices = [], []
    for start in range(0, max(batch, 1), block):
        key = _hits(uv[start : start + block], depth[start : start + block], config)
        pixel, index = _nearest(key, count, config)
        pixels.append(pixel + start * config.size**2)
        indices.append(index)
    return torch.cat(pixels), torch.cat(indices)


def _point_bits(count: int) -> int:
    """How many bits a point's index takes in a key."""
    return max(1, (count - 1).bit_length())


def _window(radius: float) -> int:
    """How many pixel centres, along one axis, can lie within the radius (and the margin for rounding) of a point."""
    return math.floor(2 * (radius + REACH_MARGIN)) + 1


def rasterise_all(uv: torch.Tensor, depth: torch.Tensor, config: SplatConfig) -> Fragments:
    """`rasterise` with a place for every pixel, covered or not: M = B * size * size.

    No shape depends on what the points are, so that a GPU need not tell the host before the next operator can be queued. Carries no
    gradient, and all pairs of a pixel and a point within its window are in memory at once: for a few clouds.
    """
    key, hit = _keys(uv, depth, config)
    key = torch.where(hit, key, torch.iinfo(key.dtype).max).flatten().sort().values
    bits = _point_bits(depth.shape[1])
    pixel = torch.arange(len(uv) * config.size**2 + 1, device=uv.device)
    start = torch.searchsorted(key, pixel << DEPTH_BITS + bits)  # [M + 1]
    index = _first_of(key, start[:-1], start.diff(), bits, config)
    return Fragments(pixel[:-1], index, _weights(uv, pixel[:-1], index, config))


def _hits(uv: torch.Tensor, depth: torch.Tensor, config: SplatConfig) -> torch.Tensor:
    """The keys [H] of all pairs of a pixel and a point within the radius for one block, not sorted."""
    return torch.masked_select(*_keys(uv, depth, config))


def _keys(uv: torch.Tensor, depth: torch.Tensor, config: SplatConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """int64 keys of pairs of a pixel and a point [W (row), W (column), B, N], and which of them are within the radius.

    A key holds, from high to low, the pixel, the depth's 31 bits and the point: those of floats of one sign ascend as they do.
    """
    size, radius = config.size, config.radius_px
    # points lie innermost, so that every operation runs along contiguous memory
    at = uv.movedim(2, 0).contiguous()[:, None]  # [2 (x, y), 1, B, N]
    step = torch.arange(_window(radius), dtype=uv.dtype, device=uv.device)[:, None, None]  # [W, 1, 1]
    cell = (at - (0.5 + radius + REACH_MARGIN)).ceil() + step  # [2, W, B, N]
    d2 = (cell + 0.5 - at).square()
    d2 = torch.where((cell >= 0) & (cell < size), d2, math.inf)
    d2[1] = torch.where(depth >= 0, d2[1], math.inf)
    hit = d2[1, :, None] + d2[0] < radius * radius  # [W (row), W (column), B, N]
    bits = _point_bits(depth.shape[1])
    point = torch.arange(depth.shape[1], device=uv.device)
    behind = (depth.float() + 0.0).view(torch.int32).long()  # adding 0 makes -0.0 the same as 0.0
    cloud = torch.arange(len(depth), device=uv.device)[:, None] * size**2
    column, row = cell.clamp(0, size - 1).long()
    row = (row * size + cloud << DEPTH_BITS + bits) + ((behind << bits) + point)  # a key but for its column
    return row[:, None] + (column << DEPTH_BITS + bits), hit


def _nearest(key: torch.Tensor, count: int, config: SplatConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """The K nearest of `count` points of every pixel, ascending in depth, ties by index: pixels [M] and indices [M, K]."""
    bits = _point_bits(count)
    key = key.sort().values
    covered, hits = torch.unique_consecutive(key >> DEPTH_BITS + bits, return_counts=True)
    return covered, _first_of(key, hits.cumsum(0) - hits, hits, bits, config)


def _first_of(
    key: torch.Tensor, start: torch.Tensor, hits: torch.Tensor, bits: int, config: SplatConfig
) -> torch.Tensor:
    """The first K points [M, K] of pixels whose sorted keys begin at start [M] and are so many hits [M]; -1 = empty."""
    slot = torch.arange(config.points_per_pixel, device=key.device)
    filled = slot < hits[:, None]  # [M, K]
    taken = key[(start[:, None] + slot).clamp_(max=len(key) - 1)]
    if config.depth_band is not None:
        behind = (taken >> bits & (1 << DEPTH_BITS) - 1).int().view(torch.float32)
        filled &= behind <= behind[:, :1] + config.depth_band
    return torch.where(filled, taken & (1 << bits) - 1, -1)


def _weights(uv: torch.Tensor, pixel: torch.Tensor, index: torch.Tensor, config: SplatConfig) -> torch.Tensor:
    size = config.size
    b = pixel // (size * size)
    centre = torch.stack([pixel % size, pixel // size % size], -1) + 0.5  # [M, 2]
    at = uv[b[:, None], index.clamp(min=0)]  # [M, K, 2]
    d2 = (at - centre[:, None]).square().sum(-1)
    return torch.where(index >= 0, 1 - d2 / config.radius_px**2, torch.zeros_like(d2))


def composite(fragments: Fragments, features: torch.Tensor, cloud: torch.Tensor | None = None) -> torch.Tensor:
    """Every covered pixel's weighted mean of features [N, D], or of [C, N, D] with `cloud` [M] choosing -> [M, D]."""
    weight = fragments.weight / fragments.weight.sum(-1, keepdim=True).clamp(min=MIN_WEIGHT_SUM)  # [M, K]
    index = fragments.index.clamp(min=0)
    if cloud is not None:
        index = index + cloud[:, None] * features.shape[-2]
        features = features.reshape(-1, features.shape[-1])
    return torch.nn.functional.embedding_bag(index, features, per_sample_weights=weight, mode="sum")


def splat(
    uv: torch.Tensor,
    depth: torch.Tensor,
    features: torch.Tensor,
    config: SplatConfig,
    rasteriser: Callable[[torch.Tensor, torch.Tensor, SplatConfig], Fragments] = rasterise,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Render feature images: uv [B, N, 2], depth [B, N], features [N, D] -> image [B, D, S, S], mask [B, S, S] bool."""
    fragments = rasteriser(uv, depth, config)
    batch, size = len(uv), config.size
    image = features.new_zeros(batch * size * size, features.shape[-1])
    image = image.index_copy(0, fragments.pixel, composite(fragments, features))
    mask = torch.zeros(batch * size * size, dtype=torch.bool, device=uv.device)
    mask[fragments.pixel] = True
    return image.reshape(batch, size, size, features.shape[-1]).permute(0, 3, 1, 2), mask.reshape(batch, size, size)
