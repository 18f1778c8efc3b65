from __future__ import annotations

import dataclasses
import errno
import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

from pasr_perception.coarse import Templates
from pasr_perception.geometry.symmetry import Symmetry
from pasr_perception.library import files, store
from pasr_perception.library.store import (
    LibraryError,
    LibraryHeader,
    LibraryWriter,
    MeshData,
    MeshEntry,
    MeshLibrary,
    delete_library,
)
from pasr_perception.render.splat import SplatConfig

D, G = 8, 4
HEADER = LibraryHeader("tiny-net", "abc123", D, 64, G, 0.8, 6.0, SplatConfig(size=G, radius=0.3))
ROUND = Symmetry.from_dict({"continuous_axes": [[0, 1, 0]], "center": [0.0, 0.1, 0.0]})


def entry(identity: str, **changes: Any) -> MeshEntry:
    plain = MeshEntry(
        id=identity,
        category="cup",
        source_path="/somewhere/cup.obj",
        unit=0.01,
        licence="CC0-1.0",
        creator="Ann",
        appearance="known",
        pose_set="so3",
        up="+y",
        center=(0.1, 0.0, -0.2),
        scale=0.25,
        extent=(0.3, 0.2, 0.1),
        faces=12,
        build_seconds=1.5,
        offset_mean=0.4,
        offset_std=0.05,
        symmetry=ROUND,
    )
    return dataclasses.replace(plain, **changes)


def mesh_data(seed: int = 0, points: int = 20) -> MeshData:
    g = torch.Generator().manual_seed(seed)
    return MeshData(
        points=torch.rand(points, 3, generator=g),
        features=torch.nn.functional.normalize(torch.randn(points, D, generator=g), dim=1).half(),
        weight=torch.rand(points, generator=g),
        view_rotation=torch.eye(3).repeat(5, 1, 1),
        view_pooled=torch.rand(5, D, generator=g).half(),
    )


def templates() -> Templates:
    return Templates(
        rotation=torch.eye(3).repeat(3, 1, 1),
        start=torch.tensor([0, 2, 4], dtype=torch.int32),
        pair=torch.arange(6, dtype=torch.int32),
        weight=torch.linspace(0, 1, 6),
        outline=torch.full((3, 2), 0.8),
    )


def box() -> trimesh.Trimesh:
    return trimesh.creation.box((0.3, 0.2, 0.1))


@pytest.fixture
def library(tmp_path: Path) -> Path:
    with LibraryWriter.create(tmp_path / "lib", HEADER) as writer:
        writer.add(entry("cup"), mesh_data(1), templates(), box())
        writer.add(entry("mug", offset_mean=0.1), mesh_data(2), templates(), box())
    return tmp_path / "lib"


def edit(library: Path, change: Callable[[dict[str, Any]], None]) -> None:
    raw = json.loads((library / "library.json").read_text())
    change(raw)
    (library / "library.json").write_text(json.dumps(raw))


def test_what_is_written_is_read(library: Path) -> None:
    opened = MeshLibrary.open(library)
    assert opened.header == HEADER
    assert [e.id for e in opened.entries] == ["cup", "mug"]
    written = entry("mug", offset_mean=0.1)
    read = opened.entries[1]
    for name in (
        "category",
        "unit",
        "center",
        "scale",
        "extent",
        "offset_mean",
        "offset_std",
        "source_path",
    ):
        assert getattr(read, name) == getattr(written, name)
    assert read.faces == written.faces
    assert read.symmetry.to_dict() == ROUND.to_dict()
    data = opened.data(1)
    for name, tensor in vars(mesh_data(2)).items():
        assert torch.equal(getattr(data, name), tensor), name
    for name, tensor in vars(templates()).items():
        assert torch.equal(getattr(opened.templates(1), name), tensor), name
    np.testing.assert_allclose(opened.load_mesh("cup").extents, [0.3, 0.2, 0.1], rtol=1e-6)
    assert opened.mesh_path("cup") == library / "meshes" / "cup.glb"
    assert opened.verify() == []


def test_a_library_can_be_moved(library: Path) -> None:
    library.rename(library.parent / "moved")
    opened = MeshLibrary.open(library.parent / "moved")
    assert opened.mesh_path("mug").is_file()
    assert opened.verify() == []


def test_encoder_mismatch_names_both_and_what_to_do(library: Path) -> None:
    MeshLibrary.open(library, expect_encoder=("tiny-net", "abc123"))
    for other in (("tiny-net", "zzz"), ("huge-net", "abc123")):
        with pytest.raises(LibraryError) as caught:
            MeshLibrary.open(library, expect_encoder=other)
        for part in ("tiny-net", "abc123", *other, "pasr library build"):
            assert part in str(caught.value)


def test_open_without_a_library(tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match=r"holds no mesh library .*`pasr library build"):
        MeshLibrary.open(tmp_path)
    with pytest.raises(LibraryError, match="holds no mesh library"):
        LibraryWriter.open(tmp_path / "none")


