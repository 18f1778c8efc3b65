"""From one library another of the same meshes: with learned features, or both, whose views are not rendered again; or all anew."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pasr_perception.config import LibraryConfig
from pasr_perception.encoders.base import Encoder
from pasr_perception.library.build import BuildReport, Progress, build_library
from pasr_perception.library.manifest import MeshSource
from pasr_perception.library.store import LibraryError, MeshEntry, MeshLibrary


def source_of(entry: MeshEntry) -> MeshSource:
    """What a library's mesh was built from."""
    return MeshSource(
        id=entry.id,
        category=entry.category,
        path=Path(entry.source_path),
        unit=entry.unit,
        licence=entry.licence,
        creator=entry.creator,
        appearance=entry.appearance,
        pose_set=entry.pose_set,
        up=entry.up,
        symmetry=entry.symmetry,
    )


def relearn_library(
    lifted: str | Path, out: str | Path, encoder: Encoder, config: LibraryConfig, progress: Progress | None = None
) -> BuildReport:
    """Build a library at `out` of all meshes of a lifted one, with features as configured; a killed one is gone on with.

    Reads the files that the lifted library was built from. Raises LibraryError if it is empty, is not lifted, or was built
    with another geometry or encoder.
    """
    library = MeshLibrary.open(lifted)
    if not library.entries:
        raise LibraryError(f"{lifted}: expected at least one mesh to go on from, it has none")
    config = dataclasses.replace(config, points=len(library.data(0).points), lifted_from=str(lifted))
    sources = [source_of(entry) for entry in library.entries]
    return build_library(sources, out, encoder, config, progress, resume=True)


def rebuild_library(
    old: str | Path, out: str | Path, encoder: Encoder, config: LibraryConfig, progress: Progress | None = None
) -> BuildReport:
    """Build a library at `out` of the files that an old one was built from, whatever that was built with.

    A killed one is gone on with. Raises LibraryError if the old one is empty or cannot be read.
    """
    library = MeshLibrary.open(old)
    if not library.entries:
        raise LibraryError(f"{old}: expected at least one mesh to build again, it has none")
    return build_library([source_of(entry) for entry in library.entries], out, encoder, config, progress, resume=True)
