"""Projections of taps: unit length, shares, whitening, Fisher's directions, and their file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pasr_perception.encoders.base import EncoderError
from pasr_perception.encoders.projection import (
    EIGENVALUE_FLOOR,
    WITHIN_FLOOR,
    FeatureProjection,
    discriminant,
    joined,
    load_projection,
    save_projection,
    varied,
    whitening_of,
)

CHANNELS, KEPT, STABLE = (6, 10), (4, 5), 3


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def random_projection(share: float = 0.3) -> FeatureProjection:
    return FeatureProjection(
        mean=tuple(randn(c, seed=i) for i, c in enumerate(CHANNELS)),
        whitening=tuple(randn(c, k, seed=10 + i) for i, (c, k) in enumerate(zip(CHANNELS, KEPT, strict=True))),
        stable_mean=randn(sum(CHANNELS), seed=20),
        stable=randn(sum(CHANNELS), STABLE, seed=21),
        stable_share=share,
    )


def taps() -> list[torch.Tensor]:
    return [randn(2, c, 4, 5, seed=30 + i) for i, c in enumerate(CHANNELS)]


def test_features_have_unit_length_and_the_parts_their_shares() -> None:
    projection = random_projection(share=0.3)
    features = projection(taps())
    assert features.shape == (2, projection.dim, 4, 5) == (2, 12, 4, 5)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2, 4, 5))
    squared = [part.square().sum(1) for part in features.split((*KEPT, STABLE), 1)]
    for part, share in zip(squared, (0.35, 0.35, 0.3), strict=True):
        torch.testing.assert_close(part, torch.full((2, 4, 5), share))


def test_a_feature_is_what_the_formula_says_at_one_cell() -> None:
    projection, maps = random_projection(share=0.3), taps()
    centred = [tap[1, :, 2, 3] - mean for tap, mean in zip(maps, projection.mean, strict=True)]
    parts = [c @ w for c, w in zip(centred, projection.whitening, strict=True)]
    side_by_side = torch.cat([c / c.norm() for c in centred])
    parts.append((side_by_side - projection.stable_mean) @ projection.stable)
    expected = torch.cat([p / p.norm() * s**0.5 for p, s in zip(parts, (0.35, 0.35, 0.3), strict=True)])
    torch.testing.assert_close(projection(maps)[1, :, 2, 3], expected)


def test_joined_taps_have_unit_length_each() -> None:
    a, b = randn(7, 6), randn(7, 10, seed=1) * 100
    both = joined([a, b])
    torch.testing.assert_close(both[:, :6].norm(dim=1), torch.ones(7))
    torch.testing.assert_close(both[:, 6:].norm(dim=1), torch.ones(7))


def correlated(count: int = 4000, size: int = 8) -> torch.Tensor:
    x = randn(count, size) * torch.logspace(1, -1, size) @ torch.linalg.qr(randn(size, size, seed=1))[0]
    return x - x.mean(0)


def test_whitening_without_a_floor_makes_the_covariance_the_identity() -> None:
    x = correlated()
    white = x @ whitening_of(x, kept=8, floor=0.0)
    torch.testing.assert_close(white.T @ white / len(x), torch.eye(8), atol=1e-3, rtol=0)


def test_the_floor_quietens_what_is_quiet_and_the_loudest_come_first() -> None:
    x = correlated()
    white = x @ whitening_of(x, kept=5)
    assert white.shape == (4000, 5)
    values = torch.linalg.eigvalsh(x.T @ x / len(x)).flip(0)[:5]
    expected = values / (values + EIGENVALUE_FLOOR * values[0])
    torch.testing.assert_close(white.T @ white / len(x), torch.diag(expected), atol=1e-3, rtol=0)


def test_the_discriminant_finds_the_planted_direction() -> None:
    size = 6
    axes = torch.linalg.qr(randn(size, size).double())[0]
    # axis 0 differs most between points but wobbles as much; axis 1 differs less and is steady
    within = axes @ torch.diag(torch.tensor([9.0, 0.01, 1, 1, 1, 1]).double()) @ axes.T
    between = axes @ torch.diag(torch.tensor([5.0, 1.0, 0, 0, 0, 0]).double()) @ axes.T
    found = discriminant(within, between, kept=2, floor=0.05).double()
    first = torch.nn.functional.normalize(found[:, 0], dim=0)
    assert abs(first @ axes[:, 1]) > 0.999
    floored = within + 0.05 * torch.trace(within) / size * torch.eye(size)
    torch.testing.assert_close(found.T @ floored @ found, torch.eye(2).double(), atol=1e-5, rtol=0)


def test_a_high_floor_prefers_what_differs_most() -> None:
    within, between = torch.diag(torch.tensor([0.1, 0.001])).double(), torch.diag(torch.tensor([4.0, 0.5])).double()
    steady = discriminant(within, between, kept=1, floor=0.0)[:, 0]
    assert steady.abs().argmax() == 1
    assert discriminant(within, between, kept=1, floor=WITHIN_FLOOR)[:, 0].abs().argmax() == 0


def test_a_saved_projection_is_the_same(tmp_path: Path) -> None:
    projection = random_projection(share=0.375)
    save_projection(projection, tmp_path / "p.safetensors")
    again = load_projection(tmp_path / "p.safetensors", CHANNELS)
    assert again.stable_share == 0.375
    for name, tensor in projection.tensors().items():
        assert torch.equal(again.tensors()[name], tensor), name
    assert torch.equal(again(taps()), projection(taps()))


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"none\.safetensors: feature statistics missing; .*pasr encoder fit"):
        load_projection(tmp_path / "none.safetensors", CHANNELS)


def test_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    save_projection(random_projection(), path)
    with pytest.raises(EncoderError, match=r"p\.safetensors: expected statistics of taps with \[6, 11\] channels"):
        load_projection(path, (6, 11))
    tensors = load_file(path)
    del tensors["stable"]
    save_file(tensors, path)
    with pytest.raises(EncoderError, match=r"p\.safetensors: holds no tensor 'stable'"):
        load_projection(path, CHANNELS)


def test_moving_to_a_device_changes_nothing_else() -> None:
    projection = random_projection()
    moved = projection.to(torch.device("cpu"))
    assert moved.stable_share == projection.stable_share
    assert dataclasses.replace(moved).dim == projection.dim
    assert all(torch.equal(moved.tensors()[k], v) for k, v in projection.tensors().items())


@pytest.mark.parametrize(
    ("whitened", "last_taps", "share"), [(True, 1, 0.3), (False, 2, 0.0), (True, 1, 0.0), (True, 2, 1.0)]
)
def test_a_variant_has_the_parts_it_should(whitened: bool, last_taps: int, share: float) -> None:
    projection, maps = random_projection(share=0.3), taps()
    variant = varied(projection, whitened, last_taps, share)
    features = variant(maps)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2, 4, 5))
    kept = [k if share < 1 and i >= len(KEPT) - last_taps else 0 for i, k in enumerate(KEPT)]
    assert variant.dim == sum(kept) + (STABLE if share else 0)
    *heard, stable = features.split((*kept, STABLE if share else 0), 1)
    for part, k in zip(heard, kept, strict=True):
        expected = (1 - share) / last_taps if k else 0.0
        torch.testing.assert_close(part.square().sum(1), torch.full((2, 4, 5), expected))
    torch.testing.assert_close(stable.square().sum(1), torch.full((2, 4, 5), share))


def test_unwhitened_directions_are_as_loud_as_they_are() -> None:
    x = randn(4000, 6) * torch.tensor([9.0, 4, 2, 1, 0.5, 0.1])
    projection = dataclasses.replace(random_projection(), whitening=(whitening_of(x, 4), randn(10, 5)))
    loud = (x @ varied(projection, False, 2, 0.0).whitening[0]).std(0)
    torch.testing.assert_close(loud, torch.tensor([9.0, 4, 2, 1]), rtol=0.1, atol=0.05)


@pytest.mark.parametrize(
    ("last_taps", "share", "said"), [(0, 0.5, "last taps: expected 1..2, got 0"), (3, 0.5, "1..2"), (1, 1.5, "0..1")]
)
def test_parts_that_are_not_there_are_refused(last_taps: int, share: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        varied(random_projection(), True, last_taps, share)
