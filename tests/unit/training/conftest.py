"""Observations of the three test meshes, as a cache in a folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pasr_perception.encoders.points.cloud import PointCloud
from pasr_perception.encoders.points.config import PointEncoderConfig
from pasr_perception.library.build import library_header
from pasr_perception.training.cache import ObservationCache, observe_all, shapes_of
from pasr_perception.training.observe import Look, ObserveConfig, ObservedView

OBSERVE = ObserveConfig(points=300, own_views=2, painted_views=1, bare_views=1)


@pytest.fixture(scope="session")
def observe_config() -> ObserveConfig:
    return OBSERVE


@pytest.fixture(scope="session")
def points_config(small_points: PointEncoderConfig) -> PointEncoderConfig:
    return dataclasses.replace(small_points, input_points=300, scales=(96, 48, 24, 12))


@pytest.fixture(scope="session")
def cache_path(bench, tmp_path_factory: pytest.TempPathFactory) -> Path:  # type: ignore[no-untyped-def]
    """Observations of all three; tests that change the folder work on a copy."""
    path = tmp_path_factory.mktemp("observations") / "cache"
    header = library_header(bench.encoder, bench.config)
    cache = observe_all(shapes_of(bench.sources, 0), path, bench.encoder, header, OBSERVE, limit_mb=100)
    assert [mesh.id for mesh in cache.meshes] == ["block", "can", "truck"]
    return path


@pytest.fixture(scope="session")
def cache(cache_path: Path) -> ObservationCache:
    return ObservationCache.open(cache_path)


@pytest.fixture
def shared_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two meshes to train on, one to watch, whatever their hashes say."""
    monkeypatch.setattr("pasr_perception.data.split.split_of", lambda i: "validation" if i == "can" else "train")


@pytest.fixture
def look() -> Callable[..., Look]:
    def make(points: int = 40, cells: int = 9, seed: int = 0) -> Look:
        g = torch.Generator().manual_seed(seed)
        cloud = PointCloud(
            torch.rand(points, 3, generator=g), torch.rand(points, 3, generator=g), torch.zeros(points, 3), False
        )
        target = torch.nn.functional.normalize(torch.randn(cells, 5, generator=g), dim=1)
        index = torch.randint(points, (cells, 4), generator=g).short()
        weight = torch.softmax(torch.randn(cells, 4, generator=g), 1)
        return Look(cloud, (ObservedView(target.half(), index, weight.half()),))

    return make
