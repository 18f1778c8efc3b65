"""Keeps a library's bank (`bank.py`): compresses what is new, keeps what is there, refits the basis when it is outgrown."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pasr_perception.bank import Bank, BankRows, Basis, CompressedCrops, bank_rows, fit_basis
from pasr_perception.config import BankConfig
from pasr_perception.geometry.viewpoints import QUARTER_TURNS
from pasr_perception.library.store import MeshLibrary
from pasr_perception.templates import Templates

logger = logging.getLogger(__name__)

ARTEFACT = "bank"
FITTED_ON = 48  # meshes that a basis is fitted on, at most
OUTGROWN = 2.0  # a basis is fitted anew once the library has this many times the meshes it had then


@dataclass(frozen=True)
class IndexedMesh:
    """One mesh's part of an index."""

    rows: BankRows
    attraction: float  # mean best approximate score of strangers
    spread: float  # its standard deviation


@dataclass(frozen=True)
class Index:
    """A bank by mesh, to carry over into a changed library."""

    basis: Basis
    fitted_meshes: int  # in the library when the basis was fitted
    meshes: Mapping[str, IndexedMesh]  # by mesh id


def read_index(library: MeshLibrary) -> Index | None:
    """The index of a library as it is, None without; its tensors are views of the file."""
    tensors = library.artefact(ARTEFACT)
    if tensors is None:
        return None
    bank = Bank.from_tensors(tensors)
    parts = zip(
        *(part.split(bank.count.tolist()) for part in (bank.code, bank.step, bank.aspect)),
        bank.attraction.tolist(),
        bank.spread.tolist(),
        strict=True,
    )
    meshes = {
        e.id: IndexedMesh(BankRows(*rows), attraction, spread)
        for e, (*rows, attraction, spread) in zip(library.entries, parts, strict=True)
    }
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
    meshes: list[IndexedMesh] = []
    for i, entry in enumerate(entries):
        if entry.id in known:
            meshes.append(known[entry.id])
        else:
            assert queries is not None
            rows = bank_rows(*_cloud(library, i), library.header.grid, basis)
            meshes.append(IndexedMesh(rows, *_attraction(queries, rows, QUARTER_TURNS[entry.pose_set])))
        progress(i + 1, len(entries))
    return _assembled(basis, fitted, meshes)


def kept_index(library: MeshLibrary, old: Index) -> dict[str, torch.Tensor]:
    """The tensors of a bank for a library whose meshes are all in an older index."""
    return _assembled(old.basis, old.fitted_meshes, [old.meshes[e.id] for e in library.entries])


def _assembled(basis: Basis, fitted_meshes: int, meshes: Sequence[IndexedMesh]) -> dict[str, torch.Tensor]:
    bank = Bank(
        basis,
        torch.cat([m.rows.code for m in meshes]),
        torch.cat([m.rows.step for m in meshes]),
        torch.cat([m.rows.aspect for m in meshes]),
        torch.tensor([len(m.rows.step) for m in meshes]),
        torch.tensor([m.attraction for m in meshes]),
        torch.tensor([m.spread for m in meshes]),
    )
    return bank.to_tensors() | {"fitted_meshes": torch.tensor(fitted_meshes)}


def _cloud(library: MeshLibrary, index: int) -> tuple[Templates, torch.Tensor]:
    return library.templates(index), library.data(index).features.float()


def _attraction(queries: CompressedCrops, rows: BankRows, turns: Sequence[int]) -> tuple[float, float]:
    """Mean and standard deviation over crops of the best approximate score over a mesh's poses."""
    best = queries.turned(turns).similarity(rows.code, rows.step).flatten(1).amax(1)
    return float(best.mean()), float(best.std())
