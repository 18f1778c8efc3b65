"""Libraries of any size out of one of real meshes: as many real ones as there are, then copies with jittered templates.

What is a copy: an entry of its own (`<id>.copy00017`), its own rows in the search bank, jittered, and its own file names, which
are hard links to the original's mesh and tensors. So listing, opening, the bank's memory and the shortlist cost what that many
meshes cost; the exact rescoring of a copy reads its original's tensors (they may be in a cache already, and score alike).
Nothing that is said of agreement or accuracy comes from a grown library.

`repose` makes the same meshes over with another pose set, to compare what pose sets cost.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pasr_perception.bank import LOOKS, Bank, BankRows, quantised
from pasr_perception.geometry.viewpoints import base_poses
from pasr_perception.library.format import Listing, MeshEntry, data_file, mesh_file
from pasr_perception.library.listing import write_listing
from pasr_perception.library.store import LibraryWriter, MeshLibrary
from pasr_perception.templates import build_templates

NOISE_ROWS = 4096
JITTER = 0.3  # of a row's length; a copy's rows have a cosine of 0.96 with the original's


@dataclass(frozen=True)
class GrownLibrary:
    """A library made by `grow`."""

    path: Path
    meshes: int
    real: int  # of them; the first ones
    source: tuple[int, ...]  # per mesh, which mesh of the source library it is or copies


def grow(source: MeshLibrary, out: Path, meshes: int) -> GrownLibrary:
    """Write a library of `meshes` meshes to the new folder `out`: the source's own, or its first ones, then copies in turn.

    Files are hard links (copies where the file system has none). Raises ValueError for fewer than one mesh, or an empty source.
    """
    if meshes < 1 or not len(source):
        raise ValueError(f"meshes: expected at least 1 and a source that has some, got {meshes} of {len(source)}")
    real = min(meshes, len(source))
    origin = [i % len(source) for i in range(meshes)]
    entries = []
    for folder in ("meshes", "data"):
        (out / folder).mkdir(parents=True)
    for i, index in enumerate(origin):
        entry = source.entries[index]
        mine = entry if i < real else _copy(entry, i // len(source))
        _link(source.path / entry.mesh, out / mine.mesh)
        _link(source.path / entry.data, out / mine.data)
        entries.append(mine)
    write_listing(out, Listing(source.header, tuple(entries)))
    return GrownLibrary(out, meshes, real, tuple(origin))


def _copy(entry: MeshEntry, number: int) -> MeshEntry:
    name = f"{entry.id[:80]}.copy{number:05d}"
    return dataclasses.replace(entry, id=name, mesh=mesh_file(name), data=data_file(name))


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def grow_bank(bank: Bank, origin: Sequence[int], real: int, seed: int) -> Bank:
    """The bank of a grown library, from its source's: `origin` [M] says which mesh each is; the first `real` keep their rows.

    A copy's rows are moved by `JITTER` times their length, each in another direction, and keep their length.
    """
    source = bank.meshes()
    generator = torch.Generator().manual_seed(seed)
    longest = int(bank.count.max())
    noise = torch.randn(longest + NOISE_ROWS, bank.basis.rank, generator=generator)
    noise = JITTER * torch.nn.functional.normalize(noise, dim=1)  # drawn once: a copy takes a stretch of it
    first = torch.randint(NOISE_ROWS, (len(origin),), generator=generator).tolist()
    pose = torch.cat([source[index].pose for index in origin])
    like = source[0].rows
    rows = BankRows(*(torch.empty(len(pose), *t.shape[1:], dtype=t.dtype) for t in vars(like).values()))
    firsts, end = [], 0
    for i, index in enumerate(origin):
        mine = source[index].rows
        if i >= real:
            mine = _jittered(mine, noise[first[i] : first[i] + len(mine.step)])
        begin, end = end, end + len(mine.step)
        for whole, part in zip(vars(rows).values(), vars(mine).values(), strict=True):
            whole[begin:end] = part
        firsts.append(rows[begin:end].first(LOOKS[0]))  # a view, which keeps no copy's rows alive
    chosen = list(origin)
    return Bank(
        bank.basis,
        rows,
        BankRows.joined(firsts),
        pose,
        bank.count[chosen],
        bank.attraction[chosen],
        bank.spread[chosen],
    )


def _jittered(rows: BankRows, noise: torch.Tensor) -> BankRows:
    """Rows moved by noise [P, r] times their length."""
    plain = rows.code.float() * rows.step[:, None]
    length = plain.norm(dim=1, keepdim=True)
    moved = torch.nn.functional.normalize(plain + length * noise, dim=1) * length
    return BankRows.of(*quantised(moved), rows.aspect)


def repose(source: MeshLibrary, out: Path, pose_set: str, meshes: int) -> MeshLibrary:
    """The first meshes of a library in a new folder, with templates of another pose set; their offsets stay as they were."""
    with LibraryWriter.create(out, source.header) as writer:
        for i, entry in enumerate(source.entries[:meshes]):
            data = source.data(i)
            rotation = torch.as_tensor(base_poses(pose_set, entry.up), dtype=torch.float32)
            templates = build_templates(
                data.points, data.features.float(), rotation, source.header.view, source.header.splat
            )
            mesh = source.load_mesh(entry.id)
            writer.add(dataclasses.replace(entry, pose_set=pose_set), data, templates, mesh)
    return MeshLibrary.open(out)


def disk_bytes(library: MeshLibrary) -> Sequence[int]:
    """Per mesh, what its own files take on disk, and its share of what all meshes have together."""
    shared = sum(artefact.bytes for artefact in library.listing.artefacts.values()) // max(len(library), 1)
    return [e.mesh_bytes + e.data_bytes + shared for e in library.entries]
