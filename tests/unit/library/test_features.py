"""Point features by source: lifted as ever, learned by an encoder, both; what was made otherwise is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from pasr_perception.config import ConfigError, LibraryConfig
from pasr_perception.encoders.base import EncoderError
from pasr_perception.encoders.centring import evened_cloud
from pasr_perception.encoders.points.cloud import PointCloud
from pasr_perception.encoders.points.config import PointEncoderConfig
from pasr_perception.encoders.points.encoder import PointEncoder
from pasr_perception.encoders.points.weights import save_point_encoder
from pasr_perception.library.build import add_to_library, build_library
from pasr_perception.library.features import point_features
from pasr_perception.library.sample import normalised, sample_colours, sample_surface
from pasr_perception.library.store import LibraryError, MeshLibrary


@pytest.fixture(scope="module")
def weights(bench, small_points: PointEncoderConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained point encoder beside the test encoder."""
    path = tmp_path_factory.mktemp("weights") / "points.safetensors"
    torch.manual_seed(0)
    save_point_encoder(path, PointEncoder(small_points), (bench.encoder.name, bench.encoder.fingerprint), {})
    return path


@pytest.fixture
def cloud(bench) -> PointCloud:
    mesh = normalised(bench.meshes["block"])
    samples = sample_surface(mesh, 250, seed=0)
    return PointCloud.of(samples, sample_colours(mesh, samples))


@pytest.fixture
def lifted(bench) -> torch.Tensor:
    return normalize(torch.randn(250, bench.encoder.dim, generator=torch.Generator().manual_seed(1)), dim=1)


def made(bench, weights: Path, kind: str, share: float = 0.5):
    config = LibraryConfig(features=kind, point_encoder=str(weights), learned_share=share)
    return point_features(config, bench.encoder)


def bare_cloud(cloud: PointCloud) -> PointCloud:
    return dataclasses.replace(cloud, colours=torch.zeros_like(cloud.colours), known=False)


def test_each_source_gives_its_own(bench, weights: Path, cloud: PointCloud, lifted: torch.Tensor) -> None:
    features = made(bench, weights, "lifted")
    assert torch.equal(features(lifted, cloud), lifted)
    learned = made(bench, weights, "learned")
    assert learned.learned is not None
    torch.testing.assert_close(
        learned(lifted, cloud), evened_cloud(normalize(learned.learned.encoder.encode(cloud), dim=1))
    )
    assert learned.source.point_encoder == learned.learned.fingerprint


def test_both_is_what_a_concatenation_would_score(
    bench, weights: Path, cloud: PointCloud, lifted: torch.Tensor
) -> None:
    """[sqrt(1-w) L, sqrt(w) P] . [sqrt(1-w) q, sqrt(w) q] = ((1-w) L + w P) . q, of any length."""
    mine, learned = lifted, made(bench, weights, "learned")(lifted, cloud)
    query = normalize(torch.randn(bench.encoder.dim, generator=torch.Generator().manual_seed(2)), dim=0)
    written_twice = torch.cat([0.7**0.5 * mine, 0.3**0.5 * learned], 1) @ torch.cat(
        [0.7**0.5 * query, 0.3**0.5 * query]
    )
    average = 0.7 * mine + 0.3 * learned
    torch.testing.assert_close(average @ query, written_twice)
    torch.testing.assert_close(made(bench, weights, "both", 0.3)(mine, cloud), normalize(average, dim=1))


def test_auto_learns_a_share_where_colours_are_unknown(
    bench, weights: Path, cloud: PointCloud, lifted: torch.Tensor
) -> None:
    auto, both, bare = made(bench, weights, "auto", 0.3), made(bench, weights, "both", 0.3), bare_cloud(cloud)
    assert cloud.known
    assert torch.equal(auto(lifted, cloud), lifted)
    assert torch.equal(auto(lifted, bare), both(lifted, bare))
    assert not torch.equal(auto(lifted, bare), lifted)


def test_up_is_turned_upwards(bench) -> None:
    samples = sample_surface(normalised(bench.meshes["truck"]), 50, seed=0)
    cloud = PointCloud.of(samples, None, "+z")
    torch.testing.assert_close(cloud.points[:, 1], torch.as_tensor(samples.points[:, 2]))
    torch.testing.assert_close(cloud.normals[:, 1], torch.as_tensor(samples.normals[:, 2]))


@pytest.mark.parametrize(("kind", "where"), [("both", ""), ("auto", " where colours are unknown")])
def test_a_library_says_what_its_features_are_and_keeps_to_it(
    bench, weights: Path, tmp_path: Path, kind: str, where: str
) -> None:
    config = dataclasses.replace(
        bench.config,
        points=250,
        views=4,
        upright_views=4,
        features=kind,
        point_encoder=str(weights),
        learned_share=0.4,
    )
    path = tmp_path / "lib"
    build_library([bench.source("can")], path, bench.encoder, config)
    header = MeshLibrary.open(path).header
    assert (header.features.kind, header.features.share) == (kind, 0.4)
    assert len(header.features.point_encoder) == 16
    assert str(header.features) == f"{kind} (point encoder {header.features.point_encoder}, 0.4 of it{where})"
    for other in (dataclasses.replace(config, features="lifted"), dataclasses.replace(config, learned_share=0.6)):
        with pytest.raises(LibraryError, match=rf"has {kind} .* point features, not"):
            add_to_library(path, [bench.source("truck")], bench.encoder, other)
        with pytest.raises(LibraryError, match=f"was begun with features {kind}"):
            build_library([bench.source("truck")], path, bench.encoder, other, resume=True)
    add_to_library(path, [bench.source("truck")], bench.encoder, config)
    assert len(MeshLibrary.open(path)) == 2


def test_bad_settings_and_missing_weights_are_named(bench, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"library\.features: expected one of lifted, learned, both, auto, got 'painted'"
    ):
        LibraryConfig(features="painted")
    with pytest.raises(ConfigError, match=r"library\.learned_share: expected more than 0 and less than 1"):
        LibraryConfig(learned_share=1.0)
    with pytest.raises(EncoderError, match="no point encoder ships for the image encoder colour-waves"):
        point_features(LibraryConfig(features="learned"), bench.encoder)
