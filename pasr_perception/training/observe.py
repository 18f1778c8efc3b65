"""What the point encoder learns from: one mesh's cloud under several looks, and what the image encoder makes of views of each.

A look is one appearance: the mesh's own colours, a random texture painted on (known colours as well, so that one mesh teaches
many), or bare: unknown colours, a new random texture in every view, so that only what the geometry causes can be learnt.
Targets are centred crop by crop as a query's features are (encoders/centring.py): what is compared at query time is what is
learnt. Views pass through a random camera's habits, since queries are photos. A view keeps the covered cells alone, each with
its splat weights: they depend on pose and points only, so nothing is rendered while training (PASR eq. 7-8).

Every other mesh is observed with another of its axes up and from all sides: library meshes of other makers lie any way. Copies
that are stretched along the axes are further shapes to learn from, with views of their own.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import torch
import trimesh

from pasr_perception.data.photo import photograph, random_effects
from pasr_perception.encoders.base import Encoder, image_batch
from pasr_perception.encoders.centring import centred_views
from pasr_perception.encoders.points.cloud import PointCloud
from pasr_perception.geometry.placement import ViewSpec, project
from pasr_perception.geometry.viewpoints import UP_AXES, up_rotation, view_poses
from pasr_perception.kernels.splat import MIN_WEIGHT_SUM
from pasr_perception.library.manifest import MeshSource
from pasr_perception.library.meshes import MeshError, has_colour, load_mesh
from pasr_perception.library.sample import SurfaceSamples, normalised, sample_colours, sample_surface
from pasr_perception.library.views import RandomTexture, RenderedView, ViewRenderer, random_background, view_box
from pasr_perception.render.splat import SplatConfig, rasterise

GAMMA = 2.2  # of the rendered views, before the camera
MAX_STRETCH = 10.0  # beyond it nothing is like itself
DIRECTIONS = 96  # viewpoints that a look's views are drawn from


@dataclass(frozen=True)
class ObserveConfig:
    """How many views a mesh is seen in, and how they are made."""

    points: int = 2048  # of the cloud that is encoded and splatted
    own_views: int = 6  # in its own colours; painted where it has none
    painted_views: int = 4
    bare_views: int = 6
    supersample: int = 1
    max_faces: int = 60_000  # heavier meshes are left out
    stretch: float = 1.6  # along each axis a stretched copy is at most this many times as long or as short
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("points", "own_views", "painted_views", "bare_views", "supersample", "max_faces"):
            if getattr(self, name) < 1:
                raise ValueError(f"observe.{name}: expected at least 1, got {getattr(self, name)}")
        if not 1 < self.stretch <= MAX_STRETCH:
            raise ValueError(f"observe.stretch: expected more than 1 and at most {MAX_STRETCH:g}, got {self.stretch}")


@dataclass(frozen=True)
class ObservedView:
    """The cells of one view that the cloud covers."""

    target: torch.Tensor  # [M, D] float16, the image's centred features there
    index: torch.Tensor  # [M, K] int16, points splatted on each cell
    weight: torch.Tensor  # [M, K] float16, of each, summing to 1; 0 = empty slot


@dataclass(frozen=True)
class Look:
    """One appearance of a mesh, and its views."""

    cloud: PointCloud
    views: tuple[ObservedView, ...]


class Observer:
    """Observes meshes with one image encoder."""

    def __init__(self, encoder: Encoder, view: ViewSpec, splat: SplatConfig, config: ObserveConfig) -> None:
        self._encoder, self._view, self._splat, self._config = encoder, view, splat, config

    def observe(self, source: MeshSource, copy: int = 0) -> list[Look]:
        """All looks of one mesh, or of one of its stretched copies (1, 2, ...), the same whatever is observed with it.

        Raises MeshError if it cannot be used.
        """
        config = self._config
        rng = np.random.default_rng([config.seed, zlib.crc32(source.id.encode()), copy])
        mesh = load_mesh(source.path, source.unit)
        if len(mesh.faces) > config.max_faces:
            raise MeshError(f"{source.path}: {len(mesh.faces)} faces are more than the {config.max_faces} wanted here")
        up, poses = (source.up, source.pose_set) if rng.random() < 0.5 else (str(rng.choice(UP_AXES)), "so3")
        if copy:
            mesh.apply_scale(np.exp(rng.uniform(-1, 1, 3) * np.log(config.stretch)))
        upright = normalised(mesh)
        upright.apply_transform(np.block([[up_rotation(up), np.zeros((3, 1))], [np.zeros((1, 3)), 1.0]]))
        samples = sample_surface(upright, config.points, int(rng.integers(2**31)))
        renderer = ViewRenderer(upright, self._view, self._encoder.image_size, config.supersample)
        rotations = rng.permutation(view_poses(poses, "+y", DIRECTIONS, rng)).astype(np.float64)
        looks, first = [], 0
        for kind, count in self._kinds(mesh):
            texture = RandomTexture(rng) if kind == "painted" else None
            colours = _colours(kind, upright, samples, texture)
            seen = [
                self._seen(renderer, R, RandomTexture(rng) if kind == "bare" else texture, rng)
                for R in rotations[first : first + count]
            ]
            views = [self._view_of(samples, view) for view in seen]
            looks.append(Look(PointCloud.of(samples, colours), tuple(views)))
            first += count
        return looks

    def _kinds(self, mesh: trimesh.Trimesh) -> list[tuple[str, int]]:
        own = "own" if has_colour(mesh) else "painted"
        c = self._config
        return [(own, c.own_views), ("painted", c.painted_views), ("bare", c.bare_views)]

    def _seen(
        self, renderer: ViewRenderer, rotation: np.ndarray, texture: RandomTexture | None, rng: np.random.Generator
    ) -> tuple[RenderedView, torch.Tensor]:
        """A view and the centred features [D, g, g] of its photo."""
        size = self._encoder.image_size
        view = renderer.render(rotation, random_background(size, rng), texture)
        photo = photograph((view.image / 255.0) ** GAMMA, random_effects(rng), rng)
        maps = self._encoder.encode(image_batch([photo]))
        return view, centred_views(maps, view_box(view)[None])[0].cpu()

    def _view_of(self, samples: SurfaceSamples, seen: tuple[RenderedView, torch.Tensor]) -> ObservedView:
        view, features = seen
        rotated = torch.as_tensor(samples.points) @ torch.as_tensor(view.rotation).T
        fragments = rasterise(*project(rotated[None], view.placement, self._splat.size), self._splat)
        weight = fragments.weight / fragments.weight.sum(-1, keepdim=True).clamp(min=MIN_WEIGHT_SUM)
        target = features.flatten(1).T[fragments.pixel]  # [M, D]
        return ObservedView(target.half(), fragments.index.clamp(min=0).short(), weight.half())


def _colours(
    kind: str, mesh: trimesh.Trimesh, samples: SurfaceSamples, texture: RandomTexture | None
) -> np.ndarray | None:
    if kind == "own":
        return sample_colours(mesh, samples)
    return texture(samples.points) if texture is not None else None
