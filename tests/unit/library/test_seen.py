"""Libraries made from another one's views: the same meshes, without one call of the image encoder for them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from pasr_perception.encoders.points.config import PointEncoderConfig
from pasr_perception.encoders.points.encoder import PointEncoder
from pasr_perception.encoders.points.weights import save_point_encoder
from pasr_perception.library.build import build_library, library_header
from pasr_perception.library.relearn import relearn_library
from pasr_perception.library.sample import normalised, sample_surface
from pasr_perception.library.seen import SeenMeshes
from pasr_perception.library.store import LibraryError, MeshLibrary


class Counting:
    """The bench's encoder, which counts the images that it is shown."""

    def __init__(self, encoder) -> None:
        self.name, self.dim, self.image_size = encoder.name, encoder.dim, encoder.image_size
        self.grid, self.fingerprint = encoder.grid, encoder.fingerprint
        self._encoder, self.shown = encoder, 0

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        self.shown += len(images)
        return self._encoder.encode(images)


@pytest.fixture
def weights(bench, small_points: PointEncoderConfig, tmp_path: Path) -> Path:
    """An untrained point encoder beside the test encoder."""
    path = tmp_path / "points.safetensors"
    torch.manual_seed(0)
    save_point_encoder(path, PointEncoder(small_points), (bench.encoder.name, bench.encoder.fingerprint), {})
    return path


def test_a_learned_library_takes_the_views_of_a_lifted_one(
    bench, library_path: Path, weights: Path, tmp_path: Path
) -> None:
    learned = dataclasses.replace(bench.config, features="learned", point_encoder=str(weights))
    encoder = Counting(bench.encoder)
    again = dataclasses.replace(learned, lifted_from=str(library_path))
    build_library([bench.source("truck")], tmp_path / "again", encoder, again)
    only_strangers = encoder.shown
    encoder.shown = 0
    build_library([bench.source("truck")], tmp_path / "anew", encoder, learned)
    assert encoder.shown - only_strangers == bench.config.upright_views
    mine, theirs = (MeshLibrary.open(tmp_path / name) for name in ("again", "anew"))
    assert torch.equal(mine.data(0).features, theirs.data(0).features)
    assert torch.equal(mine.data(0).view_pooled, theirs.data(0).view_pooled)
    assert mine.entries[0].offset_mean == theirs.entries[0].offset_mean


def test_relearning_makes_the_same_entries_with_other_features(
    bench, library_path: Path, weights: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(bench.config, points=99, features="both", point_encoder=str(weights))
    report = relearn_library(library_path, tmp_path / "both", bench.encoder, config)
    lifted, both = MeshLibrary.open(library_path), MeshLibrary.open(tmp_path / "both")
    assert report.built == ("block", "can", "truck")
    assert both.header.features.kind == "both"
    for mine, theirs in zip(both.entries, lifted.entries, strict=True):
        same = ("id", "category", "source_path", "unit", "appearance", "pose_set", "up", "scale", "symmetry")
        assert [getattr(mine, name) for name in same] == [getattr(theirs, name) for name in same]
    assert torch.equal(both.data(0).points, lifted.data(0).points)  # as many as there, whatever the settings say
    assert not torch.equal(both.data(0).features, lifted.data(0).features)
    assert relearn_library(library_path, tmp_path / "both", bench.encoder, config).kept == report.built
    with pytest.raises(LibraryError, match="cannot be lifted from: it has features both"):
        relearn_library(tmp_path / "both", tmp_path / "more", bench.encoder, config)


def test_other_points_and_other_libraries_are_refused(bench, library_path: Path) -> None:
    header = library_header(bench.encoder, bench.config)
    seen = SeenMeshes(library_path, header, bench.encoder)
    source = bench.source("truck")
    elsewhere = sample_surface(normalised(bench.meshes["truck"]), bench.config.points, seed=12345)
    with pytest.raises(ValueError, match=r"expected the points at which .* holds truck, got others"):
        seen.of(source, elsewhere)
    assert seen.of(dataclasses.replace(source, id="tram"), elsewhere) is None
    with pytest.raises(LibraryError, match=r"it has fill 0\.8, not 0\.7; leave out lifted_from"):
        SeenMeshes(library_path, dataclasses.replace(header, fill=0.7), bench.encoder)
