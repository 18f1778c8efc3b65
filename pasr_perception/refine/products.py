"""Product maps: how well one rendered feature fits every cell of a crop, read between the cells with two derivatives.

Moving a rendered pixel over the image changes its cosine to F(uv) . M. With the products of M with all cells at hand, one
matrix product per hypothesis, every further look costs 16 numbers instead of a feature vector.
"""

from __future__ import annotations

import torch

TAPS = 4  # of the cubic kernel along each axis
# what 1, t, t^2, t^3 (rows) add to the four weights, then to their first and their second derivatives
CATMULL_ROM = (
    (0.0, 1.0, 0.0, 0.0, -0.5, 0.0, 0.5, 0.0, 2.0, -5.0, 4.0, -1.0),
    (-0.5, 0.0, 0.5, 0.0, 2.0, -5.0, 4.0, -1.0, -3.0, 9.0, -9.0, 3.0),
    (1.0, -2.5, 2.0, -0.5, -1.5, 4.5, -4.5, 1.5, 0.0, 0.0, 0.0, 0.0),
    (-0.5, 1.5, -1.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
)


def kernel(t: torch.Tensor) -> torch.Tensor:
    """Catmull-Rom weights of the cells -1, 0, 1, 2 at t in [0, 1): value, first and second derivative, [..., 3, 4]."""
    powers = torch.stack([torch.ones_like(t), t, t * t, t * t * t], -1)
    return (powers @ t.new_tensor(CATMULL_ROM)).unflatten(-1, (3, TAPS))


def look_up(products: torch.Tensor, uv: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Value [H, P], gradient [H, P, 2] and Hessian [H, P, 2, 2] of product maps [H, P, size * size] at pixels uv [H, P, 2].

    Beyond the outermost cells' centres the maps go on with the value at the border.
    """
    at = (uv - 0.5).clamp(0, size - 1)
    base = at.floor()
    weight = kernel(at - base)  # [H, P, 2, 3, 4], x then y
    tap = (base.long()[..., None] + torch.arange(-1, TAPS - 1, device=uv.device)).clamp(0, size - 1)  # [H, P, 2, 4]
    index = (tap[..., 1, :, None] * size + tap[..., 0, None, :]).flatten(-2)
    patch = products.gather(2, index).unflatten(-1, (TAPS, TAPS))  # [H, P, 4 (y), 4 (x)]
    along_x = (patch[..., None, :, :] * weight[..., 0, :, None, :]).sum(-1)  # [H, P, 3, 4 (y)]
    mixed = (along_x[..., None, :, :] * weight[..., 1, :, None, :]).sum(-1)  # [H, P, 3 (by y), 3 (by x)]
    gradient = torch.stack([mixed[..., 0, 1], mixed[..., 1, 0]], -1)
    hessian = torch.stack([mixed[..., 0, 2], mixed[..., 1, 1], mixed[..., 1, 1], mixed[..., 2, 0]], -1)
    return mixed[..., 0, 0], gradient, hessian.unflatten(-1, (2, 2))
