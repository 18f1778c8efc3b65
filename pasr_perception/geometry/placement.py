"""Where a rotated object sits in its crop: the one placement that library templates, refinement and crops share.

A detection says where the object's outline ends, so the object is placed by its outline: for every rotation the virtual
camera is aimed at the middle of the projected bounds and zoomed until their longer side fills `fill` of the image, exactly
as the crop stage does with the detection's box. The object keeps a fixed distance of `distance` object radii; that only sets
how strong perspective is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pasr_perception.kernels import placement as kernels

ITERATIONS = 3  # of the fixed point between aim and bounds; the third moves nothing by more than 1e-3 of a pixel


@dataclass(frozen=True)
class ViewSpec:
    """The geometry that crops and templates have in common; stored with the library."""

    fill: float = 0.8  # share of the image that the longer side of the object's bounds covers
    distance: float = 6.0  # of the object's centre, in radii (half bounding-box diagonals)

    def __post_init__(self) -> None:
        if not 0.1 <= self.fill <= 1.0:
            raise ValueError(f"view.fill: expected 0.1..1.0, got {self.fill}")
        if self.distance <= 1.5:
            raise ValueError(f"view.distance: expected more than 1.5 radii, got {self.distance}")

    @property
    def numbers(self) -> kernels.View:
        """As the CPU's loops read it."""
        return kernels.View(self.fill, self.distance, ITERATIONS)


@dataclass(frozen=True)
class Placement:
    """Offset and zoom that centre a rotated object's outline; batched over poses."""

    offset: torch.Tensor  # [B, 3] added to the rotated normalised points
    focal: torch.Tensor  # [B] in image sizes: pixels = focal * size


def for_loops(points: torch.Tensor) -> bool:
    """Whether points are what the CPU's compiled loops take."""
    return points.device.type == "cpu" and points.dtype == torch.float32


def place(rotated: torch.Tensor, view: ViewSpec) -> Placement:
    """Aim and zoom for rotated normalised points [B, N, 3]; carries no gradient."""
    if for_loops(rotated):
        placed = torch.from_numpy(kernels.place(rotated.detach().numpy(), view.numbers))
        return Placement(torch.nn.functional.pad(placed[:, :2], (0, 1), value=view.distance), placed[:, 2])
    with torch.no_grad():
        # points lie innermost, so that every operation runs along contiguous memory
        near = 1 / (rotated[:, None, :, 2] + view.distance)  # [B, 1, N]
        untouched = rotated[..., :2].transpose(1, 2).contiguous() * near  # [B, 2, N]
        offset = rotated.new_zeros(len(rotated), 2)
        for _ in range(ITERATIONS):
            xy = untouched + offset[..., None] * near
            low, high = xy.aminmax(dim=2)
            offset = offset - (low + high) / 2 * view.distance
        focal = view.fill / (high - low).amax(-1).clamp(min=1e-6)
        depth = torch.full_like(offset[:, :1], view.distance)
    return Placement(torch.cat([offset, depth], -1), focal)


def project(rotated: torch.Tensor, placement: Placement, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels uv [B, N, 2] and depth [B, N] of rotated points in an image of `size` pixels; differentiable in the points."""
    at = rotated + placement.offset[:, None]
    uv = at[..., :2] / at[..., 2:] * (placement.focal * size)[:, None, None] + size / 2
    return uv, at[..., 2]
