"""`pasr demo` and `pasr real` up to the point where ROS begins: what is reused, what is made, what is said."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner, Result

from pasr_perception import encoders
from pasr_perception.cli import app, bag, demo
from pasr_perception.cli.replay import Replay, ReplayError
from pasr_perception.library import build, demo_meshes
from pasr_perception.library.store import LibraryWriter, MeshLibrary


def pasr(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})


@pytest.fixture(autouse=True)
def small(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny encoder, a small library configuration and small scenes wherever the commands load theirs."""
    monkeypatch.setattr(encoders, "load_encoder", lambda config: (bench.encoder, torch.device("cpu")))
    monkeypatch.setattr(build, "LibraryConfig", lambda: bench.config)
    simulate = bag.simulate

    def simulate_small(*args: Any, scenes: int, objects: int, **options: Any) -> None:
        assert (scenes, objects) == (demo.DEMO_SCENES, demo.DEMO_OBJECTS)
        simulate(*args, scenes=1, objects=2, size="96x72", min_visibility=0.0, **options)

    monkeypatch.setattr(bag, "simulate", simulate_small)


@pytest.fixture
def meshes(bench: Any, tmp_path: Path) -> Path:
    """A folder as `fetch_demo` leaves it."""
    folder = tmp_path / "demo" / "meshes"
    folder.mkdir(parents=True)
    listed = []
    for source in bench.sources:
        (folder / source.path.name).write_bytes(source.path.read_bytes())
        listed.append({"path": source.path.name, "unit": "mm", "pose_set": "upright", "category": source.category})
    (folder / "manifest.yaml").write_text(yaml.safe_dump({"meshes": listed}))
    return folder


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[Replay]:
    """Replays are noted, and fail."""
    asked: list[Replay] = []

    def fail(job: Replay) -> Path:
        asked.append(job)
        raise ReplayError("the node ended with status 3: no luck")

    monkeypatch.setattr(demo, "replay", fail)
    return asked


def test_real_without_photos_says_so_and_stops(tmp_path: Path) -> None:
    result = pasr("real", "--data", tmp_path / "nothing", "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert f"skipped: no photos in {tmp_path / 'nothing' / 'hope_dev'}" in result.stdout
    assert not (tmp_path / "out").exists()


def test_demo_that_cannot_fetch_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: object, **__: object) -> None:
        raise demo_meshes.FetchError("apt-get has no package lists; run `apt-get update`")

    monkeypatch.setattr(demo_meshes, "fetch_demo", fetch)
    result = pasr("demo", "--out", tmp_path / "demo")
    assert result.exit_code == 1
    assert result.stderr.endswith("error: apt-get has no package lists; run `apt-get update`\n")


def test_demo_builds_simulates_and_says_what_became_of_the_replay(meshes: Path, replays: list[Replay]) -> None:
    out = meshes.parent
    result = pasr("demo", "--out", out, "--frames", 2)
    assert result.exit_code == 1
    assert "error: the node ended with status 3: no luck" in result.stderr
    (job,) = replays
    assert (job.bag, job.library, job.out) == (out / "bag_2", out / "library", out)
    assert [e.id for e in MeshLibrary.open(out / "library").entries] == ["block", "can", "truck"]
    files = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.suffix in (".mcap", ".glb", ".safetensors")}
    assert len(files) == 8  # two of each mesh, the bank, the bag
    pasr("demo", "--out", out, "--frames", 2)
    assert {p: p.stat().st_mtime_ns for p in files} == files  # nothing was made again
    assert len(replays) == 2


@pytest.mark.parametrize("frames", ["0", "many"])
def test_a_bad_number_of_frames_is_refused(tmp_path: Path, frames: str) -> None:
    result = pasr("demo", "--out", tmp_path, "--frames", frames)
    assert result.exit_code == 2
    assert "--frames" in result.stderr


def test_an_unfinished_library_is_gone_on_with(bench: Any, tmp_path: Path) -> None:
    build.build_library(bench.sources[:2], tmp_path / "lib", bench.encoder, bench.config)
    before = (tmp_path / "lib" / "data" / "can.safetensors").stat().st_mtime_ns
    demo.ready_library(bench.sources, tmp_path / "lib")
    assert [e.id for e in MeshLibrary.open(tmp_path / "lib").entries] == ["block", "can", "truck"]
    assert (tmp_path / "lib" / "data" / "can.safetensors").stat().st_mtime_ns == before


def test_a_library_of_another_encoder_is_built_anew(bench: Any, tmp_path: Path) -> None:
    header = dataclasses.replace(build.library_header(bench.encoder, bench.config), encoder_fingerprint="old")
    LibraryWriter.create(tmp_path / "lib", header).close()
    demo.ready_library(bench.sources[2:], tmp_path / "lib")
    library = MeshLibrary.open(tmp_path / "lib", expect_encoder=(bench.encoder.name, bench.encoder.fingerprint))
    assert [e.id for e in library.entries] == ["truck"]


def test_a_library_of_features_made_by_an_older_version_is_built_anew(bench: Any, tmp_path: Path) -> None:
    build.build_library(bench.sources[2:], tmp_path / "lib", bench.encoder, bench.config)
    raw = json.loads((tmp_path / "lib" / "library.json").read_text())
    del raw["features"]["centred"]
    (tmp_path / "lib" / "library.json").write_text(json.dumps(raw))
    demo.ready_library(bench.sources[2:], tmp_path / "lib")
    library = MeshLibrary.open(tmp_path / "lib")
    assert [e.id for e in library.entries] == ["truck"]
    assert library.header.features.centred == "views"


def test_hope_meshes_take_colours_where_there_are_some(tmp_path: Path) -> None:
    for name in ("models/obj_000001.ply", "models/obj_000002.ply", "models_color/obj_000002.ply"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("ply\n")
    first, second = demo._hope_sources(tmp_path)
    assert (first.id, first.appearance, first.path.parent.name) == ("obj_000001", "unknown", "models")
    assert (second.id, second.appearance, second.path.parent.name) == ("obj_000002", "known", "models_color")
    assert {(s.unit, s.pose_set) for s in (first, second)} == {(0.001, "so3")}