@pytest.mark.parametrize("name", ["meshes/cup.glb", "data/cup.safetensors"])
def test_truncated_and_missing_files_are_named_on_open(library: Path, name: str) -> None:
    content = (library / name).read_bytes()
    (library / name).write_bytes(content[:-10])
    with pytest.raises(LibraryError, match=rf"{name}: expected {len(content)} bytes, got {len(content) - 10}"):
        MeshLibrary.open(library)
    (library / name).unlink()
    with pytest.raises(LibraryError, match=f"{name}: the library lists this file but it is not there"):
        MeshLibrary.open(library)


@pytest.mark.parametrize("name", ["meshes/cup.glb", "data/cup.safetensors"])
def test_verify_finds_one_changed_byte(library: Path, name: str) -> None:
    content = bytearray((library / name).read_bytes())
    content[-5] ^= 1
    (library / name).write_bytes(content)
    (problem,) = MeshLibrary.open(library).verify()
    assert name in problem
    assert "changed" in problem


def test_a_foreign_tensor_file_is_named(library: Path) -> None:
    size = (library / "data/cup.safetensors").stat().st_size
    (library / "data/cup.safetensors").write_bytes(b"\xff" * size)
    opened = MeshLibrary.open(library)
    with pytest.raises(LibraryError, match=r"cup\.safetensors: is not a readable safetensors file"):
        opened.data(0)
    assert opened.data(1).points.shape == (20, 3)


def test_links_are_not_followed(library: Path, tmp_path: Path) -> None:
    (library / "meshes/cup.glb").rename(tmp_path / "cup.glb")
    os.symlink(tmp_path / "cup.glb", library / "meshes/cup.glb")
    with pytest.raises(LibraryError, match="symbolic link"):
        MeshLibrary.open(library)


def test_a_linked_folder_is_not_followed(library: Path, tmp_path: Path) -> None:
    (library / "data").rename(tmp_path / "data")
    os.symlink(tmp_path / "data", library / "data")
    with pytest.raises(LibraryError, match="symbolic link"):
        MeshLibrary.open(library)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r.update(version=2), "format version 2"),
        (lambda r: r.update(format="zip"), "is not a mesh library"),
        (lambda r: r.pop("encoder"), "encoder is missing"),
        (lambda r: r["encoder"].update(dim="8"), "encoder.dim"),
        (lambda r: r["encoder"].update(dim=-1), "encoder_dim"),
        (lambda r: r["view"].update(fill=7), "fill"),
        (lambda r: r["render"].update(radius=0), "radius"),
        (lambda r: r.update(entries={}), "entries"),
        (lambda r: r["entries"][0].update(mesh="../cup.glb"), r"entries\[0\].mesh"),
        (lambda r: r["entries"][0].update(data="/etc/passwd"), r"entries\[0\].data"),
        (lambda r: r["entries"][0].update(id=".."), "id"),
        (lambda r: r["entries"][0].update(id="a/b"), "id"),
        (lambda r: r["entries"][0].update(colour=1), "colour"),
        (lambda r: r["entries"][0].pop("scale"), "scale is missing"),
        (lambda r: r["entries"][0].update(scale=0), "scale"),
        (lambda r: r["entries"][0].update(offset_std=float("nan")), "finite"),
        (lambda r: r["entries"][0].pop("offset_mean"), "offset_mean is missing"),
        (lambda r: r["entries"][0].update(center=[0, 1]), "center"),
        (lambda r: r["entries"][0].update(faces=1.5), "faces"),
        (lambda r: r["entries"][0].update(data_sha256="x"), "data_sha256"),
        (lambda r: r["entries"][0].update(symmetry={"folds": [1]}), "symmetry"),
        (lambda r: r["entries"].append(r["entries"][0]), "differ in more than case"),
    ],
)
def test_a_bad_list_is_named(library: Path, change: Callable[[dict[str, Any]], None], said: str) -> None:
    edit(library, change)
    with pytest.raises(LibraryError, match=said) as caught:
        MeshLibrary.open(library)
    assert str(library / "library.json") in str(caught.value)
    assert "pasr library build" in str(caught.value) or "is not a mesh library" in str(caught.value)


def test_a_cut_list_is_named(library: Path) -> None:
    text = (library / "library.json").read_text()
    (library / "library.json").write_text(text[:100])
    with pytest.raises(LibraryError, match="is not readable JSON"):
        MeshLibrary.open(library)


def test_remove_and_add_again(library: Path) -> None:
    with LibraryWriter.open(library) as writer:
        writer.remove("cup")
        assert not (library / "meshes/cup.glb").exists()
        with pytest.raises(LibraryError, match="holds no mesh 'cup'"):
            writer.remove("cup")
        writer.add(entry("cup"), mesh_data(3), templates(), box())
    opened = MeshLibrary.open(library)
    assert [e.id for e in opened.entries] == ["mug", "cup"]
    assert torch.equal(opened.data(1).points, mesh_data(3).points)
    with pytest.raises(LibraryError, match="holds no mesh 'jar'"):
        opened.load_mesh("jar")


