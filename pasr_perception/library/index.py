"""Keeps a library's bank (`bank.py`): compresses what is new, keeps what is there, refits the basis when it is outgrown."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pasr_perception.bank import (
    LOOKS,
    Bank,
    BankMesh,
    BankRows,
    Basis,
    CompressedCrops,
    Look,
    bank_rows,
    cover_order,
    fit_basis,
)
from pasr_perception.config import BankConfig
from pasr_perception.geometry.viewpoints import QUARTER_TURNS
from pasr_perception.library.store import MeshLibrary
from pasr_perception.templates import Templates

logger = logging.getLogger(__name__)

ARTEFACT = "bank"
LAYOUT = 3  # of its tensors; a bank of another layout is made anew, but for one of the last, which is read into memory
FITTED_ON = 48  # meshes that a basis is fitted on, at most
OUTGROWN = 2.0  # a basis is fitted anew once the library has this many times the meshes it had then

Cloud = tuple[Templates, torch.Tensor]  # a mesh's templates and its features [N, D]


@dataclass(frozen=True)
class Index:
    """A bank by mesh, to carry over into a changed library."""

    basis: Basis
    fitted_meshes: int  # in the library when the basis was fitted
    meshes: Mapping[str, BankMesh]  # by mesh id


def read_bank(library: MeshLibrary) -> Bank | None:
    """The bank of a library as it is; None where it has none, or one that this version does not read."""
    tensors = _readable(library)
    return None if tensors is None else Bank.from_tensors(tensors)


def _readable(library: MeshLibrary) -> dict[str, torch.Tensor] | None:
    tensors = library.artefact(ARTEFACT)
    layout = 0 if tensors is None else int(tensors.get("layout", torch.tensor(1)))
    if tensors is None or layout not in (LAYOUT - 1, LAYOUT):
        return None
    return tensors if layout == LAYOUT else _of_the_last_layout(tensors)


def _of_the_last_layout(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a bank whose rows' numbers lie in one piece."""
    logger.info(
        "the bank is one of an older version: it is read into memory rather than mapped until the library changes"
    )
    split: dict[str, torch.Tensor] = {}
    for part in ("rows", "first"):
        rows = BankRows.of(*(tensors[f"{part}.{name}"] for name in ("code", "step", "aspect")))
        split |= {f"{part}.{name}": value for name, value in vars(rows).items()}
    return {name: value for name, value in tensors.items() if not name.endswith(".code")} | split


def bank_tensors(bank: Bank, fitted_meshes: int) -> dict[str, torch.Tensor]:
    """What `read_bank` and `read_index` read; the basis was fitted on a library of so many meshes."""
    return bank.to_tensors() | {"fitted_meshes": torch.tensor(fitted_meshes), "layout": torch.tensor(LAYOUT)}


def read_index(library: MeshLibrary) -> Index | None:
    """The index of a library as it is, None without; its tensors are views of the file."""
    tensors = _readable(library)
    if tensors is None:
        return None
    bank = Bank.from_tensors(tensors)
    meshes = {e.id: mesh for e, mesh in zip(library.entries, bank.meshes(), strict=True)}
    return Index(bank.basis, int(tensors["fitted_meshes"]), meshes)


def update_index(
    library: MeshLibrary,
    old: Index | None,
    strangers: Callable[[], torch.Tensor],
    config: BankConfig,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, torch.Tensor]:
    """The tensors of a bank for a library, using what an index of some of its meshes still says.

    `strangers` gives maps [S, T, D, g, g] of crops that show none of the meshes; it is asked only if a mesh is new.
    """
    entries = library.entries
    if old is not None and len(entries) > OUTGROWN * old.fitted_meshes:
        logger.info("%s: outgrew its basis of %d meshes; fitted anew", library.path, old.fitted_meshes)
        old = None
    if old is None:
        chosen = np.random.default_rng(seed).permutation(len(entries))[:FITTED_ON]
        basis = fit_basis([_cloud(library, int(i)) for i in chosen], library.header.grid, config, seed)
        fitted = len(entries)
    else:
        basis, fitted = old.basis, old.fitted_meshes
    known = {} if old is None else old.meshes
    fresh = any(e.id not in known for e in entries)
    queries = CompressedCrops.of(strangers().cpu(), basis) if fresh else None
    meshes: list[BankMesh] = []
    for i, entry in enumerate(entries):
        if entry.id in known:
            meshes.append(known[entry.id])
        else:
            assert queries is not None
            turns = QUARTER_TURNS[entry.pose_set]
            meshes.append(_compressed(_cloud(library, i), queries, turns, basis, library.header.grid))
        progress(i + 1, len(entries))
    return bank_tensors(Bank.of(basis, meshes), fitted)


def kept_index(library: MeshLibrary, old: Index) -> dict[str, torch.Tensor]:
    """The tensors of a bank for a library whose meshes are all in an older index."""
    return bank_tensors(Bank.of(old.basis, [old.meshes[e.id] for e in library.entries]), old.fitted_meshes)


def _cloud(library: MeshLibrary, index: int) -> Cloud:
    return library.templates(index), library.data(index).features.float()


def _compressed(cloud: Cloud, queries: CompressedCrops, turns: Sequence[int], basis: Basis, grid: int) -> BankMesh:
    """One mesh's part of a bank; `queries` are strangers to it."""
    templates, features = cloud
    pose = cover_order(templates.rotation, turns)
    rows = bank_rows(templates, features, grid, basis)[pose.long()]
    mine = queries.turned(turns)
    best = []  # L times [S]
    for look in (*LOOKS, Look(len(pose), basis.rank)):
        seen = torch.arange(min(look.templates, len(pose)))
        best.append(mine.similarity(rows, seen, look.numbers).flatten(1).amax(1))
    value = torch.stack(best)
    return BankMesh(rows, pose, value.mean(1), value.std(1))
