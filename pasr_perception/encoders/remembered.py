"""An encoder that keeps on disk what it made of each image: several methods asked about the same crops encode them once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pasr_perception.encoders.adapter import AdaptedEncoder, frozen_part
from pasr_perception.encoders.base import Encoder
from pasr_perception.library.files import write_atomically


class RememberingEncoder:
    """Another encoder, with a memory on disk: one float16 file per image, named by its content and the encoder's fingerprint.

    Features are rounded to float16 whether they were remembered or not, so that an answer does not depend on who asked first.
    """

    def __init__(self, encoder: Encoder, folder: Path) -> None:
        self.name, self.dim, self.image_size = encoder.name, encoder.dim, encoder.image_size
        self.grid, self.fingerprint = encoder.grid, encoder.fingerprint
        self._encoder, self._folder = encoder, folder
        folder.mkdir(parents=True, exist_ok=True)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """See `base.Encoder`."""
        return torch.cat([self._one(image[None]) for image in images])

    def _one(self, image: torch.Tensor) -> torch.Tensor:
        content = self.fingerprint.encode() + image.cpu().contiguous().numpy().tobytes()
        file = self._folder / f"{hashlib.sha256(content).hexdigest()[:32]}.safetensors"
        try:
            return load_file(file)["features"].to(image.device).float()
        except (OSError, SafetensorError, KeyError):  # not there, or not whole
            features = self._encoder.encode(image)
            kept = features.half().cpu().contiguous()
            write_atomically(file, lambda temporary: save_file({"features": kept}, temporary))
            return kept.to(features.device).float()


def remembering(encoder: Encoder, folder: Path) -> Encoder:
    """The encoder with a memory; what is adapted is adapted anew, so that one memory serves all adapters."""
    kept = RememberingEncoder(frozen_part(encoder), folder)
    return encoder.over(kept) if isinstance(encoder, AdaptedEncoder) else kept
