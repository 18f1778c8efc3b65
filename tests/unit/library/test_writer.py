"""Changing a library: adding, removing, artefacts, full disks, kills, and one writer at a time."""

from __future__ import annotations

import dataclasses
import errno
import logging
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from pasr_perception.library import files
from pasr_perception.library.store import LibraryError, LibraryWriter, MeshLibrary, delete_library


def test_remove_and_add_again(parts: Any, library: Path) -> None:
    with LibraryWriter.open(library) as writer:
        writer.remove("cup")
        assert not (library / "meshes/cup.glb").exists()
        with pytest.raises(LibraryError, match="holds no mesh 'cup'"):
            writer.remove("cup")
        parts.add(writer, "cup", 3)
    opened = MeshLibrary.open(library)
    assert [e.id for e in opened.entries] == ["mug", "cup"]
    assert torch.equal(opened.data(1).points, parts.mesh_data(3).points)
    with pytest.raises(LibraryError, match="holds no mesh 'jar'"):
        opened.load_mesh("jar")


@pytest.mark.parametrize("identity", ["cup", "CUP"])
def test_an_id_cannot_be_added_twice(parts: Any, library: Path, identity: str) -> None:
    with LibraryWriter.open(library) as writer, pytest.raises(LibraryError, match="already"):
        parts.add(writer, identity, 9)
    assert torch.equal(MeshLibrary.open(library).data(0).points, parts.mesh_data(1).points)


def test_replacing_entries_keeps_their_files(parts: Any, library: Path) -> None:
    with LibraryWriter.open(library) as writer:
        writer.replace_entries([parts.entry("cup", offset_mean=0.9, category="mug")])
        with pytest.raises(LibraryError, match="jar"):
            writer.replace_entries([parts.entry("jar")])
    opened = MeshLibrary.open(library)
    assert (opened.entries[0].offset_mean, opened.entries[0].category) == (0.9, "mug")
    assert opened.verify() == []


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("features", torch.zeros(20, 9).half()),
        ("features", torch.zeros(20, 8)),
        ("points", torch.full((20, 3), float("nan"))),
        ("view_pooled", torch.zeros(4, 8).half()),
        ("view_rotation", torch.zeros(5, 9)),
        ("weight", torch.zeros(19)),
    ],
)
def test_tensors_that_do_not_fit_are_refused(parts: Any, library: Path, name: str, tensor: torch.Tensor) -> None:
    bad = dataclasses.replace(parts.mesh_data(), **{name: tensor})
    with LibraryWriter.open(library) as writer, pytest.raises(LibraryError, match=f"jar: {name}"):
        writer.add(parts.entry("jar"), bad, parts.templates(), parts.box())
    assert not (library / "data/jar.safetensors").exists()


