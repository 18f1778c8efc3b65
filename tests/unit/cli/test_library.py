from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import trimesh
from typer.testing import CliRunner, Result

from pasr_perception import encoders
from pasr_perception.cli.library import library_app
from pasr_perception.cli.mesh_options import MeshOptions
from pasr_perception.config import EncoderConfig
from pasr_perception.library.store import LibraryWriter, MeshLibrary

FAST = "library: {points: 200, views: 4, supersample: 1, strangers: 4, batch_size: 4}\n"


class TinyEncoder:
    """Mean colours of an 8 x 8 grid as features: small, exact, and needing no weights."""

    dim, image_size, grid, fingerprint = 3, 64, 8, "f00d"

    def __init__(self, name: str = "efficientnet-lite0") -> None:
        self.name = name

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        means = torch.nn.functional.avg_pool2d(images.float(), self.image_size // self.grid) + 1
        return torch.nn.functional.normalize(means, dim=1)


@pytest.fixture(autouse=True)
def tiny_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(config: EncoderConfig) -> tuple[TinyEncoder, torch.device]:
        return TinyEncoder(config.name), torch.device("cpu")

    monkeypatch.setattr(encoders, "load_encoder", load)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    meshes = tmp_path / "meshes"
    meshes.mkdir()
    trimesh.creation.box((100, 200, 300)).export(meshes / "brick.stl")
    trimesh.creation.cylinder(50, 150).export(meshes / "can.obj")
    (meshes / "broken.stl").write_text("solid\n")
    (tmp_path / "fast.yaml").write_text(FAST)
    return meshes


def pasr(*arguments: object) -> Result:
    return CliRunner().invoke(library_app, [str(a) for a in arguments])


def build(folder: Path, *more: object) -> tuple[Result, Path]:
    target = folder.parent / "lib"
    options: Sequence[Any] = ("--unit", "mm", "--pose-set", "upright", "--config", folder.parent / "fast.yaml")
    return pasr("build", folder, "-o", target, *options, *more), target


def test_build_skips_the_bad_mesh_by_name_and_keeps_the_rest(folder: Path) -> None:
    result, lib = build(folder, "--category", "thing", "--creator", "Ann")
    assert result.exit_code == 0, result.output
    assert "skipped broken" in result.stderr
    assert "2 meshes built, 1 skipped" in result.stdout
    opened = MeshLibrary.open(lib)
    assert [e.id for e in opened.entries] == ["brick", "can"]
    brick = opened.entries[0]
    assert brick.extent == pytest.approx((0.1, 0.2, 0.3))
    assert (brick.category, brick.creator, brick.appearance, brick.pose_set) == ("thing", "Ann", "unknown", "upright")
    assert pasr("verify", lib).exit_code == 0


def test_build_over_a_library_needs_force(folder: Path) -> None:
    _, lib = build(folder)
    again, _ = build(folder)
    assert again.exit_code == 1
    assert "--force to replace it" in again.stderr
    assert len(MeshLibrary.open(lib)) == 2
    config = ("--unit", "mm", "--pose-set", "upright", "--config", lib.parent / "fast.yaml")
    result = pasr("build", folder / "can.obj", "-o", lib, "--force", *config)
    assert result.exit_code == 0, result.output
    assert [e.id for e in MeshLibrary.open(lib).entries] == ["can"]


def test_add_remove_and_resume(folder: Path) -> None:
    _, lib = build(folder)
    assert pasr("remove", lib, "brick", "nothing").exit_code == 1
    assert len(MeshLibrary.open(lib)) == 2
    assert pasr("remove", lib, "brick").exit_code == 0
    config = ("--config", folder.parent / "fast.yaml", "--unit", "mm", "--pose-set", "upright")
    refused = pasr("add", lib, folder / "brick.stl", folder / "can.obj", *config)
    assert refused.exit_code == 1
    assert "holds can already" in refused.stderr
    result = pasr("add", lib, folder / "brick.stl", folder / "can.obj", "--resume", *config)
    assert result.exit_code == 0, result.output
    opened = MeshLibrary.open(lib)
    assert [e.id for e in opened.entries] == ["can", "brick"]
    assert opened.entries[1].offset_mean > 0
    assert opened.verify() == []


def test_a_stopped_build_goes_on_with_resume(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.parent / "one.yaml").write_text(FAST.replace("{", "{workers: 1, "))
    encode = TinyEncoder.encode
    calls = itertools.count()

    def stop(self: TinyEncoder, images: torch.Tensor) -> torch.Tensor:
        if next(calls) == 7:  # a mesh takes six: 24 views by 4
            raise KeyboardInterrupt
        return encode(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(TinyEncoder, "encode", stop)
        stopped, lib = build(folder, "--config", folder.parent / "one.yaml")
    assert stopped.exit_code == 130
    assert "go on with the same command and --resume" in stopped.stderr
    assert [e.id for e in MeshLibrary.open(lib).entries] == ["brick"]
    result, _ = build(folder, "--resume")
    assert result.exit_code == 0, result.output
    assert "1 meshes built, 1 skipped, 1 were there" in result.stdout
    assert [e.id for e in MeshLibrary.open(lib).entries] == ["brick", "can"]
    again, _ = build(folder, "--resume")
    assert again.exit_code == 0
    assert "0 meshes built, 1 skipped, 2 were there" in again.stdout
    other, _ = build(folder, "--resume", "--unit", "cm")
    assert other.exit_code == 1
    assert "was built with unit 0.001, not 0.01" in other.stderr
    both, _ = build(folder, "--resume", "--force")
    assert both.exit_code == 1
    assert "expected one of them, not both" in both.stderr


@pytest.mark.parametrize("command", ["build", "add"])
def test_shared_options_are_spelt_out_in_the_help(command: str) -> None:
    shown = CliRunner().invoke(library_app, [command, "--help"], env={"COLUMNS": "200"})
    for field in dataclasses.fields(MeshOptions):
        assert f"--{field.name.replace('_', '-')}" in shown.stdout
    assert "--options" not in shown.stdout


def test_nothing_usable_is_an_error(folder: Path) -> None:
    result = pasr("build", folder / "broken.stl", "-o", folder.parent / "lib")
    assert result.exit_code == 1
    assert "0 meshes built, 1 skipped" in result.stdout


@pytest.mark.parametrize(
    ("option", "value"),
    [("--unit", "league"), ("--up", "y"), ("--pose-set", "all"), ("--encoder", "magic"), ("--appearance", "maybe")],
)
def test_bad_options_are_one_line(folder: Path, option: str, value: str) -> None:
    result, lib = build(folder, option, value)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert value in result.stderr
    assert not lib.exists()


def test_info_shows_every_mesh_and_json_holds_everything(folder: Path) -> None:
    _, lib = build(folder)
    shown = pasr("info", lib)
    assert "2 meshes" in shown.stdout
    assert "brick" in shown.stdout
    raw = json.loads(pasr("info", lib, "--json").stdout)
    assert raw["encoder"]["fingerprint"] == "f00d"
    assert [e["id"] for e in raw["entries"]] == ["brick", "can"]


def test_verify_fails_on_a_changed_file(folder: Path) -> None:
    _, lib = build(folder)
    glb = lib / "meshes" / "brick.glb"
    content = bytearray(glb.read_bytes())
    content[-1] ^= 1
    glb.write_bytes(content)
    result = pasr("verify", lib)
    assert result.exit_code == 1
    assert "brick.glb" in result.stderr


def test_messages_for_a_folder_that_is_no_library(tmp_path: Path) -> None:
    for command in (("info",), ("verify",), ("remove",), ("add",)):
        extra = ["cup"] if command[0] == "remove" else [tmp_path] if command[0] == "add" else []
        result = pasr(*command, tmp_path / "none", *extra)
        assert result.exit_code == 1, command
        assert result.stderr.startswith("error: "), command


def test_a_busy_library_is_said(folder: Path) -> None:
    _, lib = build(folder)
    with LibraryWriter.open(lib):
        result = pasr("remove", lib, "can")
    assert result.exit_code == 1
    assert "another process is writing" in result.stderr


def test_the_same_meshes_are_built_anew_with_other_settings(folder: Path) -> None:
    _, old = build(folder)
    (folder.parent / "other.yaml").write_text(FAST.replace("200", "300") + "encoder: {name: dinov2}\n")
    result = pasr("rebuild", old, "-o", folder.parent / "new", "--config", folder.parent / "other.yaml")
    assert result.exit_code == 0, result.output
    assert "2 meshes built, 0 skipped" in result.output
    before, after = MeshLibrary.open(old), MeshLibrary.open(folder.parent / "new")
    assert after.header.encoder_name == "dinov2"
    assert len(after.data(0).points) == 300
    for a, b in zip(before.entries, after.entries, strict=True):
        assert (a.id, a.source_path, a.unit, a.up, a.pose_set) == (b.id, b.source_path, b.unit, b.up, b.pose_set)
    again = pasr("rebuild", old, "-o", folder.parent / "new", "--config", folder.parent / "other.yaml")
    assert "0 meshes built, 0 skipped, 2 were there" in again.output


def test_a_library_of_relative_paths_is_built_anew_from_anywhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    build(Path(folder.name))
    monkeypatch.chdir("/")
    result = pasr(
        "rebuild", folder.parent / "lib", "-o", folder.parent / "new", "--config", folder.parent / "fast.yaml"
    )
    assert "2 meshes built, 0 skipped" in result.output


def test_an_empty_library_cannot_be_built_anew(folder: Path) -> None:
    _, old = build(folder)
    assert pasr("remove", old, "brick", "can").exit_code == 0
    result = pasr("rebuild", old, "-o", folder.parent / "new")
    assert result.exit_code == 1
    assert "expected at least one mesh to build again, it has none" in result.output


@pytest.mark.parametrize("said", ["by its option", "in the settings"])
def test_relearn_takes_the_point_encoder_that_is_named(folder: Path, said: str) -> None:
    _, lib = build(folder)
    missing, settings = folder.parent / "missing.safetensors", folder.parent / "points.yaml"
    settings.write_text(f"library: {{point_encoder: {missing}}}\n" if said == "in the settings" else "{}\n")
    options = ("--point-encoder", missing) if said == "by its option" else ()
    result = pasr(
        "relearn", lib, "-o", folder.parent / "learned", "--features", "learned", "--config", settings, *options
    )
    assert result.exit_code == 1
    assert str(missing) in result.stderr.replace("\n", "")
