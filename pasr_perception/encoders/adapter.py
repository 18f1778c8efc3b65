"""The feature adapter (InexactCAD 3.1.1): two layers on frozen features, which make neighbours of what is near on the object.

A frozen network takes the legs of a chair for one another, and a repainted surface for another one. The adapter is trained to tell
places apart by where they are on the object, whatever is painted there. What is compared is both, [sqrt(1-w) F, sqrt(w) A(F)]:
the inner product of two such features is (1-w) of the frozen ones' cosine and w of the adapted ones'.

It works on features after centring (docs/adr/0008-centring.md), one at a time; so the cells of a crop and the points of a mesh,
lifted or learned, pass through the same function. An encoder cannot do so, as it knows no boxes: `AdaptedEncoder` keeps room for
the adapted features, and `compared_maps` and `compared_cloud` fill it once features are centred.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from torch.nn.functional import normalize

from pasr_perception.config import from_mapping
from pasr_perception.encoders.base import Encoder, EncoderError
from pasr_perception.encoders.weights_file import check_format, read_weights, write_weights
from pasr_perception.library.files import sha256_of

FORMAT, VERSION = "pasr-feature-adapter", 1


@dataclass(frozen=True)
class AdapterConfig:
    """Sizes of the adapter."""

    dim: int = 320  # D of the frozen features
    hidden: int = 256
    adapted: int = 128  # K of the adapted ones

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"adapter.{name}: expected at least 1, got {value}")


class FeatureAdapter(nn.Module):
    """Centred unit features in, adapted unit features out."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.Sequential(
            nn.Linear(config.dim, config.hidden), nn.ReLU(), nn.Linear(config.hidden, config.adapted)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features [..., D] -> adapted ones [..., K], of unit length."""
        return normalize(self.layers(features), dim=-1)

    @torch.no_grad()
    def fused(self, features: torch.Tensor, share: float) -> torch.Tensor:
        """Features [..., D] -> [..., D + K] of unit length, `share` of its square adapted. Raises ValueError outside 0..1."""
        if not 0 <= share <= 1:
            raise ValueError(f"share: expected 0..1, got {share}")
        return torch.cat([(1 - share) ** 0.5 * features, share**0.5 * self(features)], -1)


class AdaptedEncoder:
    """A frozen encoder and the adapter of its features. What it encodes are the frozen ones, and zeros for the adapted ones.

    Zeros stay zeros whatever is averaged or centred, so lifting, pooling and centring need not know.
    """

    def __init__(self, base: Encoder, adapter: LoadedAdapter, share: float) -> None:
        """Raises ValueError for a share outside 0..1."""
        if not 0 <= share <= 1:
            raise ValueError(f"share: expected 0..1, got {share}")
        self.base, self.share, self._adapter = base, share, adapter
        self.name, self.image_size, self.grid = base.name, base.image_size, base.grid
        self.room = adapter.module.config.adapted
        self.dim = base.dim + self.room
        together = f"{base.fingerprint} {adapter.fingerprint} {share}"
        self.fingerprint = hashlib.sha256(together.encode()).hexdigest()[:16]

    def over(self, base: Encoder) -> AdaptedEncoder:
        """The same over another object for the same frozen encoder."""
        return AdaptedEncoder(base, self._adapter, self.share)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """See `base.Encoder`."""
        return with_room(self.base.encode(images), self.room, 1)

    def compared(self, features: torch.Tensor) -> torch.Tensor:
        """Centred features with room [..., D + K] -> those that are compared, of unit length."""
        return self._adapter.module.to(features.device).fused(features[..., : self.base.dim], self.share)


def with_room(features: torch.Tensor, room: int, channel: int) -> torch.Tensor:
    """Features with `room` more channels, of zeros, along the dimension `channel`."""
    shape = [*features.shape]
    shape[channel] = room
    return torch.cat([features, features.new_zeros(shape)], channel)


def frozen_part(encoder: Encoder) -> Encoder:
    """What gives the features that are adapted, or the encoder itself where nothing is adapted."""
    return encoder.base if isinstance(encoder, AdaptedEncoder) else encoder


def compared_maps(encoder: Encoder, centred: torch.Tensor) -> torch.Tensor:
    """Centred maps [B, T, D, g, g] of an encoder's features as they are compared: adapted where it has an adapter."""
    if not isinstance(encoder, AdaptedEncoder):
        return centred
    return encoder.compared(centred.movedim(2, -1)).movedim(-1, 2)


def compared_cloud(encoder: Encoder, centred: torch.Tensor) -> torch.Tensor:
    """The same for the centred features [N, D] of a mesh's points, with room or without."""
    if not isinstance(encoder, AdaptedEncoder):
        return centred
    return encoder.compared(centred)


@dataclass(frozen=True)
class LoadedAdapter:
    """An adapter ready for use."""

    module: FeatureAdapter
    fingerprint: str  # of weights and configuration
    card: dict[str, Any]  # recipe, data, scores


def save_adapter(
    path: str | Path, module: FeatureAdapter, image_encoder: tuple[str, str], card: dict[str, Any]
) -> None:
    """Write weights (float16), configuration and card; the file at `path` is replaced."""
    plain = {
        "format": FORMAT,
        "version": str(VERSION),
        "config": json.dumps(dataclasses.asdict(module.config)),
        "image_encoder": json.dumps(image_encoder),
        "card": json.dumps(card),
    }
    write_weights(path, module.state_dict(), plain)


def load_adapter(path: str | Path, image_encoder: tuple[str, str]) -> LoadedAdapter:
    """Raises EncoderError if the file is not one, or was trained on another image encoder's features."""
    try:
        plain, weights = read_weights(path)
        check_format(plain, FORMAT, VERSION)
        module = FeatureAdapter(from_mapping(AdapterConfig, json.loads(plain["config"]), "adapter"))
        module.load_state_dict(weights)
        beside, card = tuple(json.loads(plain["image_encoder"])), json.loads(plain["card"])
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise EncoderError(
            f"{path}: is not a readable feature adapter ({error}); make one: pasr train adapter"
        ) from error
    if beside != image_encoder:
        raise EncoderError(f"{path}: was trained on features of {beside}, not of {image_encoder}; train one for it")
    return LoadedAdapter(module.eval().requires_grad_(False), sha256_of(Path(path))[:16], card)
