"""2D foundation models behind one interface (`base.Encoder`); `load_encoder` picks one by name."""

from __future__ import annotations

import torch

from pasr_perception.config import EncoderConfig
from pasr_perception.encoders.base import Encoder, EncoderError, pick_device

__all__ = ["Encoder", "EncoderError", "load_encoder"]


def load_encoder(config: EncoderConfig) -> tuple[Encoder, torch.device]:
    """The configured encoder and the device it runs on; raises EncoderError saying what is missing and what to do."""
    encoder, device = _frozen(config)
    if not config.adapter:
        return encoder, device
    from pasr_perception.encoders.adapter import AdaptedEncoder, load_adapter

    adapter = load_adapter(config.adapter, (encoder.name, encoder.fingerprint))
    return AdaptedEncoder(encoder, adapter, config.adapter_share), device


def _frozen(config: EncoderConfig) -> tuple[Encoder, torch.device]:
    device = pick_device(config.device)
    if config.name == "efficientnet-lite0":
        from pasr_perception.encoders.efficientnet_lite import IMAGE_SIZE, NAME, TAPS, EfficientNetLite
        from pasr_perception.encoders.tuned import load_backbone

        tuned = load_backbone(config.weights, NAME, len(TAPS)) if config.weights else None
        size = config.image_size or IMAGE_SIZE
        return EfficientNetLite(device, None, config.precision, config.compile, tuned, size), device
    from pasr_perception.encoders.dino import load_dino

    return load_dino(config, device), device