@pytest.mark.parametrize("identity", ["cup", "CUP"])
def test_an_id_cannot_be_added_twice(library: Path, identity: str) -> None:
    with LibraryWriter.open(library) as writer, pytest.raises(LibraryError, match="already"):
        writer.add(entry(identity), mesh_data(9), templates(), box())
    assert torch.equal(MeshLibrary.open(library).data(0).points, mesh_data(1).points)


def test_replacing_entries_keeps_their_files(library: Path) -> None:
    with LibraryWriter.open(library) as writer:
        writer.replace_entry(entry("cup", offset_mean=0.9, category="mug"))
        with pytest.raises(LibraryError, match="jar"):
            writer.replace_entry(entry("jar"))
    opened = MeshLibrary.open(library)
    assert (opened.entries[0].offset_mean, opened.entries[0].category) == (0.9, "mug")
    assert opened.verify() == []


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("features", torch.zeros(20, D + 1).half()),
        ("features", torch.zeros(20, D)),
        ("points", torch.full((20, 3), float("nan"))),
        ("view_pooled", torch.zeros(4, D).half()),
        ("view_rotation", torch.zeros(5, 9)),
        ("weight", torch.zeros(19)),
    ],
)
def test_tensors_that_do_not_fit_are_refused(library: Path, name: str, tensor: torch.Tensor) -> None:
    bad = dataclasses.replace(mesh_data(), **{name: tensor})
    with LibraryWriter.open(library) as writer, pytest.raises(LibraryError, match=f"jar: {name}"):
        writer.add(entry("jar"), bad, templates(), box())
    assert not (library / "data/jar.safetensors").exists()


@pytest.mark.parametrize(
    "change", [{"id": "a/b"}, {"id": ""}, {"id": ".."}, {"up": "y"}, {"scale": 0.0}, {"offset_mean": float("inf")}]
)
def test_entries_check_themselves(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        entry("cup", **change)


@pytest.mark.parametrize("failing", ["meshes", "data", "library.json"])
def test_a_full_disk_leaves_the_library_as_it_was(library: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    real = os.replace

    def full(source: Path, target: Path) -> None:
        if failing in Path(target).relative_to(library).parts:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    before = sorted(p.relative_to(library) for p in library.rglob("*"))
    with LibraryWriter.open(library) as writer:
        monkeypatch.setattr(files.os, "replace", full)
        with pytest.raises(LibraryError, match="the disk is full: free some space"):
            writer.add(entry("jar"), mesh_data(4), templates(), box())
        monkeypatch.undo()
        assert sorted(p.relative_to(library) for p in library.rglob("*")) == before
        writer.add(entry("jar"), mesh_data(4), templates(), box())
    opened = MeshLibrary.open(library)
    assert [e.id for e in opened.entries] == ["cup", "mug", "jar"]
    assert opened.verify() == []


def _add_and_die(path: Path) -> None:
    def die(_: Path) -> None:
        os._exit(9)

    with LibraryWriter.open(path) as writer:
        store.write_atomically(path / "data" / "half.safetensors", lambda p: (p.write_bytes(b"half"), die(p)))
        writer.close()


def test_a_killed_writer_leaves_a_usable_library(library: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_add_and_die, args=(library,))
    process.start()
    process.join()
    assert process.exitcode == 9
    assert [p.name for p in library.rglob("*.partial")] == ["half.safetensors.partial"]
    assert len(MeshLibrary.open(library)) == 2
    with LibraryWriter.open(library) as writer:  # the dead one's lock is gone
        writer.add(entry("jar"), mesh_data(4), templates(), box())
    assert list(library.rglob("*.partial")) == []
    assert MeshLibrary.open(library).verify() == []


def test_two_writers_are_not_let_in(library: Path) -> None:
    with LibraryWriter.open(library):
        with pytest.raises(LibraryError, match="another process is writing"):
            LibraryWriter.open(library)
        with pytest.raises(LibraryError, match="another process is writing"):
            delete_library(library)
        assert len(MeshLibrary.open(library)) == 2  # reading goes on
    LibraryWriter.open(library).close()


def test_create_refuses_an_existing_library(library: Path) -> None:
    with pytest.raises(LibraryError, match="is a library already"):
        LibraryWriter.create(library, HEADER)
    assert len(MeshLibrary.open(library)) == 2


def test_leftover_files_are_reported(library: Path) -> None:
    (library / "data/old.safetensors").write_bytes(b"")
    (problem,) = MeshLibrary.open(library).verify()
    assert "old.safetensors" in problem
    assert "can be deleted" in problem


def test_delete_takes_only_the_library(library: Path) -> None:
    (library / "notes.txt").write_text("mine")
    delete_library(library)
    assert [p.name for p in library.iterdir()] == ["notes.txt"]
    with pytest.raises(LibraryError, match="holds no mesh library"):
        delete_library(library)
    assert (library / "notes.txt").exists()
