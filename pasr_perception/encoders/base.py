"""The one interface of all 2D encoders: square RGB crops in, unit feature vectors per patch out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch


class Encoder(Protocol):
    """A frozen image encoder."""

    name: str
    dim: int  # D
    image_size: int  # S, pixels of the square input
    grid: int  # g, the feature map is g x g
    fingerprint: str  # changes whenever features would: weights, whitening, taps

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Crops [B, 3, S, S] uint8 RGB -> features [B, D, g, g] float32, of unit length over D."""
        ...


class EncoderError(RuntimeError):
    """An encoder cannot be loaded; the message says what is missing and what to do."""


def check_images(images: torch.Tensor, size: int) -> None:
    """Raise ValueError unless images are [B, 3, size, size] uint8."""
    if images.ndim != 4 or images.shape[1:] != (3, size, size) or images.dtype != torch.uint8:
        raise ValueError(f"images: expected [B, 3, {size}, {size}] uint8, got {list(images.shape)} {images.dtype}")


def image_batch(images: Sequence[np.ndarray]) -> torch.Tensor:
    """Pictures [S, S, 3] uint8 as the batch [B, 3, S, S] that encoders take."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def number_type(precision: str, device: torch.device) -> torch.dtype:
    """What a network computes in, for the `precision` of a configuration."""
    low = precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
    return torch.bfloat16 if low else torch.float32


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA when there is one; anything else is taken as torch names it."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"encoder.device: expected auto, cpu, cuda or cuda:N, got {name!r}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"encoder.device: {name!r} was asked for, but torch {torch.__version__} sees no CUDA device")
    return device
