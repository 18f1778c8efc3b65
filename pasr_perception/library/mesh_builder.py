"""One mesh of a library: load, sample, look at it from all sides, encode and lift (or learn), precompute templates."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import trimesh

from pasr_perception.config import LibraryConfig
from pasr_perception.encoders.base import Encoder, image_batch
from pasr_perception.encoders.centring import centred_views, evened_cloud
from pasr_perception.encoders.points.cloud import PointCloud
from pasr_perception.geometry.symmetry import find_symmetries
from pasr_perception.geometry.symmetry_group import triple
from pasr_perception.geometry.viewpoints import base_poses, view_poses
from pasr_perception.library.features import PointFeatures
from pasr_perception.library.lifted import lift_features
from pasr_perception.library.manifest import MeshSource
from pasr_perception.library.meshes import MeshError, has_colour, load_mesh
from pasr_perception.library.sample import SurfaceSamples, normalisation, normalised, sample_colours, sample_surface
from pasr_perception.library.seen import SeenMesh, SeenMeshes
from pasr_perception.library.store import LibraryHeader, MeshData, MeshEntry
from pasr_perception.library.views import (
    RandomTexture,
    RenderedView,
    ViewRenderer,
    random_background,
    shown_pixels,
    view_box,
)
from pasr_perception.templates import Templates, build_templates


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
        mesh = load_mesh(source.path, source.unit)
        appearance = source.appearance
        if appearance == "auto":
            appearance = "known" if has_colour(mesh) else "unknown"
        unit_mesh = normalised(mesh)
        # seeded by the id, so that a mesh is the same whatever is built with it
        rng = np.random.default_rng([self.config.seed, zlib.crc32(source.id.encode())])
        samples = sample_surface(unit_mesh, self.config.points, int(rng.integers(2**31)))
        colours = sample_colours(unit_mesh, samples) if appearance == "known" else None
        seen = None if self._seen is None else self._seen.of(source, samples)
        if seen is None:
            count = self.config.upright_views if source.pose_set == "upright" else self.config.views
            looks = view_poses(source.pose_set, source.up, count, rng)
            seen = self._looked_at(unit_mesh, samples, looks, appearance == "unknown", rng)
        data = self._data(source, samples, colours, seen)
        rotations = torch.as_tensor(base_poses(source.pose_set, source.up), dtype=torch.float32)
        features = data.features.float()
        templates = build_templates(data.points, features, rotations, self._header.view, self._header.splat)
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
            center=triple(frame.center),
            scale=frame.scale,
            extent=triple(mesh.extents),
            faces=len(mesh.faces),
            symmetry=symmetry,
            build_seconds=round(time.perf_counter() - began, 3),
        )
        return BuiltMesh(entry, data, templates, mesh)

    def _looked_at(
        self,
        mesh: trimesh.Trimesh,
        samples: SurfaceSamples,
        rotations: np.ndarray,
        textured: bool,
        rng: np.random.Generator,
    ) -> SeenMesh:
        """The mesh in views of its own, under random textures if wanted; those that show nothing of it are left out.

        Raises MeshError where none shows anything.
        """
        size = self._header.image_size
        renderer = ViewRenderer(mesh, self._header.view, size, self.config.supersample)
        views = [
            renderer.render(R, random_background(size, rng), RandomTexture(rng) if textured else None)
            for R in rotations
        ]
        shown = [v for v in views if not v.is_empty]
        if not shown:
            raise MeshError(f"shows nothing in any of {len(views)} views: its faces are too thin to be met by a ray")
        maps = self._encode(shown)
        lifted = lift_features(samples, shown, centred_views(maps, torch.stack([view_box(v) for v in shown])))
        turns = torch.as_tensor(np.stack([v.rotation for v in shown]))
        return SeenMesh(evened_cloud(lifted.features), lifted.weight, turns, _pooled(maps, shown).half())

    def _encode(self, views: Sequence[RenderedView]) -> torch.Tensor:
        images = image_batch([v.image for v in views])
        return torch.cat([self.encoder.encode(batch) for batch in images.split(self.config.batch_size)]).cpu()

    def _data(
        self, source: MeshSource, samples: SurfaceSamples, colours: np.ndarray | None, seen: SeenMesh
    ) -> MeshData:
        cloud = PointCloud.of(samples, colours, source.up)
        return MeshData(
            points=torch.as_tensor(samples.points),
            features=self._features(seen.lifted, cloud).half(),
            weight=seen.weight,
            view_rotation=seen.view_rotation,
            view_pooled=seen.view_pooled,
            colours=None if colours is None else torch.from_numpy(np.rint(255 * colours.clip(0, 1)).astype(np.uint8)),
        )


def _pooled(maps: torch.Tensor, views: Sequence[RenderedView]) -> torch.Tensor:
    """Mean feature [V, D], of unit length, over each view's box: what global pooling makes of it."""
    rows = []
    for feature_map, view in zip(maps, views, strict=True):
        cell = len(view.depth) / feature_map.shape[-1]
        left, top, right, bottom = (bound / cell for bound in shown_pixels(view))
        part = feature_map[:, int(top) : math.ceil(bottom), int(left) : math.ceil(right)]
        rows.append(torch.nn.functional.normalize(part.mean((1, 2)), dim=0))
    return torch.stack(rows)
