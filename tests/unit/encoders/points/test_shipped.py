"""The weights that ship: small, whole, beside the default encoder, with their card."""

from __future__ import annotations

from importlib import resources

import torch

from pasr_perception.config import EncoderConfig
from pasr_perception.data.split import split_meshes
from pasr_perception.encoders import load_encoder
from pasr_perception.encoders.points.cloud import PointCloud
from pasr_perception.encoders.points.weights import SHIPPED, load_point_encoder


def test_they_load_by_the_default_encoders_name(clouds: list[PointCloud]) -> None:
    encoder, device = load_encoder(EncoderConfig(device="cpu"))
    loaded = load_point_encoder("", (encoder.name, encoder.fingerprint), device)
    assert loaded.encoder.config.dim == encoder.dim
    points = torch.cat([cloud.points for cloud in clouds] * 8)  # as many as the first scale keeps, and more
    features = loaded.encoder.encode(PointCloud(points, points, torch.zeros_like(points), False))
    assert features.shape == (len(points), encoder.dim)
    assert torch.isfinite(features).all()
    assert {"recipe", "validation_alignment", "split"} <= loaded.card.keys()


def test_they_saw_no_mesh_that_is_not_for_training() -> None:
    encoder, device = load_encoder(EncoderConfig(device="cpu"))
    seen = load_point_encoder("", (encoder.name, encoder.fingerprint), device).card["trained_on"]
    assert len(seen) > 300
    assert set(split_meshes(seen).values()) == {"train"}


def test_they_are_small() -> None:
    for name in SHIPPED.values():
        with resources.as_file(resources.files("pasr_perception.encoders.points") / name) as file:
            assert file.stat().st_size < 25 * 2**20
