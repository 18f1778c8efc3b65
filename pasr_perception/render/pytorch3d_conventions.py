"""PyTorch3D's camera conventions in ours, and back.

PyTorch3D: rows times matrix, x_view = x_world @ R + T; view axes +X left, +Y up, +Z forward; normalised device
coordinates (NDC) with +X left, +Y up, 2 units over the image's shorter side. Ours: x_crop = R_crop_obj @ x + t; axes
x right, y down, z forward; pixels from the top left corner, centres at +0.5. The intrinsics of a
`PerspectiveCameras(in_ndc=False)`, focal length and principal point in pixels, are the same numbers in both. Images
here are square.
"""

from __future__ import annotations

import torch

LEFT_UP_TO_RIGHT_DOWN = (-1.0, -1.0, 1.0)


def pixels_from_ndc(ndc: torch.Tensor, size: int) -> torch.Tensor:
    """NDC [..., 2] (x left, y up) of a square image -> pixels [..., 2] (x right, y down)."""
    return (1 - ndc) * (size / 2)


def ndc_from_pixels(uv: torch.Tensor, size: int) -> torch.Tensor:
    """Pixels [..., 2] (x right, y down) of a square image -> NDC [..., 2] (x left, y up)."""
    return 1 - uv / (size / 2)


def pose_from_pytorch3d(rotation: torch.Tensor, translation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """PyTorch3D's R [..., 3, 3] and T [..., 3] -> R_crop_obj [..., 3, 3] and t_crop [..., 3]."""
    flip = rotation.new_tensor(LEFT_UP_TO_RIGHT_DOWN)
    return flip[:, None] * rotation.transpose(-1, -2), flip * translation


def pose_to_pytorch3d(rotation: torch.Tensor, translation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """R_crop_obj [..., 3, 3] and t_crop [..., 3] -> PyTorch3D's R [..., 3, 3] and T [..., 3]."""
    flip = rotation.new_tensor(LEFT_UP_TO_RIGHT_DOWN)
    return (flip[:, None] * rotation).transpose(-1, -2), flip * translation
