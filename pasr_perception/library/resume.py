"""Whether a library can be gone on with: the same encoder and settings, and the same options for the meshes that are there."""

from __future__ import annotations

from collections.abc import Sequence

from pasr_perception.config import LibraryConfig
from pasr_perception.library.format import FeatureSource
from pasr_perception.library.manifest import MeshSource
from pasr_perception.library.store import LibraryError, LibraryHeader, MeshEntry, MeshLibrary


def check_settings(library: MeshLibrary, header: LibraryHeader, config: LibraryConfig) -> None:
    """Raise LibraryError unless a build with this header and configuration can go on with the library."""
    library.check_encoder(header.encoder_name, header.encoder_fingerprint)
    changed = [f"{n} {v}, not {getattr(header, n)}" for n, v in vars(library.header).items() if v != getattr(header, n)]
    if library.entries and (points := len(library.data(0).points)) != config.points:
        changed.append(f"points {points}, not {config.points}")
    if changed:
        raise LibraryError(
            f"{library.path}: was begun with {', '.join(changed)}; use the same settings to go on, or --force to begin again"
        )


def check_features(library: MeshLibrary, features: FeatureSource) -> None:
    """Raise LibraryError unless the library's point features were made in this way."""
    if library.header.features != features:
        raise LibraryError(
            f"{library.path}: has {library.header.features} point features, not {features}; use the same to go on "
            "(library.features, library.point_encoder), or build the library again"
        )


def already_there(library: MeshLibrary, sources: Sequence[MeshSource], resume: bool) -> dict[str, MeshEntry]:
    """Ids and entries of the sources that the library has.

    Raises LibraryError if there are some and `resume` is false, or if they were built with other options.
    """
    present = {e.id.lower(): e for e in library.entries}
    kept = [s for s in sources if s.id.lower() in present]
    if kept and not resume:
        ids = ", ".join(s.id for s in kept[:5]) + (" ..." if len(kept) > 5 else "")
        raise LibraryError(
            f"{library.path}: holds {ids} already; remove them first (`pasr library remove`), or leave them out with --resume"
        )
    for s in kept:
        entry = present[s.id.lower()]
        names = ("id", "category", "unit", "pose_set", "up", *(["appearance"] if s.appearance != "auto" else []))
        changed = [f"{n} {getattr(entry, n)}, not {getattr(s, n)}" for n in names if getattr(entry, n) != getattr(s, n)]
        if changed:
            raise LibraryError(
                f"{library.path}: mesh {entry.id} was built with {changed[0]}; use the same options to go on, or remove it "
                f"first: pasr library remove {library.path} {entry.id}"
            )
    return {s.id: present[s.id.lower()] for s in kept}