@pytest.mark.parametrize(
    "change", [{"id": "a/b"}, {"id": ""}, {"id": ".."}, {"up": "y"}, {"scale": 0.0}, {"offset_mean": float("inf")}]
)
def test_entries_check_themselves(parts: Any, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        parts.entry("cup", **change)


@pytest.mark.parametrize("failing", ["meshes", "data", "library.jsonl"])
@pytest.mark.parametrize("others", [0, 1])
def test_a_full_disk_leaves_the_library_as_it_was(
    parts: Any, library: Path, monkeypatch: pytest.MonkeyPatch, failing: str, others: int
) -> None:
    real = os.fsync

    def full(handle: int) -> None:
        if failing in Path(os.readlink(f"/proc/self/fd/{handle}")).relative_to(library).parts:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    with LibraryWriter.open(library) as writer:
        for i in range(others):
            parts.add(writer, f"other{i}")
        before = {p.relative_to(library): p.stat().st_size for p in library.rglob("*")}
        monkeypatch.setattr(files.os, "fsync", full)
        with pytest.raises(LibraryError, match="the disk is full: free some space"):
            parts.add(writer, "jar")
        monkeypatch.undo()
        assert {p.relative_to(library): p.stat().st_size for p in library.rglob("*")} == before
        assert len(MeshLibrary.open(library)) == 2 + others
        parts.add(writer, "jar")
    opened = MeshLibrary.open(library)
    assert [e.id for e in opened.entries] == ["cup", "mug", *(["other0"] * others), "jar"]
    assert opened.verify() == []


def test_no_space_to_fold_the_journal_loses_nothing(parts: Any, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = LibraryWriter.open(library)
    parts.add(writer, "jar")
    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(LibraryError, match="the disk is full"):
        writer.close()
    monkeypatch.undo()
    assert len(MeshLibrary.open(library)) == 3
    with LibraryWriter.open(library) as writer:  # the lock was let go
        assert len(writer.entries) == 3


def _add_and_die(path: Path) -> None:
    def die(_: Path) -> None:
        os._exit(9)

    with LibraryWriter.open(path) as writer:
        files.write_atomically(path / "data" / "half.safetensors", lambda p: (p.write_bytes(b"half"), die(p)))
        writer.close()


def test_a_killed_writer_leaves_a_usable_library(parts: Any, library: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_add_and_die, args=(library,))
    process.start()
    process.join()
    assert process.exitcode == 9
    assert [p.name for p in library.rglob("*.partial")] == ["half.safetensors.partial"]
    assert len(MeshLibrary.open(library)) == 2
    with LibraryWriter.open(library) as writer:  # the dead one's lock is gone
        parts.add(writer, "jar", 4)
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


def test_create_refuses_an_existing_library(parts: Any, library: Path) -> None:
    with pytest.raises(LibraryError, match="is a library already"):
        LibraryWriter.create(library, parts.header)
    assert len(MeshLibrary.open(library)) == 2


def test_delete_takes_only_the_library(library: Path) -> None:
    (library / "notes.txt").write_text("mine")
    delete_library(library)
    assert [p.name for p in library.iterdir()] == ["notes.txt"]
    with pytest.raises(LibraryError, match="holds no mesh library"):
        delete_library(library)
    assert (library / "notes.txt").exists()


BANK = {"centres": torch.arange(6.0).reshape(2, 3), "codes": torch.tensor([3, 1], dtype=torch.int32)}


@pytest.fixture
def with_bank(library: Path) -> Path:
    with LibraryWriter.open(library) as writer:
        writer.put_artefact("bank", BANK)
    return library


def test_an_artefact_comes_back(with_bank: Path) -> None:
    opened = MeshLibrary.open(with_bank)
    assert opened.has_artefact("bank")
    bank = opened.artefact("bank")
    assert bank is not None
    assert bank.keys() == BANK.keys()
    assert all(torch.equal(bank[name], tensor) for name, tensor in BANK.items())
    assert (with_bank / "bank.safetensors").is_file()
    assert not opened.has_artefact("tree")
    assert opened.artefact("tree") is None
    assert opened.verify() == []


def test_an_artefact_can_be_put_while_meshes_are_added(parts: Any, library: Path) -> None:
    with LibraryWriter.open(library) as writer:
        parts.add(writer, "jar")
        writer.put_artefact("bank", BANK)
        writer.put_artefact("tree", {"root": torch.zeros(1)})
        writer.put_artefact("bank", {"centres": torch.ones(1)})
    opened = MeshLibrary.open(library)
    assert torch.equal(opened.artefact("bank")["centres"], torch.ones(1))
    assert opened.has_artefact("tree")


def test_an_artefact_goes_with_the_meshes_it_was_made_from(parts: Any, with_bank: Path) -> None:
    with LibraryWriter.open(with_bank) as writer:
        parts.add(writer, "jar")
        assert not MeshLibrary.open(with_bank).has_artefact("bank")  # in the middle of an `add` too
    assert not MeshLibrary.open(with_bank).has_artefact("bank")
    assert not (with_bank / "bank.safetensors").exists()
    with LibraryWriter.open(with_bank) as writer:
        writer.put_artefact("bank", BANK)
        writer.remove("jar")
    assert not MeshLibrary.open(with_bank).has_artefact("bank")
    assert MeshLibrary.open(with_bank).verify() == []


def test_replaced_entries_keep_artefacts(parts: Any, with_bank: Path) -> None:
    with LibraryWriter.open(with_bank) as writer:
        writer.replace_entries([parts.entry("mug", offset_mean=0.3)])
    assert MeshLibrary.open(with_bank).has_artefact("bank")


def test_an_artefact_replaced_under_an_open_library_is_not_taken_for_its_own(parts: Any, with_bank: Path) -> None:
    opened = MeshLibrary.open(with_bank)
    with LibraryWriter.open(with_bank) as writer:
        parts.add(writer, "jar")
        writer.put_artefact("bank", BANK)
    with pytest.raises(LibraryError, match="was made from other meshes since the library was opened"):
        opened.artefact("bank")


@pytest.mark.parametrize("damage", ["cut", "gone", "link"])
def test_a_damaged_artefact_is_done_without(
    with_bank: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    file = with_bank / "bank.safetensors"
    content = file.read_bytes()
    file.unlink()
    if damage == "cut":
        file.write_bytes(content[:-1])
    elif damage == "link":
        (tmp_path / "elsewhere").write_bytes(content)
        file.symlink_to(tmp_path / "elsewhere")
    with caplog.at_level(logging.WARNING):
        opened = MeshLibrary.open(with_bank)
    assert not opened.has_artefact("bank")
    assert opened.artefact("bank") is None
    assert "going on without it" in caplog.text
    (problem,) = opened.verify()
    assert str(file) in problem


def test_a_changed_artefact_is_found_by_verify(with_bank: Path) -> None:
    file = with_bank / "bank.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    (problem,) = MeshLibrary.open(with_bank).verify()
    assert "bank.safetensors: its content has changed" in problem


@pytest.mark.parametrize("name", ["", "../bank", "Bank", "a/b", ".hidden", "bank.safetensors"])
def test_artefact_names_are_words(library: Path, name: str) -> None:
    with LibraryWriter.open(library) as writer, pytest.raises(ValueError, match="name: expected"):
        writer.put_artefact(name, BANK)


def test_delete_takes_artefacts_and_leaves_others(with_bank: Path) -> None:
    (with_bank / "mine.safetensors").write_bytes(b"")
    delete_library(with_bank)
    assert [p.name for p in with_bank.iterdir()] == ["mine.safetensors"]
