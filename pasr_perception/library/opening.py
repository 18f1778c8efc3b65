"""A library together with the encoder that it was built with."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import torch

from pasr_perception.config import EncoderConfig
from pasr_perception.encoders import load_encoder
from pasr_perception.encoders.base import Encoder
from pasr_perception.library.format import LibraryHeader
from pasr_perception.library.store import MeshLibrary

logger = logging.getLogger(__name__)


def encoder_for(header: LibraryHeader, config: EncoderConfig) -> EncoderConfig:
    """The same encoder for crops as large as the library's, where no size is asked for and the encoder has a choice."""
    chosen = not config.image_size and config.name == header.encoder_name and config.sizes
    return replace(config, image_size=header.image_size) if chosen else config


def open_with_encoder(library_dir: str | Path, config: EncoderConfig) -> tuple[MeshLibrary, Encoder, torch.device]:
    """A library, its encoder, and the device that this runs on; raises LibraryError if they do not belong together."""
    library = MeshLibrary.open(library_dir)
    encoder, device = load_encoder(encoder_for(library.header, config))
    library.check_encoder(encoder.name, encoder.fingerprint)
    if library.header.features.centred == "mesh":
        told = "%s: has %s point features; poses are better in one that `pasr library rebuild` makes of it"
        logger.warning(told, library.path, library.header.features)
    return library, encoder, device
