"""The encoder: eq. 1-6 against an obvious twin, gradients, what may not matter does not, and its file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pasr_perception.encoders.base import EncoderError
from pasr_perception.encoders.points.cloud import PointCloud
from pasr_perception.encoders.points.config import PointEncoderConfig
from pasr_perception.encoders.points.encoder import PointEncoder, point_inputs
from pasr_perception.encoders.points.pyramid import build_pyramid, joined_pyramids
from pasr_perception.encoders.points.weights import load_point_encoder, save_point_encoder

BESIDE = ("colour-waves", "c0105")


@pytest.fixture
def encoder(small: PointEncoderConfig) -> PointEncoder:
    torch.manual_seed(0)
    return PointEncoder(small)


def slow_features(encoder: PointEncoder, cloud: PointCloud) -> torch.Tensor:
    """Eq. 1-6 as written: each point takes the three nearest centres of each scale, concatenates, MLP, LayerNorm."""
    config, pyramid = encoder.config, build_pyramid(cloud.points, encoder.config)
    inputs = point_inputs(cloud, config)[None]
    points, features, at_scale = inputs[..., :3], encoder.stem(inputs), []
    for stage, scale in zip(encoder.stages, pyramid.scales, strict=True):
        features, points = stage(features, points, scale)
        at_scale.append((points[0], features[0]))
    weight = torch.cat([lateral.weight for lateral in encoder.lateral], 1)
    bias = sum(lateral.bias for lateral in encoder.lateral)
    rows = []
    for point in cloud.points:
        parts = []
        for centres, of_centres in at_scale[-3:]:
            d2 = (centres - point).square().sum(1)
            near = d2.argsort()[:3]
            share = torch.softmax(-d2[near] / config.temperature, 0)
            parts.append(share @ of_centres[near])
        rows.append(weight @ torch.cat(parts) + bias)
    return encoder.norm(encoder.head(torch.stack(rows)))


def test_features_are_those_of_the_equations(encoder: PointEncoder, clouds: list[PointCloud]) -> None:
    fast = encoder.encode(clouds[0])
    assert fast.shape == (130, 16)
    torch.testing.assert_close(fast, slow_features(encoder, clouds[0]), rtol=1e-4, atol=1e-5)


def test_a_batch_is_its_clouds(encoder: PointEncoder, clouds: list[PointCloud], small: PointEncoderConfig) -> None:
    inputs = torch.stack([point_inputs(cloud, small) for cloud in clouds])
    together = encoder(inputs, joined_pyramids([build_pyramid(cloud.points, small) for cloud in clouds]))
    for features, cloud in zip(together, clouds, strict=True):
        torch.testing.assert_close(features, encoder.encode(cloud), rtol=1e-4, atol=1e-5)


def test_every_weight_has_a_gradient(
    encoder: PointEncoder, clouds: list[PointCloud], small: PointEncoderConfig
) -> None:
    features = encoder(point_inputs(clouds[0], small)[None], build_pyramid(clouds[0].points, small))
    (features * torch.randn(features.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_flipped_normals_are_the_same_surface(encoder: PointEncoder, clouds: list[PointCloud]) -> None:
    flipped = dataclasses.replace(clouds[0], normals=-clouds[0].normals)
    torch.testing.assert_close(encoder.encode(flipped), encoder.encode(clouds[0]))


def test_black_and_unknown_are_told_apart(encoder: PointEncoder, clouds: list[PointCloud]) -> None:
    black = dataclasses.replace(clouds[2], known=True)
    assert (encoder.encode(black) - encoder.encode(clouds[2])).abs().max() > 1e-3


def test_inputs_can_be_left_out(small: PointEncoderConfig, clouds: list[PointCloud]) -> None:
    bare = dataclasses.replace(small, normals=False, colours=False)
    assert point_inputs(clouds[0], bare).shape == (96, 3)
    assert torch.equal(point_inputs(clouds[0], small)[:, :3], clouds[0].points[:96])
    assert point_inputs(clouds[0], small).shape == (96, small.channels)


def test_turning_a_cloud_keeps_its_pyramid(small: PointEncoderConfig, clouds: list[PointCloud]) -> None:
    c, s = 0.8, 0.6
    turned = clouds[0].turned(torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]]))
    before, after = build_pyramid(clouds[0].points, small), build_pyramid(turned.points, small)
    for a, b in zip(before.scales, after.scales, strict=True):
        assert torch.equal(a.centre, b.centre)
        assert torch.equal(a.group, b.group)


def test_a_saved_encoder_comes_back_with_its_card(
    encoder: PointEncoder, clouds: list[PointCloud], tmp_path: Path
) -> None:
    file = tmp_path / "points.safetensors"
    save_point_encoder(file, encoder, BESIDE, {"seed": 3})
    loaded = load_point_encoder(str(file), BESIDE, torch.device("cpu"))
    assert loaded.card == {"seed": 3}
    assert loaded.encoder.config == encoder.config
    torch.testing.assert_close(loaded.encoder.encode(clouds[0]), encoder.encode(clouds[0]), rtol=0.02, atol=0.02)


def test_files_that_do_not_fit_are_refused_by_name(encoder: PointEncoder, tmp_path: Path) -> None:
    file = tmp_path / "points.safetensors"
    device = torch.device("cpu")
    with pytest.raises(EncoderError, match="is not a readable point encoder"):
        load_point_encoder(str(file), BESIDE, device)
    save_file({"x": torch.zeros(1)}, file)
    with pytest.raises(EncoderError, match="expected pasr-point-encoder version 1"):
        load_point_encoder(str(file), BESIDE, device)
    save_point_encoder(file, encoder, BESIDE, {})
    with pytest.raises(EncoderError, match="was trained beside the image encoder colour-waves"):
        load_point_encoder(str(file), ("dinov2", "ffff"), device)
    with pytest.raises(EncoderError, match="no point encoder ships for the image encoder dinov2"):
        load_point_encoder("", ("dinov2", "ffff"), device)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"radius": 0.0}, r"points\.radius: expected more than 0, got 0\.0"),
        ({"neighbours": 300}, r"points\.neighbours: expected 255 at most, got 300"),
        ({"scales": (48, 64, 12, 6)}, r"points\.scales: expected fewer points each time"),
        ({"scales": (48, 2, 2, 2)}, r"points\.scales: expected 3 or more, of 3 points each"),
        ({"widths": (8, 8)}, r"points\.widths: expected one number per scale \(4\)"),
    ],
)
def test_bad_sizes_are_named(small: PointEncoderConfig, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(small, **changes)
