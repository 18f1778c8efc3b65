"""Opening a library with its encoder: crops are as large as those that it was built with."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
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

FIRST_FRAME = """
import sys
import numpy as np
from numba.core.dispatcher import Dispatcher
from pasr_perception.config import CoarseConfig, EncoderConfig, PasrConfig
from pasr_perception.pipeline import Pipeline
from pasr_perception.types import Camera, Detection, Frame

def compiled():
    modules = [m for name, m in sys.modules.items() if name.startswith("pasr_perception.kernels.")]
    loops = {k for m in modules for k in vars(m).values() if isinstance(k, Dispatcher)}
    return {k.py_func.__qualname__: k.signatures for k in loops}

config = PasrConfig(encoder=EncoderConfig(device="cpu"), coarse=CoarseConfig(exact_poses=4))
pipeline = Pipeline.open(sys.argv[1], config)
before = compiled()
image = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
frame = Frame(image, Camera(320, 240, np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]])))
assert pipeline.detect(frame, [Detection(np.array([100.0, 60, 200, 180]))]).objects
late = {name: s for name, s in compiled().items() if s != before.get(name)}
assert not late, late
"""


@pytest.fixture(scope="module")
def coarse_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of one mesh, seen in crops of 224 pixels."""
    folder = tmp_path_factory.mktemp("opening")
    box = trimesh.creation.box((0.1, 0.2, 0.3))
    box.visual.vertex_colors = [200, 40, 30, 255]
    box.export(folder / "box.ply")
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


def test_the_log_says_where_a_library_is_of_an_older_kind(
    coarse_library: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    open_with_encoder(coarse_library, EncoderConfig(device="cpu"))
    assert not caplog.records
    old = tmp_path / "old"
    shutil.copytree(coarse_library, old, ignore=shutil.ignore_patterns(".lock"))
    raw = json.loads((old / "library.json").read_text())
    del raw["features"]["centred"]
    (old / "library.json").write_text(json.dumps(raw))
    open_with_encoder(old, EncoderConfig(device="cpu"))
    (said,) = (record.message for record in caplog.records)
    assert "by an older version" in said
    assert "pasr library rebuild" in said


def test_another_size_that_was_asked_for_is_refused(coarse_library: Path) -> None:
    with pytest.raises(LibraryError, match=r"the same encoder.image_size \(224 here\)"):
        open_with_encoder(coarse_library, EncoderConfig(device="cpu", image_size=448))


def test_what_is_asked_for_stays(coarse_library: Path) -> None:
    header = MeshLibrary.open(coarse_library).header
    assert encoder_for(header, EncoderConfig()).image_size == 224
    assert encoder_for(header, EncoderConfig(image_size=560)).image_size == 560
    assert encoder_for(header, EncoderConfig(name="dinov2")) == EncoderConfig(name="dinov2")


def test_the_first_frame_compiles_nothing(coarse_library: Path) -> None:
    """In a process of its own: what other tests asked for would be compiled already."""
    command = [sys.executable, "-c", FIRST_FRAME, str(coarse_library)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
