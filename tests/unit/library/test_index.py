"""A library's index: carried over when meshes come and go, fitted anew when it is outgrown."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from pasr_perception.bank import Bank
from pasr_perception.config import BankConfig
from pasr_perception.library.index import (
    ARTEFACT,
    LAYOUT,
    bank_tensors,
    kept_index,
    read_bank,
    read_index,
    update_index,
)
from pasr_perception.library.store import LibraryWriter, MeshLibrary
from pasr_perception.templates import score_templates

CONFIG = BankConfig(blocks=4, channels=8, rank=40)  # keeps everything of 8 channels on 4 x 4 cells


@pytest.fixture
def strangers(parts) -> torch.Tensor:
    noise = torch.randn(5, 4, parts.D, parts.G, parts.G, generator=torch.Generator().manual_seed(2))
    return torch.nn.functional.normalize(noise, dim=2)


def indexed(path: Path, strangers: torch.Tensor, old: object = None) -> Bank:
    library = MeshLibrary.open(path)
    tensors = update_index(library, old, lambda: strangers, CONFIG)  # type: ignore[arg-type]
    with LibraryWriter.open(path) as writer:
        writer.put_artefact(ARTEFACT, tensors)
    return Bank.from_tensors(tensors)


def test_rows_stand_for_the_templates(library: Path, strangers: torch.Tensor) -> None:
    bank = indexed(library, strangers)
    opened = MeshLibrary.open(library)
    assert bank.count.tolist() == [3] * len(opened)
    for i in range(len(opened)):
        features, templates = opened.data(i).features.float(), opened.templates(i)
        exact = torch.stack([score_templates(strangers[:, t], features, templates) for t in range(4)], 1)
        rows = 3 * i + bank.pose[3 * i : 3 * i + 3].argsort()
        query = bank.basis.project(strangers.flatten(3).transpose(2, 3))
        approximate = query @ (bank.rows.code[rows] * bank.rows.step[rows, None]).T
        assert torch.allclose(approximate, exact, atol=0.05 * float(exact.abs().max()))
        best = exact.flatten(1).amax(1)
        assert bank.attraction[i, -1] == pytest.approx(float(best.mean()), rel=0.05)
        assert bank.spread[i, -1] == pytest.approx(float(best.std()), rel=0.15)


def test_the_index_is_read_back_by_mesh(library: Path, strangers: torch.Tensor) -> None:
    assert read_index(MeshLibrary.open(library)) is None
    bank = indexed(library, strangers)
    index = read_index(MeshLibrary.open(library))
    assert index is not None
    assert list(index.meshes) == [e.id for e in MeshLibrary.open(library).entries]
    assert torch.equal(torch.cat([m.rows.code for m in index.meshes.values()]), bank.rows.code)
    assert index.fitted_meshes == 2


def test_a_new_mesh_changes_nothing_of_the_others(parts, library: Path, strangers: torch.Tensor) -> None:
    before = indexed(library, strangers)
    old = read_index(MeshLibrary.open(library))
    with LibraryWriter.open(library) as writer:
        parts.add(writer, "third", seed=7)
    after = indexed(library, strangers, old)
    assert torch.equal(after.basis.directions, before.basis.directions)
    assert torch.equal(after.rows.code[:6], before.rows.code)
    assert after.count.tolist() == [3, 3, 3]


def test_strangers_are_only_asked_for_new_meshes(library: Path, strangers: torch.Tensor) -> None:
    before = indexed(library, strangers)
    opened = MeshLibrary.open(library)

    def nobody() -> torch.Tensor:
        raise AssertionError("no mesh is new")

    again = update_index(opened, read_index(opened), nobody, CONFIG)
    assert torch.equal(Bank.from_tensors(again).rows.code, before.rows.code)


def test_a_removed_mesh_takes_its_rows_along(library: Path, strangers: torch.Tensor) -> None:
    before = indexed(library, strangers)
    old = read_index(MeshLibrary.open(library))
    assert old is not None
    first = MeshLibrary.open(library).entries[0].id
    with LibraryWriter.open(library) as writer:
        writer.remove(first)
    left = Bank.from_tensors(kept_index(MeshLibrary.open(library), old))
    assert torch.equal(left.rows.code, before.rows.code[3:])
    assert left.attraction.tolist() == before.attraction[1:].tolist()


def test_an_outgrown_basis_is_fitted_anew(
    parts, library: Path, strangers: torch.Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    indexed(library, strangers)
    old = read_index(MeshLibrary.open(library))
    with LibraryWriter.open(library) as writer:
        for seed in range(3):
            parts.add(writer, f"more{seed}", seed=10 + seed)
    with caplog.at_level(logging.INFO):
        indexed(library, strangers, old)
    assert "outgrew its basis of 2 meshes" in caplog.text
    renewed = read_index(MeshLibrary.open(library))
    assert renewed is not None
    assert renewed.fitted_meshes == 5


def test_an_index_of_another_layout_is_made_anew(library: Path, strangers: torch.Tensor) -> None:
    bank = indexed(library, strangers)
    with LibraryWriter.open(library) as writer:
        writer.put_artefact(ARTEFACT, bank.to_tensors() | {"layout": torch.tensor(LAYOUT + 1)})
    assert read_bank(MeshLibrary.open(library)) is None
    assert read_index(MeshLibrary.open(library)) is None
    with LibraryWriter.open(library) as writer:
        writer.put_artefact(ARTEFACT, bank_tensors(bank, 2))
    again = read_bank(MeshLibrary.open(library))
    assert again is not None
    assert torch.equal(again.first.code, bank.first.code)


def test_an_index_of_the_last_layout_is_read(library: Path, strangers: torch.Tensor) -> None:
    bank = indexed(library, strangers)
    tensors = {name: t for name, t in bank_tensors(bank, 2).items() if "leading" not in name and "trailing" not in name}
    whole = {"rows.code": bank.rows.code, "first.code": bank.first.code, "layout": torch.tensor(LAYOUT - 1)}
    with LibraryWriter.open(library) as writer:
        writer.put_artefact(ARTEFACT, tensors | whole)
    again = read_bank(MeshLibrary.open(library))
    assert again is not None
    assert all(torch.equal(a, b) for a, b in zip(bank.to_tensors().values(), again.to_tensors().values(), strict=True))
