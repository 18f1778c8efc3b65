"""Point encoders as files: float16 weights in safetensors, with their configuration, the image encoder they stand beside and a
model card (recipe, data, scores). `learned` by name is the one that ships with the package.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from pasr_perception.config import from_mapping
from pasr_perception.encoders.base import EncoderError
from pasr_perception.encoders.points.config import PointEncoderConfig
from pasr_perception.encoders.points.encoder import PointEncoder
from pasr_perception.encoders.weights_file import check_format, read_weights, write_weights
from pasr_perception.library.files import sha256_of

SHIPPED = {"efficientnet-lite0": "efficientnet_lite0_points.safetensors"}  # image encoder -> file beside this one
FORMAT, VERSION = "pasr-point-encoder", 1


@dataclass(frozen=True)
class LoadedPoints:
    """A point encoder ready for use."""

    encoder: PointEncoder
    fingerprint: str  # of weights and configuration
    image_encoder: tuple[str, str]  # name and fingerprint of the image encoder whose features it gives
    card: dict[str, Any]


def save_point_encoder(
    path: str | Path, encoder: PointEncoder, image_encoder: tuple[str, str], card: dict[str, Any]
) -> None:
    """Write weights (float16), configuration and card; the file at `path` is replaced."""
    plain = {
        "format": FORMAT,
        "version": str(VERSION),
        "config": json.dumps(dataclasses.asdict(encoder.config)),
        "image_encoder": json.dumps(image_encoder),
        "card": json.dumps(card),
    }
    write_weights(path, encoder.state_dict(), plain)


def load_point_encoder(path: str, image_encoder: tuple[str, str], device: torch.device) -> LoadedPoints:
    """The encoder of a file, or the package's own for this image encoder where `path` is empty.

    Raises EncoderError if there is none, the file is damaged, or it was trained beside another image encoder.
    """
    file = Path(path) if path else _shipped(image_encoder[0])
    try:
        plain, weights = read_weights(file)
        check_format(plain, FORMAT, VERSION)
        settings = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(plain["config"]).items()}
        encoder = PointEncoder(from_mapping(PointEncoderConfig, settings, "points"))
        encoder.load_state_dict(weights)
        beside, card = json.loads(plain["image_encoder"]), json.loads(plain["card"])
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise EncoderError(f"{file}: is not a readable point encoder ({error}); make one: pasr train") from error
    if tuple(beside) != image_encoder:
        raise EncoderError(
            f"{file}: was trained beside the image encoder {beside[0]} (fingerprint {beside[1]}), but {image_encoder[0]} "
            f"(fingerprint {image_encoder[1]}) is in use; train one for it: pasr train"
        )
    encoder.to(device).eval().requires_grad_(False)
    return LoadedPoints(encoder, sha256_of(file)[:16], image_encoder, card)


def _shipped(image_encoder: str) -> Path:
    if image_encoder not in SHIPPED:
        raise EncoderError(
            f"no point encoder ships for the image encoder {image_encoder}; train one (pasr train) and name its file"
        )
    return Path(str(resources.files("pasr_perception.encoders.points") / SHIPPED[image_encoder]))
