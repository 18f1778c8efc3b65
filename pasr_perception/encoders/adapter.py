"""The feature adapter (InexactCAD 3.1.1): two layers on frozen features, which make neighbours of what is near on the object.

A frozen network takes the legs of a chair for one another, and a repainted surface for another one. The adapter is trained to tell
places apart by where they are on the object, whatever is painted there. What is compared is both, [sqrt(1-w) F, sqrt(w) A(F)]:
the inner product of two such features is (1-w) of the frozen ones' cosine and w of the adapted ones'.

It works on features as they are compared, after centring (docs/adr/0008-centring.md), one at a time; so the cells of a crop and
the points of a mesh, lifted or learned, pass through the same function.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import normalize

from pasr_perception.config import from_mapping
from pasr_perception.encoders.base import EncoderError
from pasr_perception.library.files import sha256_of, write_atomically

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
    weights = {name: tensor.detach().cpu().half().contiguous() for name, tensor in module.state_dict().items()}
    plain = {
        "format": FORMAT,
        "version": str(VERSION),
        "config": json.dumps(dataclasses.asdict(module.config)),
        "image_encoder": json.dumps(image_encoder),
        "card": json.dumps(card),
    }
    write_atomically(Path(path), lambda file: save_file(weights, file, plain))


def load_adapter(path: str | Path, image_encoder: tuple[str, str]) -> LoadedAdapter:
    """Raises EncoderError if the file is not one, or was trained on another image encoder's features."""
    try:
        with safe_open(path, framework="pt", device="cpu") as opened:
            plain = opened.metadata() or {}
            weights = {name: opened.get_tensor(name).float() for name in sorted(opened.keys())}
        if plain.get("format") != FORMAT or plain.get("version") != str(VERSION):
            raise ValueError(f"expected {FORMAT} version {VERSION}, got {plain.get('format')} {plain.get('version')}")
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
