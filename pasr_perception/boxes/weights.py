"""The heads' trained weights as files (`pasr train boxes`, `pasr train shown`), and those that come with the package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from torch import nn

from pasr_perception.boxes.network import EdgeHead
from pasr_perception.boxes.shown import ShownHead
from pasr_perception.encoders.base import EncoderError
from pasr_perception.encoders.efficientnet_lite import NAME
from pasr_perception.encoders.weights_file import check_format, read_weights, write_weights

VERSION = 1

AnyHead = TypeVar("AnyHead", EdgeHead, ShownHead)


@dataclass(frozen=True)
class _Kind:
    format: str
    file: str  # in the package
    command: str  # that makes one


_KINDS: dict[type[nn.Module], _Kind] = {
    EdgeHead: _Kind("pasr-boxes", "efficientnet_lite0_boxes.safetensors", "pasr train boxes"),
    ShownHead: _Kind("pasr-shown", "efficientnet_lite0_shown.safetensors", "pasr train shown"),
}


def shipped_weights(head: type[EdgeHead] | type[ShownHead]) -> Path:
    """The file of such a head that comes with the package."""
    return Path(str(resources.files("pasr_perception.boxes") / _KINDS[head].file))


def save_head(path: str | Path, head: EdgeHead | ShownHead, card: Mapping[str, Any]) -> None:
    """Write a head (float16) and what is to be known of it; the file at `path` is replaced."""
    plain = {"format": _KINDS[type(head)].format, "version": str(VERSION), "backbone": NAME, "card": json.dumps(card)}
    write_weights(path, head.state_dict(), plain)


def load_head(path: str | Path, kind: type[AnyHead]) -> tuple[AnyHead, dict[str, Any]]:
    """A head, frozen, and its card. Raises EncoderError if the file holds none of this kind."""
    head, expected = kind(), _KINDS[kind]
    try:
        plain, weights = read_weights(path)
        check_format(plain, expected.format, VERSION)
        head.load_state_dict(weights)
        return head.eval().requires_grad_(False), json.loads(plain["card"])
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise EncoderError(f"{path}: holds no readable box network ({error}); make one: {expected.command}") from error
