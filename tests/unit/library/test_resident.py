"""Resident meshes: loaded once, within a bound, the longest unused let go."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from pasr_perception.library.resident import ResidentLibrary
from pasr_perception.library.store import LibraryError, LibraryWriter, MeshLibrary
from pasr_perception.types import Rivals

CPU = torch.device("cpu")
NOBODY = Rivals(torch.zeros(3), torch.ones(3))


@pytest.fixture
def three(parts, library: Path) -> MeshLibrary:
    with LibraryWriter.open(library) as writer:
        parts.add(writer, "third", seed=7, pose_set="upright")
    return MeshLibrary.open(library)


def test_a_mesh_is_what_the_library_has(three: MeshLibrary) -> None:
    resident = ResidentLibrary(three, NOBODY, CPU, 10**9)
    for i in range(3):
        assert torch.equal(resident.sparse(i).features, three.data(i).features.float())
        assert torch.equal(resident.mesh(i).points, three.data(i).points)
        assert torch.equal(resident.sparse(i).templates.weight, three.templates(i).weight)
    assert resident.turns == ((0, 1, 2, 3), (0, 1, 2, 3), (0,))


def test_colours_are_there_where_they_were_kept_and_missed_once(
    parts, three: MeshLibrary, caplog: pytest.LogCaptureFixture
) -> None:
    with LibraryWriter.open(three.path) as writer:
        red = torch.tensor([[255, 0, 0]], dtype=torch.uint8).expand(20, 3).contiguous()
        writer.add(
            parts.entry("red"), dataclasses.replace(parts.mesh_data(9), colours=red), parts.templates(), parts.box()
        )
        parts.add(writer, "bare", seed=8, appearance="unknown")
    resident = ResidentLibrary(MeshLibrary.open(three.path), Rivals(torch.zeros(5), torch.ones(5)), CPU, 10**9)
    assert resident.clouds([4]).chroma is None
    assert not caplog.messages  # nobody expects colours of a mesh whose colours are unknown
    chroma = resident.clouds([3, 4]).chroma
    assert (chroma[0] > 60).all()  # a* and b* of red
    assert not chroma[1].any()
    resident.clouds([0, 1])
    assert len(caplog.messages) == 1
    assert "keeps no colours of mesh cup" in caplog.text


def test_it_is_loaded_once(three: MeshLibrary) -> None:
    resident = ResidentLibrary(three, NOBODY, CPU, 10**9)
    assert resident.mesh(1) is resident.mesh(1)
    assert resident.bytes == resident.mesh(1).bytes


def test_the_longest_unused_goes_first(three: MeshLibrary) -> None:
    size = ResidentLibrary(three, NOBODY, CPU, 10**9).mesh(0).bytes
    resident = ResidentLibrary(three, NOBODY, CPU, 2 * size)
    first, second = resident.mesh(0), resident.mesh(1)
    assert resident.mesh(0) is first
    resident.mesh(2)  # sends away the second
    assert resident.mesh(0) is first
    assert resident.mesh(1) is not second
    assert resident.bytes == 2 * size


def test_one_mesh_is_held_whatever_it_takes(three: MeshLibrary) -> None:
    resident = ResidentLibrary(three, NOBODY, CPU, 1)
    assert resident.mesh(0) is resident.mesh(0)
    assert resident.mesh(1) is resident.mesh(1)


def test_clouds_come_in_the_order_asked_for(three: MeshLibrary) -> None:
    clouds = ResidentLibrary(three, NOBODY, CPU, 10**9).clouds([2, 0])
    assert torch.equal(clouds.points[0], three.data(2).points)
    assert torch.equal(clouds.features[1], three.data(0).features.float())


def test_a_mesh_cut_short_is_noticed_when_it_is_next_used_and_the_others_go_on(three: MeshLibrary) -> None:
    resident = ResidentLibrary(three, NOBODY, CPU, 10**9)
    resident.mesh(0), resident.mesh(1)
    file = three.path / three.entries[1].data
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    resident.check()
    resident.mesh(0)
    with pytest.raises(LibraryError, match="cut short"):
        resident.mesh(1)
    file.write_bytes(whole)
    resident.mesh(1)
