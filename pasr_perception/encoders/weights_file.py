"""Files of weights: float16 tensors with what is to be known of them as text, in safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from pasr_perception.library.files import write_atomically


def write_weights(path: str | Path, weights: Mapping[str, torch.Tensor], plain: Mapping[str, str]) -> None:
    """Write weights, as a module's `state_dict` names them, with `plain` beside them; the file at `path` is replaced."""
    halves = {name: tensor.detach().cpu().half().contiguous() for name, tensor in weights.items()}
    write_atomically(Path(path), lambda file: save_file(halves, file, dict(plain)))


def read_weights(path: str | Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """What is told of the weights, and the weights, float32. Raises OSError or SafetensorError for what is no such file."""
    with safe_open(path, framework="pt", device="cpu") as opened:
        return opened.metadata() or {}, {name: opened.get_tensor(name).float() for name in sorted(opened.keys())}


def check_format(plain: Mapping[str, str], name: str, version: int) -> None:
    """Raise ValueError unless the file says that it is of this format and version."""
    if plain.get("format") != name or plain.get("version") != str(version):
        raise ValueError(f"expected {name} version {version}, got {plain.get('format')} {plain.get('version')}")
