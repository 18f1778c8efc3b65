"""Opening a library with its encoder: crops are as large as those that it was built with."""

from __future__ import annotations

from pathlib import Path

import pytest
import trimesh

from pasr_perception.config import EncoderConfig, LibraryConfig, PasrConfig
from pasr_perception.encoders import load_encoder
from pasr_perception.library.build import build_library
from pasr_perception.library.manifest import sources_from_paths
from pasr_perception.library.opening import encoder_for, open_with_encoder
from pasr_perception.library.store import LibraryError, MeshLibrary
from pasr_perception.pipeline import Pipeline


@pytest.fixture(scope="module")
def coarse_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of one mesh, seen in crops of 224 pixels."""
    folder = tmp_path_factory.mktemp("opening")
    trimesh.creation.box((0.1, 0.2, 0.3)).export(folder / "box.ply")
    encoder, _ = load_encoder(EncoderConfig(device="cpu", image_size=224))
    build_library(
        sources_from_paths([folder / "box.ply"]),
        folder / "lib",
        encoder,
        LibraryConfig(points=256, views=4, strangers=2),
    )
    return folder / "lib"


def test_crops_are_the_librarys(coarse_library: Path) -> None:
    library, encoder, device = open_with_encoder(coarse_library, EncoderConfig(device="cpu"))
    assert (library.header.image_size, library.header.grid) == (224, 14)
    assert (encoder.image_size, encoder.grid, device.type) == (224, 14, "cpu")
    opened = Pipeline.open(coarse_library, PasrConfig(encoder=EncoderConfig(device="cpu")))
    assert opened.crop_spec.size == 224


def test_another_size_that_was_asked_for_is_refused(coarse_library: Path) -> None:
    with pytest.raises(LibraryError, match=r"the same encoder.image_size \(224 here\)"):
        open_with_encoder(coarse_library, EncoderConfig(device="cpu", image_size=448))


def test_what_is_asked_for_stays(coarse_library: Path) -> None:
    header = MeshLibrary.open(coarse_library).header
    assert encoder_for(header, EncoderConfig()).image_size == 224
    assert encoder_for(header, EncoderConfig(image_size=560)).image_size == 560
    assert encoder_for(header, EncoderConfig(name="dinov2")) == EncoderConfig(name="dinov2")
