"""PyTorch3D's own point rasteriser behind the API of `splat.py`: an optional second backend, and an independent check.

    image, mask = splat(uv, depth, features, config, rasteriser=pytorch3d_backend.rasterise)

PyTorch3D computes in float32 only and is far slower on a CPU; install it yourself, nothing here requires it.
"""

from __future__ import annotations

import torch

from pasr_perception.render.pytorch3d_conventions import ndc_from_pixels
from pasr_perception.render.splat import Fragments, SplatConfig, check_projected

BEHIND = -1.0  # a depth that PyTorch3D drops


def rasterise(uv: torch.Tensor, depth: torch.Tensor, config: SplatConfig) -> Fragments:
    """As `splat.rasterise`, through PyTorch3D: uv [B, N, 2] pixels, depth [B, N] -> the points of every covered pixel.

    Raises ImportError where PyTorch3D is not installed.
    """
    check_projected(uv, depth)
    from pytorch3d.renderer.points.rasterize_points import rasterize_points
    from pytorch3d.structures import Pointclouds

    count = depth.shape[1]
    seen = torch.where(depth >= 0, depth, BEHIND)  # NaN depths too
    projected = torch.cat([ndc_from_pixels(uv, config.size), seen[..., None]], -1).float()
    packed, _, d2 = rasterize_points(
        Pointclouds(list(projected)),
        image_size=config.size,
        radius=config.radius,
        points_per_pixel=config.points_per_pixel,
        bin_size=0,  # the coarse-to-fine variant drops points once a bin is full
    )
    packed, d2 = packed.reshape(-1, config.points_per_pixel), d2.reshape(-1, config.points_per_pixel)
    pixel = (packed[:, 0] >= 0).nonzero()[:, 0]
    packed, d2 = packed[pixel].long(), d2[pixel]
    filled = packed >= 0
    if config.depth_band is not None:
        behind = depth.reshape(-1)[packed.clamp(min=0)]
        filled &= behind <= behind[:, :1] + config.depth_band
    weight = torch.where(filled, 1 - d2 / config.radius**2, torch.zeros_like(d2))
    return Fragments(pixel, torch.where(filled, packed % max(1, count), -1), weight.to(uv.dtype))
