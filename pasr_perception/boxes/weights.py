"""The head's trained weights as a file (`pasr train boxes`), and those that come with the package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from pasr_perception.boxes.network import EdgeHead
from pasr_perception.encoders.base import EncoderError
from pasr_perception.encoders.efficientnet_lite import NAME
from pasr_perception.encoders.weights_file import check_format, read_weights, write_weights

FORMAT, VERSION = "pasr-boxes", 1
FILE = "efficientnet_lite0_boxes.safetensors"


def shipped_weights() -> Path:
    """The file that comes with the package."""
    return Path(str(resources.files("pasr_perception.boxes") / FILE))


def save_head(path: str | Path, head: EdgeHead, card: Mapping[str, Any]) -> None:
    """Write a head (float16) and what is to be known of it; the file at `path` is replaced."""
    plain = {"format": FORMAT, "version": str(VERSION), "backbone": NAME, "card": json.dumps(card)}
    write_weights(path, head.state_dict(), plain)


def load_head(path: str | Path) -> tuple[EdgeHead, dict[str, Any]]:
    """A head, frozen, and its card. Raises EncoderError if the file holds none."""
    head = EdgeHead()
    try:
        plain, weights = read_weights(path)
        check_format(plain, FORMAT, VERSION)
        head.load_state_dict(weights)
        return head.eval().requires_grad_(False), json.loads(plain["card"])
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise EncoderError(f"{path}: holds no readable box network ({error}); make one: pasr train boxes") from error
