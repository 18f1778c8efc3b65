"""Reading a library: what was written comes back, what is damaged is named, tensors are views of mapped files."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pasr_perception.library.files import sha256_of
from pasr_perception.library.store import LibraryError, LibraryWriter, MeshLibrary


def test_what_is_written_is_read(parts: Any, library: Path) -> None:
    opened = MeshLibrary.open(library)
    assert opened.header == parts.header
    assert [e.id for e in opened.entries] == ["cup", "mug"]
    written = parts.entry("mug", offset_mean=0.1)
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
    assert read.symmetry.to_dict() == parts.round.to_dict()
    data = opened.data(1)
    for name, tensor in parts.mesh_data(2).tensors().items():
        assert torch.equal(getattr(data, name), tensor), name
    for name, tensor in vars(parts.templates()).items():
        assert torch.equal(getattr(opened.templates(1), name), tensor), name
    np.testing.assert_allclose(opened.load_mesh("cup").extents, [0.3, 0.2, 0.1], rtol=1e-6)
    assert opened.mesh_path("cup") == library / "meshes" / "cup.glb"
    assert opened.verify() == []


def test_colours_are_kept_where_there_are_any(parts: Any, library: Path) -> None:
    colours = torch.arange(60, dtype=torch.uint8).view(20, 3)
    with LibraryWriter.open(library) as writer:
        coloured = dataclasses.replace(parts.mesh_data(3), colours=colours)
        writer.add(parts.entry("jug"), coloured, parts.templates(), parts.box())
        short = dataclasses.replace(coloured, colours=colours[1:])
        with pytest.raises(LibraryError, match=r"jar: colours: expected \[20, 3\] torch.uint8, got \[19, 3\]"):
            writer.add(parts.entry("jar"), short, parts.templates(), parts.box())
    opened = MeshLibrary.open(library)
    assert torch.equal(opened.data(2).colours, colours)
    assert opened.data(1).colours is None
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


def test_leftover_files_are_reported(library: Path) -> None:
    (library / "data/old.safetensors").write_bytes(b"")
    (problem,) = MeshLibrary.open(library).verify()
    assert "old.safetensors" in problem
    assert "can be deleted" in problem


def mapping_of(tensor: torch.Tensor) -> str:
    """The line of the process's memory map that a tensor's values lie in."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(x, 16) for x in line.split()[0].split("-"))
        if begin <= tensor.data_ptr() < end:
            return line
    raise AssertionError("no mapping holds the tensor")


def test_tensors_are_views_of_the_mapped_file(library: Path) -> None:
    opened = MeshLibrary.open(library)
    tensors = [*opened.data(1).tensors().values(), *vars(opened.templates(1)).values()]
    for tensor in tensors:
        assert mapping_of(tensor).endswith(str(library / "data/mug.safetensors"))


def test_changing_a_view_leaves_the_file_alone(parts: Any, library: Path) -> None:
    opened = MeshLibrary.open(library)
    opened.data(0).points.zero_()
    assert torch.equal(opened.data(0).points, parts.mesh_data(1).points)
    assert opened.verify() == []


def test_meshes_in_use_hold_no_file_open(library: Path) -> None:
    opened = MeshLibrary.open(library)
    before = len(os.listdir("/proc/self/fd"))
    held = [(opened.data(i % 2), opened.templates(i % 2)) for i in range(50)]
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(held) == 50


def test_verify_reads_values(library: Path) -> None:
    """NaN under a right checksum: opening and mapping read no values, `verify` does."""
    file = library / "data/cup.safetensors"
    content = bytearray(file.read_bytes())
    points = MeshLibrary.open(library).data(0).points.numpy().tobytes()
    at = content.index(points)
    content[at : at + 4] = np.array([np.nan], np.float32).tobytes()
    old, text = sha256_of(file), (library / "library.json").read_text()
    file.write_bytes(content)
    (library / "library.json").write_text(text.replace(old, sha256_of(file)))
    opened = MeshLibrary.open(library)
    assert opened.data(0).points.isnan().any()
    (problem,) = opened.verify()
    assert "cup.safetensors: points: expected finite numbers" in problem
