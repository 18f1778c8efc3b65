"""The search under test and its bank: the one place where the benchmark touches how the pipeline searches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from pasr_perception.bank import Bank, CompressedCrops
from pasr_perception.benchmark.queries import EncodedQueries
from pasr_perception.coarse import turn_maps
from pasr_perception.config import BankConfig
from pasr_perception.crop import CropSpec
from pasr_perception.encoders.base import Encoder
from pasr_perception.library.index import ARTEFACT, bank_tensors, read_bank, update_index
from pasr_perception.library.store import LibraryWriter, MeshLibrary
from pasr_perception.library.strangers import strangers
from pasr_perception.pipeline import Pipeline
from pasr_perception.types import Candidates

STRANGERS = 8  # crops that a bank made here has its attraction measured on
TURNS = (0, 1, 2, 3)


def search(pipeline: Pipeline, queries: EncodedQueries) -> list[Candidates]:
    """The pipeline's candidates of every query, best first, exactly as `Pipeline.detect` finds them."""
    return pipeline.search(queries.maps, queries.box_size)


def bank_of(library: MeshLibrary, encoder: Encoder, config: BankConfig) -> Bank:
    """A library's own bank; one made for it where it has none. The library is left as it is."""
    bank = read_bank(library)
    if bank is None:
        spec = CropSpec(encoder.image_size, library.header.fill)
        maps = partial(turn_maps, encoder, strangers(STRANGERS, spec, 0), TURNS, STRANGERS)
        bank = Bank.from_tensors(update_index(library, None, maps, config))
    return bank


def put_bank(library_dir: Path, bank: Bank) -> None:
    """Give a library a bank of its meshes."""
    with LibraryWriter.open(library_dir) as writer:
        writer.put_artefact(ARTEFACT, bank_tensors(bank, len(bank.count)))


def approximate_scores(bank: Bank, turns: Sequence[Sequence[int]], queries: EncodedQueries) -> torch.Tensor:
    """What the bank makes of every (mesh, pose) [B, sum over meshes of T * P], in the order of exhaustive search.

    `turns` are each mesh's quarter turns of the crop.
    """
    query = CompressedCrops.of(queries.maps, bank.basis)
    parts = []
    for mesh, t in zip(bank.meshes(), turns, strict=True):
        parts.append(query.turned(t).similarity(mesh.rows, mesh.pose.argsort(), bank.basis.rank).flatten(1))
    return torch.cat(parts, 1)


def bank_bytes(bank: Bank) -> list[int]:
    """Per mesh, the bytes of its rows in the bank; the basis and the first level are shared out evenly."""
    per_row = sum(t.nbytes for t in (*vars(bank.rows).values(), bank.pose)) // len(bank.pose)
    first = sum(t.nbytes for t in vars(bank.first).values())
    shared = bank.basis.channels.nbytes + bank.basis.directions.nbytes + first
    return [int(count) * per_row + shared // len(bank.count) for count in bank.count]
