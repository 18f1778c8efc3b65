"""Budget: what a bank takes is what the formula says, and too little room is refused before anything is loaded."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from pasr_perception import budget
from pasr_perception.bank import LOOKS, Bank, BankMesh, BankRows, Basis
from pasr_perception.budget import GIB, Needs, check_fits, free_bytes, needs
from pasr_perception.config import PasrConfig
from pasr_perception.library.store import LibraryError, MeshLibrary
from pasr_perception.pipeline import Pipeline

CPU = torch.device("cpu")
MESHES, POSES, RANK, DIM, CHANNELS, BLOCKS = 3, 60, 160, 20, 8, 5


@pytest.fixture
def bank() -> Bank:
    rows = BankRows.of(torch.zeros(POSES, RANK, dtype=torch.int8), torch.zeros(POSES), torch.zeros(POSES))
    level = torch.zeros(len(LOOKS) + 1)
    mesh = BankMesh(rows, torch.arange(POSES).int(), level, level)
    return Bank.of(Basis(torch.zeros(DIM, CHANNELS), torch.zeros(BLOCKS**2 * CHANNELS, RANK), BLOCKS), [mesh] * MESHES)


def test_a_bank_takes_what_the_formula_says(bank: Bank) -> None:
    first = MESHES * LOOKS[0].templates * (LOOKS[0].numbers + 8)
    basis = (DIM * CHANNELS + BLOCKS**2 * CHANNELS * RANK) * 4
    formula = MESHES * POSES * (RANK + 12) + first + basis
    small = MESHES * (8 + 2 * 4 * (len(LOOKS) + 1)) + 8  # counts, attraction and spread; the number of blocks
    assert bank.bytes == formula + small


def test_a_mapped_bank_costs_nothing_of_its_own(bank: Bank) -> None:
    here, there = (needs(bank, 1000, 4, 10**9, torch.device(name)) for name in ("cpu", "cuda"))
    assert (here.bank, there.bank) == (0, bank.bytes)
    assert here.resident == there.resident == 2000
    assert here.scoring == MESHES * POSES * 4 * 8 * 8
    assert needs(bank, 1000, 4, 300, CPU).resident == 300


def test_too_little_room_is_refused_with_what_to_do() -> None:
    wanted = Needs(3 * GIB, 2 * GIB, GIB)
    check_fits(wanted, 6 * GIB, CPU)
    check_fits(wanted, None, CPU)
    with pytest.raises(
        LibraryError, match=r"takes up to 6\.00 GiB on cpu \(bank 3\.00 GiB.*5\.00 GiB is free: lower coarse"
    ):
        check_fits(wanted, 5 * GIB, CPU)


def test_free_memory_is_read_from_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "meminfo"
    table.write_text("MemTotal:  100 kB\nMemAvailable:   7 kB\n")
    monkeypatch.setattr(budget, "MEMINFO", table)
    assert free_bytes(CPU) == 7 * 1024
    monkeypatch.setattr(budget, "MEMINFO", tmp_path / "missing")
    assert free_bytes(CPU) is None
    assert free_bytes(torch.device("meta")) is None


def test_a_pipeline_refuses_before_it_loads(bench, library_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = MeshLibrary.open(library_path)
    Pipeline(library, bench.encoder, dataclasses.replace(PasrConfig(), library=bench.config), CPU)
    monkeypatch.setattr("pasr_perception.pipeline.free_bytes", lambda device: 1000)
    with pytest.raises(LibraryError, match=r"is free: lower coarse\.resident_mb"):
        Pipeline(library, bench.encoder, dataclasses.replace(PasrConfig(), library=bench.config), CPU)
