"""A global embedding, the baseline of joint-embedding retrieval (CMIC, Lin et al. 2021): one vector per photo, one per shape.

Two towers over the same frozen features that the search compares, each a set of vectors: cells of a photo inside its box, points of
a mesh. A small network looks at every member, the mean and the maximum over the set become one unit vector. What the search does
cell by cell, pose by pose, is here one inner product; occlusion and pose are left to training.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from torch.nn.functional import normalize

from pasr_perception.encoders.base import EncoderError
from pasr_perception.encoders.weights_file import read_weights, write_weights

FORMAT = "pasr-global-embedding"
SHIPPED = {"efficientnet-lite0": "efficientnet_lite0_global.safetensors"}  # image encoder -> file beside this one


@dataclass(frozen=True)
class GlobalConfig:
    """Sizes of the two towers."""

    dim: int = 320  # D of the features
    hidden: int = 192
    embedding: int = 128

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"global.{name}: expected at least 1, got {value}")


class SetTower(nn.Module):
    """A set of features to one unit vector."""

    def __init__(self, config: GlobalConfig) -> None:
        super().__init__()
        h = config.hidden
        self.member = nn.Sequential(nn.Linear(config.dim, h), nn.LayerNorm(h), nn.ReLU(), nn.Linear(h, h), nn.ReLU())
        self.whole = nn.Sequential(nn.Linear(2 * h, h), nn.ReLU(), nn.Linear(h, config.embedding))

    def forward(self, features: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """Features [B, n, D] of which those `inside` [B, n] bool count -> [B, E]. Each set must have a member."""
        seen = self.member(features)
        mean = (seen * inside[..., None]).sum(1) / inside.sum(1, keepdim=True)
        largest = seen.masked_fill(~inside[..., None], 0.0).amax(1)  # members are not negative
        return normalize(self.whole(torch.cat([mean, largest], 1)), dim=1)


class GlobalEmbedding(nn.Module):
    """Photos and shapes in one space."""

    def __init__(self, config: GlobalConfig) -> None:
        super().__init__()
        self.config = config
        self.photo, self.shape = SetTower(config), SetTower(config)
        self.log_scale = nn.Parameter(torch.tensor(2.7))  # of the inner products in training: 1 / 0.067

    @torch.no_grad()
    def embed_crops(self, maps: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Centred maps [B, D, g, g] (`coarse.turn_maps`, one turn) and boxes [B, 4] in crop sizes -> [B, E].

        An object is taken to fill its box's inscribed ellipse, as everywhere (docs/conventions.md).
        """
        return self.photo(maps.flatten(2).transpose(1, 2), in_ellipse(boxes, maps.shape[-1]).flatten(1))

    @torch.no_grad()
    def embed_mesh(self, features: torch.Tensor) -> torch.Tensor:
        """A library mesh's point features [N, D] -> [E]."""
        return self.shape(features[None], torch.ones(1, len(features), dtype=torch.bool, device=features.device))[0]


def in_ellipse(boxes: torch.Tensor, grid: int) -> torch.Tensor:
    """Which cells [B, g, g] have their middle in the inscribed ellipse of each box [B, 4], in crop sizes; the middle one always."""
    at = (torch.arange(grid, device=boxes.device) + 0.5) / grid
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    x, y = ((at - middle[:, i, None]) / half[:, i, None] for i in (0, 1))  # [B, g]
    r2 = y.square()[:, :, None] + x.square()[:, None]
    return (r2 <= 1) | (r2 == r2.amin((1, 2), keepdim=True))


def save_global(
    path: str | Path, module: GlobalEmbedding, image_encoder: tuple[str, str], card: Mapping[str, Any] | None = None
) -> None:
    """Write weights (float16) with their configuration and card (data, recipe, scores); the file at `path` is replaced."""
    plain = {"format": FORMAT, "config": json.dumps(dataclasses.asdict(module.config))}
    plain |= {"image_encoder": json.dumps(image_encoder), "card": json.dumps(card or {})}
    write_weights(path, module.state_dict(), plain)


def load_global(path: str | Path, image_encoder: tuple[str, str]) -> GlobalEmbedding:
    """The embedding of a file, or the package's own for this image encoder where `path` is empty.

    Raises EncoderError if there is none, the file is not one, or it was trained on another image encoder's features.
    """
    path = path or _shipped(image_encoder[0])
    try:
        plain, weights = read_weights(path)
        if plain["format"] != FORMAT:
            raise ValueError(f"expected format {FORMAT}, got {plain['format']}")
        module = GlobalEmbedding(GlobalConfig(**json.loads(plain["config"])))
        module.load_state_dict(weights)
        beside = tuple(json.loads(plain["image_encoder"]))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise EncoderError(
            f"{path}: is not a readable global embedding ({error}); make one: pasr train global"
        ) from error
    if beside != image_encoder:
        raise EncoderError(f"{path}: was trained on features of {beside}, not of {image_encoder}; train one for it")
    return module.eval().requires_grad_(False)


def _shipped(image_encoder: str) -> Path:
    if image_encoder not in SHIPPED:
        raise EncoderError(
            f"no global embedding ships for the image encoder {image_encoder}; train one (pasr train global) and name its file"
        )
    return Path(str(resources.files("pasr_perception.encoders") / SHIPPED[image_encoder]))
