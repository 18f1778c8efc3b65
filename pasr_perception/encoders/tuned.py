"""Tuned weights of the default backbone's last blocks, with the projection fitted to them, as a file (`pasr train backbone`).

The blocks before the first tap are ImageNet's in any case, so only what comes after it is kept: 2 M weights in float16.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from pasr_perception.encoders.base import EncoderError
from pasr_perception.encoders.projection import FeatureProjection, projection_of
from pasr_perception.encoders.weights_file import check_format, read_weights, write_weights

FORMAT, VERSION = "pasr-backbone", 1
TAIL, PROJECTION = "tail.", "projection."  # what the tensors' names begin with


class Tail(nn.Module):
    """A network's blocks after its first tap."""

    def __init__(self, blocks: Mapping[int, nn.Module], taps: tuple[int, ...]) -> None:
        """`blocks` by their number in the network, in order; those numbered in `taps` are tapped."""
        super().__init__()
        self._tapped = tuple(number in taps for number in blocks)
        self.blocks = nn.ModuleList(blocks.values())

    def forward(self, first: torch.Tensor) -> list[torch.Tensor]:
        """The first tap [B, C, g, g] -> all taps, it among them."""
        taps, x = [first], first
        for block, tapped in zip(self.blocks, self._tapped, strict=True):
            x = block(x)
            if tapped:
                taps.append(x)
        return taps


@dataclass(frozen=True)
class TunedBackbone:
    """What a file holds."""

    tail: dict[str, torch.Tensor]  # weights of a `Tail`, batch norms folded
    projection: FeatureProjection
    card: dict[str, Any]  # recipe, data, scores


def save_backbone(path: str | Path, name: str, tuned: TunedBackbone) -> None:
    """Write the tuned weights of the backbone `name` (float16), and the card; the file at `path` is replaced."""
    weights = {TAIL + key: tensor for key, tensor in tuned.tail.items()}
    weights |= {PROJECTION + key: tensor for key, tensor in tuned.projection.tensors().items()}
    plain = {"format": FORMAT, "version": str(VERSION), "backbone": name, "card": json.dumps(tuned.card)}
    write_weights(path, weights, plain)


def load_backbone(path: str | Path, name: str, taps: int) -> TunedBackbone:
    """Raises EncoderError if the file is none of the backbone `name`."""
    try:
        plain, weights = read_weights(path)
        check_format(plain, FORMAT, VERSION)
        if plain["backbone"] != name:
            raise ValueError(f"expected weights of {name}, got those of {plain['backbone']}")
        tail, statistics = (
            {key.removeprefix(part): tensor for key, tensor in weights.items() if key.startswith(part)}
            for part in (TAIL, PROJECTION)
        )
        return TunedBackbone(tail, projection_of(statistics, taps), json.loads(plain["card"]))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise EncoderError(
            f"{path}: is not a readable tuned backbone ({error}); make one: pasr train backbone"
        ) from error
