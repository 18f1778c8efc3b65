"""Grown libraries: real meshes first, copies with jittered bank rows after them, no tensor written twice."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pasr_perception.bank import Bank, BankMesh, BankRows, Basis, quantised
from pasr_perception.benchmark.grow import JITTER, disk_bytes, grow, grow_bank, repose
from pasr_perception.geometry.viewpoints import base_poses
from pasr_perception.library.store import MeshLibrary
from pasr_perception.templates import score_templates


def small_bank(counts: tuple[int, ...] = (3, 5)) -> Bank:
    generator = torch.Generator().manual_seed(0)
    basis = Basis(torch.eye(4), torch.eye(16), 2)
    meshes = []
    for mesh, count in enumerate(counts):
        code, step = quantised(torch.randn(count, 16, generator=generator))
        rows = BankRows.of(code, step, torch.randn(count, generator=generator))
        meshes.append(
            BankMesh(rows, torch.arange(count).int(), torch.full((3,), float(mesh)), torch.full((3,), mesh + 1.0))
        )
    return Bank.of(basis, meshes)


def test_grown_bank_keeps_real_rows_and_moves_copies_by_the_jitter() -> None:
    bank = small_bank()
    grown = grow_bank(bank, [0, 1, 0, 1], real=2, seed=1)
    assert grown.count.tolist() == [3, 5, 3, 5]
    assert grown.attraction[:, 0].tolist() == [0, 1, 0, 1]
    assert grown.spread[:, 0].tolist() == [1, 2, 1, 2]
    assert grown.rows.code.shape == (16, 16)
    assert torch.equal(grown.rows.code[:8], bank.rows.code)
    assert torch.equal(grown.rows.step[:8], bank.rows.step)
    assert torch.equal(grown.rows.aspect, bank.rows.aspect.repeat(2))
    real, copy = (
        rows.float() * step[:, None]
        for rows, step in zip(grown.rows.code.split(8), grown.rows.step.split(8), strict=True)
    )
    cosine = torch.nn.functional.cosine_similarity(real, copy)
    assert cosine.mean() == pytest.approx((1 + JITTER**2) ** -0.5, abs=0.05)
    assert (cosine < 0.999).all()
    assert torch.allclose(copy.norm(dim=1), real.norm(dim=1), rtol=0.02)


def test_grown_bank_repeats_with_its_seed_and_copies_differ() -> None:
    bank = small_bank()
    once, again = (grow_bank(bank, [0, 0, 0], real=1, seed=3) for _ in range(2))
    assert torch.equal(once.rows.code, again.rows.code)
    assert not torch.equal(once.rows.code[3:6], once.rows.code[6:9])


def test_grow_lists_copies_and_links_their_files(library_path: Path, tmp_path: Path) -> None:
    source = MeshLibrary.open(library_path)
    grown = grow(source, tmp_path / "grown", 8)
    assert (grown.meshes, grown.real, grown.source) == (8, 3, (0, 1, 2, 0, 1, 2, 0, 1))
    opened = MeshLibrary.open(grown.path)
    assert [e.id for e in opened.entries[:5]] == ["block", "can", "truck", "block.copy00001", "can.copy00001"]
    assert opened.entries[7].id == "can.copy00002"
    for index, origin in enumerate(grown.source):
        assert torch.equal(opened.data(index).points, source.data(origin).points)
        assert opened.entries[index].offset_mean == source.entries[origin].offset_mean
    original, copy = (source.path / source.entries[0].data, opened.path / opened.entries[3].data)
    assert original.stat().st_ino == copy.stat().st_ino
    assert opened.verify() == []


def test_grow_to_fewer_takes_the_first(library_path: Path, tmp_path: Path) -> None:
    source = MeshLibrary.open(library_path)
    grown = grow(source, tmp_path / "grown", 2)
    assert [e.id for e in MeshLibrary.open(grown.path).entries] == ["block", "can"]
    assert grown.real == 2
    with pytest.raises(ValueError, match="at least 1"):
        grow(source, tmp_path / "none", 0)


def test_disk_bytes_are_those_of_the_files(library_path: Path) -> None:
    library = MeshLibrary.open(library_path)
    files = sum(f.stat().st_size for folder in ("meshes", "data") for f in (library_path / folder).iterdir())
    shared = sum(f.stat().st_size for f in library_path.glob("*.safetensors"))
    assert sum(disk_bytes(library)) == pytest.approx(files + shared, abs=len(library))


def test_repose_gives_other_poses_with_templates_that_fit(library_path: Path, tmp_path: Path) -> None:
    source = MeshLibrary.open(library_path)
    posed = repose(source, tmp_path / "upright", "upright", 2)
    assert [(e.id, e.pose_set) for e in posed.entries] == [("block", "upright"), ("can", "upright")]
    templates = posed.templates(0)
    expected = torch.as_tensor(base_poses("upright", source.entries[0].up), dtype=torch.float32)
    assert torch.equal(templates.rotation, expected)
    features = posed.data(0).features.float()
    header = posed.header
    maps = torch.nn.functional.normalize(torch.ones(1, header.encoder_dim, header.grid, header.grid), dim=1)
    scores = score_templates(maps, features, templates)
    assert scores.shape == (1, 192)
    assert scores.std() > 0
