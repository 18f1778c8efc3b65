"""Building a mesh library: load, sample, look, encode, lift (or learn), precompute templates, measure offsets.

Meshes are finished one by one, so a killed build keeps what it has; a bad mesh is reported by name and skipped.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import trimesh
from scipy.spatial import QhullError

from pasr_perception.coarse import turn_maps
from pasr_perception.config import LibraryConfig
from pasr_perception.crop import CropSpec
from pasr_perception.encoders.base import Encoder, image_batch
from pasr_perception.encoders.centring import centred_views, evened_cloud
from pasr_perception.encoders.points.cloud import PointCloud
from pasr_perception.geometry.placement import ViewSpec
from pasr_perception.geometry.symmetry import find_symmetries
from pasr_perception.geometry.viewpoints import QUARTER_TURNS, base_poses, view_poses
from pasr_perception.library.features import PointFeatures, point_features
from pasr_perception.library.format import FeatureSource
from pasr_perception.library.index import ARTEFACT, Index, kept_index, read_bank, read_index, update_index
from pasr_perception.library.lifted import lift_features
from pasr_perception.library.listing import MANIFEST
from pasr_perception.library.manifest import MeshSource
from pasr_perception.library.meshes import MeshError, has_colour, load_mesh
from pasr_perception.library.parallel import made_in_order
from pasr_perception.library.resume import already_there, check_features, check_settings
from pasr_perception.library.sample import normalisation, normalised, sample_colours, sample_surface
from pasr_perception.library.seen import SeenMesh, SeenMeshes
from pasr_perception.library.store import LibraryError, LibraryHeader, LibraryWriter, MeshData, MeshEntry, MeshLibrary
from pasr_perception.library.strangers import strangers
from pasr_perception.library.views import (
    RandomTexture,
    RenderedView,
    ViewRenderer,
    random_background,
    shown_pixels,
    view_box,
)
from pasr_perception.render.splat import SplatConfig
from pasr_perception.templates import Templates, build_templates, score_many

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


@dataclass(frozen=True)
class BuiltMesh:
    """Everything that the store wants to have of one mesh."""

    entry: MeshEntry
    data: MeshData
    templates: Templates
    mesh: trimesh.Trimesh  # metres


class MeshBuilder:
    """Turns one mesh source into a library entry with its tensors."""

    def __init__(self, encoder: Encoder, header: LibraryHeader, config: LibraryConfig, features: PointFeatures) -> None:
        self.encoder, self.config = encoder, config
        self._header, self._features = header, features
        self._seen = SeenMeshes(config.lifted_from, header, encoder) if config.lifted_from else None

    def make(self, source: MeshSource) -> BuiltMesh:
        """Build one mesh. Raises MeshError if the file is of no use."""
        began = time.perf_counter()
        config, view = self.config, self._header.view
        mesh = load_mesh(source.path, source.unit)
        appearance = source.appearance
        if appearance == "auto":
            appearance = "known" if has_colour(mesh) else "unknown"
        unit_mesh = normalised(mesh)
        # seeded by the id, so that a mesh is the same whatever is built with it
        rng = np.random.default_rng([config.seed, zlib.crc32(source.id.encode())])
        samples = sample_surface(unit_mesh, config.points, int(rng.integers(2**31)))
        count = config.upright_views if source.pose_set == "upright" else config.views
        looks = view_poses(source.pose_set, source.up, count, rng)
        seen = None if self._seen is None else self._seen.of(source, samples)
        if seen is None:
            views = self._look(unit_mesh, view, appearance, looks, rng)
            maps = self._encode(views)
            lifted = lift_features(samples, views, centred_views(maps, torch.stack([view_box(v) for v in views])))
            turns = torch.as_tensor(np.stack([v.rotation for v in views]))
            seen = SeenMesh(evened_cloud(lifted.features), lifted.weight, turns, _pooled(maps, views).half())
        rotations = base_poses(source.pose_set, source.up)
        points = torch.as_tensor(samples.points)
        colours = sample_colours(unit_mesh, samples) if appearance == "known" else None
        cloud = PointCloud.of(samples, colours, source.up)
        features = self._features(seen.lifted, cloud).half()
        templates = build_templates(
            points, features.float(), torch.as_tensor(rotations, dtype=torch.float32), view, self._header.splat
        )
        data = MeshData(
            points=points,
            features=features,
            weight=seen.weight,
            view_rotation=seen.view_rotation,
            view_pooled=seen.view_pooled,
            colours=None if colours is None else torch.from_numpy(np.rint(255 * colours.clip(0, 1)).astype(np.uint8)),
        )
        frame = normalisation(mesh)
        symmetry = source.symmetry
        if symmetry is None:
            found = find_symmetries(samples.points.astype(np.float64), colours=colours)
            symmetry = found.moved(frame.scale, frame.center)
        entry = MeshEntry(
            id=source.id,
            category=source.category,
            source_path=str(source.path.absolute()),
            unit=source.unit,
            licence=source.licence,
            creator=source.creator,
            appearance=appearance,
            pose_set=source.pose_set,
            up=source.up,
            center=_triple(frame.center),
            scale=frame.scale,
            extent=_triple(mesh.extents),
            faces=len(mesh.faces),
            symmetry=symmetry,
            build_seconds=round(time.perf_counter() - began, 3),
        )
        return BuiltMesh(entry, data, templates, mesh)

    def _look(
        self,
        mesh: trimesh.Trimesh,
        view: ViewSpec,
        appearance: str,
        rotations: np.ndarray,
        rng: np.random.Generator,
    ) -> list[RenderedView]:
        """Views of the mesh; those that show nothing of it are left out. Raises MeshError where none shows anything."""
        size = self._header.image_size
        renderer = ViewRenderer(mesh, view, size, self.config.supersample)
        views = [
            renderer.render(R, random_background(size, rng), RandomTexture(rng) if appearance == "unknown" else None)
            for R in rotations
        ]
        shown = [v for v in views if not v.is_empty]
        if not shown:
            raise MeshError(f"shows nothing in any of {len(views)} views: its faces are too thin to be met by a ray")
        return shown

    def _encode(self, views: Sequence[RenderedView]) -> torch.Tensor:
        images = image_batch([v.image for v in views])
        return torch.cat([self.encoder.encode(batch) for batch in images.split(self.config.batch_size)]).cpu()


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


def _pooled(maps: torch.Tensor, views: Sequence[RenderedView]) -> torch.Tensor:
    """Mean feature [V, D], of unit length, over each view's box: what global pooling makes of it."""
    rows = []
    for feature_map, view in zip(maps, views, strict=True):
        cell = len(view.depth) / feature_map.shape[-1]
        left, top, right, bottom = (bound / cell for bound in shown_pixels(view))
        part = feature_map[:, int(top) : math.ceil(bottom), int(left) : math.ceil(right)]
        rows.append(torch.nn.functional.normalize(part.mean((1, 2)), dim=0))
    return torch.stack(rows)


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z
