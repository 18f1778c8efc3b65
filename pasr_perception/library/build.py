"""Building a mesh library: every mesh by itself (`mesh_builder.py`), then offsets and the bank, which need all of them.

Meshes are finished one by one, so a killed build keeps what it has; a bad mesh is reported by name and skipped.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from scipy.spatial import QhullError

from pasr_perception.coarse import turn_maps
from pasr_perception.config import LibraryConfig
from pasr_perception.crop import CropSpec
from pasr_perception.encoders.base import Encoder
from pasr_perception.geometry.viewpoints import QUARTER_TURNS
from pasr_perception.library.features import point_features
from pasr_perception.library.format import FeatureSource
from pasr_perception.library.index import ARTEFACT, Index, kept_index, read_bank, read_index, update_index
from pasr_perception.library.listing import MANIFEST
from pasr_perception.library.manifest import MeshSource
from pasr_perception.library.mesh_builder import MeshBuilder
from pasr_perception.library.meshes import MeshError
from pasr_perception.library.parallel import made_in_order
from pasr_perception.library.resume import already_there, check_features, check_settings
from pasr_perception.library.store import LibraryError, LibraryHeader, LibraryWriter, MeshLibrary
from pasr_perception.library.strangers import strangers
from pasr_perception.render.splat import SplatConfig
from pasr_perception.templates import Templates, score_many

logger = logging.getLogger(__name__)

LIFTED = FeatureSource()

Progress = Callable[[str, int, int], None]  # (what is being done, meshes done, meshes in all)


@dataclass(frozen=True)
class BuildReport:
    """What became of the sources."""

    built: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]  # (mesh id, reason)
    kept: tuple[str, ...] = ()  # were there already


def library_header(encoder: Encoder, config: LibraryConfig, features: FeatureSource = LIFTED) -> LibraryHeader:
    """What a library built with this encoder and configuration fixes for its queries."""
    splat = SplatConfig(
        encoder.grid, config.splat_radius_px * 2 / encoder.grid, config.points_per_pixel, config.depth_band
    )
    return LibraryHeader(
        encoder_name=encoder.name,
        encoder_fingerprint=encoder.fingerprint,
        encoder_dim=encoder.dim,
        image_size=encoder.image_size,
        grid=encoder.grid,
        fill=config.fill,
        distance=config.distance,
        splat=splat,
        features=features,
    )


def build_library(
    sources: Sequence[MeshSource],
    out: str | Path,
    encoder: Encoder,
    config: LibraryConfig | None = None,
    progress: Progress | None = None,
    resume: bool = False,
) -> BuildReport:
    """Create a library of all sources that can be read; raises LibraryError if `out` holds one already.

    With `resume` such a library is gone on with instead, if it was begun with this encoder and configuration.
    """
    config = config or LibraryConfig()
    features = point_features(config, encoder)
    header = library_header(encoder, config, features.source)
    if resume and (Path(out) / MANIFEST).is_file():
        check_settings(MeshLibrary.open(out), header, config)
        return add_to_library(out, sources, encoder, config, progress, resume)
    with LibraryWriter.create(out, header) as writer:
        return _extend(writer, sources, MeshBuilder(encoder, header, config, features), progress)


def add_to_library(
    path: str | Path,
    sources: Sequence[MeshSource],
    encoder: Encoder,
    config: LibraryConfig | None = None,
    progress: Progress | None = None,
    resume: bool = False,
) -> BuildReport:
    """Add sources to an existing library made with this very encoder; the meshes already there are left as they are.

    Raises LibraryError if it has a mesh of the same id as one of the sources (with `resume` such a source is left out), or if
    its point features were made otherwise.
    The new meshes get as many points as the old ones have, whatever `config` says: a search takes all clouds as one tensor.
    """
    library = MeshLibrary.open(path, expect_encoder=(encoder.name, encoder.fingerprint))
    config = config or LibraryConfig()
    if library.entries:
        config = dataclasses.replace(config, points=len(library.data(0).points))
    features = point_features(config, encoder)
    check_features(library, features.source)
    kept = already_there(library, sources, resume)
    missing = [s for s in sources if s.id not in kept]
    index = read_index(library)
    with LibraryWriter.open(path) as writer:
        report = _extend(writer, missing, MeshBuilder(encoder, writer.header, config, features), progress, index)
    return dataclasses.replace(report, kept=tuple(kept))


def remove_from_library(path: str | Path, mesh_ids: Sequence[str]) -> int:
    """Take meshes out of a library, whose index goes on without them; returns how many meshes are left.

    Raises LibraryError, with nothing removed, if one of the ids is not there.
    """
    library = MeshLibrary.open(path)
    missing = sorted(set(mesh_ids) - {e.id for e in library.entries})
    if missing:
        raise LibraryError(f"{path}: holds no mesh {', '.join(missing)}; nothing was removed")
    index = read_index(library)
    with LibraryWriter.open(path) as writer:
        for mesh_id in dict.fromkeys(mesh_ids):
            writer.remove(mesh_id)
        left = MeshLibrary.open(path)
        if index is not None and left.entries:
            writer.put_artefact(ARTEFACT, kept_index(left, index))
    return len(left)


def _extend(
    writer: LibraryWriter,
    sources: Sequence[MeshSource],
    builder: MeshBuilder,
    progress: Progress | None,
    old: Index | None = None,
) -> BuildReport:
    tell = progress or (lambda what, done, total: None)
    built: list[str] = []
    skipped: list[tuple[str, str]] = []
    with made_in_order(builder.make, sources, builder.config.workers) as results:
        for i, (source, result) in enumerate(results):
            tell(source.id, i, len(sources))
            try:
                made = result.result()
                writer.add(made.entry, made.data, made.templates, made.mesh)
                built.append(source.id)
            except (MeshError, ValueError, QhullError) as error:
                logger.error("mesh %s skipped: %s", source.id, error)
                skipped.append((source.id, str(error)))
    _finish(writer, builder.encoder, builder.config, old, tell)
    return BuildReport(tuple(built), tuple(skipped))


def _finish(writer: LibraryWriter, encoder: Encoder, config: LibraryConfig, old: Index | None, tell: Progress) -> None:
    """Measure what needs all meshes to be there: offsets of those that have none, and the bank."""
    library = MeshLibrary.open(writer.path)
    if not library.entries:
        return
    shown = functools.cache(lambda: _strangers(library, encoder, config))
    missing = [(i, entry) for i, entry in enumerate(library.entries) if entry.offset_std == 0]
    for done, (i, entry) in enumerate(missing, 1):
        if done == 1:
            tell("score offsets", 0, len(missing))
        features, templates = library.data(i).features.float(), library.templates(i)
        maps = shown()
        best = best_scores(maps, features.to(maps.device), templates, QUARTER_TURNS[entry.pose_set])
        writer.replace_entries(
            [dataclasses.replace(entry, offset_mean=float(best.mean()), offset_std=float(best.std()))]
        )
        tell("score offsets", done, len(missing))
    if read_bank(library) is None:
        indexed = update_index(
            library, old, shown, config.bank, config.seed, lambda done, total: tell("index", done, total)
        )
        writer.put_artefact(ARTEFACT, indexed)


def _strangers(library: MeshLibrary, encoder: Encoder, config: LibraryConfig) -> torch.Tensor:
    """Maps [S, T, D, g, g] of crops that show none of the meshes, in all turns that any mesh is looked for in."""
    crops = strangers(config.strangers, CropSpec(encoder.image_size, library.header.fill), config.seed)
    needed = max((QUARTER_TURNS[entry.pose_set] for entry in library.entries), key=len)
    return turn_maps(encoder, crops, needed, config.batch_size)


def best_scores(maps: torch.Tensor, features: torch.Tensor, templates: Templates, turns: Sequence[int]) -> torch.Tensor:
    """Best similarity over poses [B] of one mesh for each query's maps [B, T, D, g, g]."""
    templates = templates.to(maps.device)
    wanted = maps[:, list(turns)]  # [B, t, D, g, g]
    return score_many(wanted.flatten(0, 1), features, templates).view(len(maps), -1).amax(1)
