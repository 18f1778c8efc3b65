"""Fitting the feature statistics: scatter of planted signal and nuisance, and a whole fit with a plain network."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pasr_perception.encoders.efficientnet_lite import CHANNELS, IMAGE_SIZE
from pasr_perception.encoders.fit import FitConfig, PointViews, fit_projection, observe, scatter
from pasr_perception.encoders.projection import discriminant, joined
from pasr_perception.library.meshes import MeshError

SMALL = FitConfig(meshes=3, views=4, points=60, whitened_dims=(5, 6, 7), stable_dims=4, seed=3)


class PlainTaps:
    """Stands in for the network: cell colours and their squares through fixed random matrices, at the real sizes."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self._mix = [torch.randn(c, 6, generator=generator) for c in CHANNELS]

    def taps(self, images: torch.Tensor) -> list[torch.Tensor]:
        cells = torch.nn.functional.avg_pool2d(images.float() / 255, IMAGE_SIZE // 28)
        cells = torch.cat([cells, cells.square()], 1)
        return [torch.einsum("dc,bcij->bdij", mix, cells) for mix in self._mix]


def planted(signal: int, nuisance: int) -> tuple[PointViews, torch.Tensor]:
    """Points that differ in channel `signal`, each of which wobbles in channel `nuisance` from view to view."""
    generator = torch.Generator().manual_seed(1)
    views, points = 6, 80
    features = torch.randn(views, points, sum(CHANNELS), generator=generator) * 0.01
    features[..., 0] += 5.0  # every tap has one steady channel, so that lengths differ little
    features[..., CHANNELS[0]] += 5.0
    features[..., CHANNELS[0] + CHANNELS[1]] += 5.0
    features[..., signal] += torch.randn(points, generator=generator)
    features[..., nuisance] += torch.randn(views, points, generator=generator)
    seen = torch.rand(views, points, generator=generator) < 0.7
    return PointViews(features, seen), torch.zeros(sum(CHANNELS))


@pytest.mark.parametrize(("signal", "nuisance"), [(20, 30), (150, 10), (400, 200)])
def test_scatter_and_discriminant_find_what_stays_the_same(signal: int, nuisance: int) -> None:
    views, mean = planted(signal, nuisance)
    within, between, centre = scatter([views], mean)
    assert within.diagonal().argmax() == nuisance
    assert between.diagonal().argmax() == signal
    first = discriminant(within, between, 1)[:, 0]
    assert first.abs().argmax() == signal
    assert first[nuisance].abs() < 0.05 * first[signal].abs()
    assert centre.shape == mean.shape


def test_scatter_is_that_of_the_joined_taps() -> None:
    views, mean = planted(20, 30)
    seen = views.seen.clone()
    seen[:, 0], seen[0, 0] = False, True  # a point seen once says nothing of what stays the same
    within, between, centre = scatter([PointViews(views.features, seen)], mean)
    x = joined(views.features.split(CHANNELS, -1)).double().numpy()
    groups = [x[seen[:, p].numpy(), p] for p in range(x.shape[1]) if seen[:, p].sum() >= 2]
    assert len(groups) < x.shape[1]
    off = np.concatenate([g - g.mean(0) for g in groups])
    means = np.stack([g.mean(0) for g in groups])
    np.testing.assert_allclose(within, off.T @ off / (len(off) - len(groups)), atol=1e-9)
    np.testing.assert_allclose(between, np.cov(means.T, bias=True), atol=1e-9)
    np.testing.assert_allclose(centre, means.mean(0), atol=1e-6)


def test_observed_points_are_seen_in_several_views(bench: Any) -> None:
    found = observe(bench.source("truck"), PlainTaps(), SMALL, np.random.default_rng(0))
    assert found.features.shape == (4, 60, sum(CHANNELS))
    assert found.seen.shape == (4, 60)
    assert found.seen.sum(0).min() >= 1
    assert (found.seen.sum(0) >= 2).float().mean() > 0.2  # else nothing could be learned of what stays the same


def test_a_mesh_that_is_too_heavy_is_refused(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pasr_perception.encoders.fit.MAX_FACES", 10)
    with pytest.raises(MeshError, match=r"truck\.ply: \d+ faces are more than the 10"):
        observe(bench.source("truck"), PlainTaps(), SMALL, np.random.default_rng(0))


def test_a_fit_repeats_with_its_seed_and_skips_bad_meshes(
    bench: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "torn.ply").write_bytes(b"ply\n")
    torn = dataclasses.replace(bench.source("can"), id="torn", path=tmp_path / "torn.ply")
    sources = [torn, bench.source("block"), bench.source("truck")]
    told: list[str] = []
    first = fit_projection(sources, PlainTaps(), SMALL, lambda what, done, total: told.append(what))
    again = fit_projection(sources, PlainTaps(), SMALL)
    assert first.dim == 5 + 6 + 7 + 4
    assert [len(m) for m in first.mean] == list(CHANNELS)
    for name, tensor in first.tensors().items():
        assert torch.isfinite(tensor).all(), name
        assert torch.equal(tensor, again.tensors()[name]), name
    assert "torn" in told
    assert "torn.ply" in caplog.text
    features = first(PlainTaps().taps(torch.randint(0, 255, (1, 3, IMAGE_SIZE, IMAGE_SIZE), dtype=torch.uint8)))
    torch.testing.assert_close(features.norm(dim=1), torch.ones(1, 28, 28))


def test_no_usable_mesh_is_an_error(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "torn.ply").write_bytes(b"ply\n")
    torn = dataclasses.replace(bench.source("can"), id="torn", path=tmp_path / "torn.ply")
    with pytest.raises(ValueError, match="sources: expected at least one readable mesh"):
        fit_projection([torn], PlainTaps(), SMALL)
