"""One torch thread, a tiny encoder, three meshes that differ from every side, and a library of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from pasr_perception.config import LibraryConfig
from pasr_perception.encoders.points.config import PointEncoderConfig
from pasr_perception.geometry.camera import project as project_pixels
from pasr_perception.geometry.placement import ViewSpec, place, project
from pasr_perception.geometry.viewpoints import random_rotations
from pasr_perception.library.build import build_library
from pasr_perception.library.manifest import MeshSource
from pasr_perception.render.mesh import Raycaster, camera_rays, surface_colour, surface_normals
from pasr_perception.render.splat import SplatConfig, splat
from pasr_perception.templates import SparseCloud, Templates
from pasr_perception.types import Camera, Detection, Frame, Rivals

GRID, SIZE, CHANNELS = 14, 112, 24
CAMERA = Camera(320, 240, np.array([[320.0, 0, 160], [0, 320.0, 120], [0, 0, 1]]))
POSE_SETS = {"block": "so3", "can": "so3", "truck": "upright"}
SHADE = 0.5  # of the light that does not depend on the slope


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread() -> Iterator[None]:
    """The tensors of these tests are too small to share among threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def small_points() -> PointEncoderConfig:
    """A point encoder beside the `ColourEncoder` that takes no time."""
    return PointEncoderConfig(
        dim=CHANNELS, input_points=200, scales=(64, 32, 16, 8), widths=(8, 8, 12, 16), blocks=(1, 0, 1, 1), stem=8,
        radius=0.2, neighbours=6, hidden=16,
    )  # fmt: skip


class ColourEncoder:
    """The mean colour of every cell, told apart by fixed random waves: two colours are alike only if they are close."""

    name, dim, image_size, grid, fingerprint = "colour-waves", CHANNELS, SIZE, GRID, "c0105"

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self._waves = torch.randn(CHANNELS, 3, generator=generator) * 2.5
        self._phase = torch.rand(CHANNELS, generator=generator) * 2 * torch.pi

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[1:] != (3, SIZE, SIZE) or images.dtype != torch.uint8:
            raise ValueError(f"images: expected [B, 3, {SIZE}, {SIZE}] uint8, got {list(images.shape)} {images.dtype}")
        cells = torch.nn.functional.avg_pool2d(images.float() / 255, SIZE // GRID)  # [B, 3, g, g]
        waves = torch.einsum("dc,bcij->bdij", self._waves, cells) + self._phase[:, None, None]
        return torch.nn.functional.normalize(waves.cos(), dim=1)


def _painted(mesh: trimesh.Trimesh, colour: tuple[int, int, int]) -> trimesh.Trimesh:
    mesh.visual.face_colors = [*colour, 255]
    return mesh


def _vertex_painted(mesh: trimesh.Trimesh, colours: np.ndarray) -> trimesh.Trimesh:
    rgba = np.column_stack([colours, np.full(len(colours), 255)]).round().astype(np.uint8)
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=rgba)
    return mesh


def block() -> trimesh.Trimesh:
    """A box 0.2 x 0.3 x 0.4 m, off its file's origin, whose colour says where on it one is."""
    mesh = trimesh.creation.box((0.2, 0.3, 0.4)).subdivide().subdivide()
    colours = 20 + 220 * (mesh.vertices - mesh.bounds[0]) / mesh.extents
    return _vertex_painted(mesh, colours).apply_translation((0.5, -0.1, 0.05))


def can() -> trimesh.Trimesh:
    """A cylinder along z with vertex colours that run around it and along it."""
    mesh = trimesh.creation.cylinder(0.05, 0.16, sections=24).subdivide()
    x, y, z = np.asarray(mesh.vertices).T
    around = np.arctan2(y, x)
    return _vertex_painted(
        mesh, np.stack([np.sin(around) * 100 + 128, np.cos(around) * 100 + 128, 40 + 1200 * (z + 0.08)], -1)
    )


def truck() -> trimesh.Trimesh:
    """A lorry 1.7 m long that faces +x, up is +y."""
    at = trimesh.transformations.translation_matrix
    parts = [
        ((1.7, 0.3, 0.6), (0, 0.15, 0), (60, 60, 60)),
        ((0.45, 0.6, 0.64), (0.62, 0.6, 0), (210, 30, 30)),
        ((0.04, 0.25, 0.54), (0.84, 0.7, 0), (150, 210, 240)),
        ((1.15, 0.8, 0.68), (-0.28, 0.7, 0.0), (235, 235, 225)),
        ((1.15, 0.4, 0.04), (-0.28, 0.7, 0.34), (30, 90, 190)),
        ((1.15, 0.4, 0.04), (-0.28, 0.7, -0.34), (40, 170, 60)),
        ((0.04, 0.5, 0.5), (-0.86, 0.7, 0), (240, 160, 20)),
    ]
    return trimesh.util.concatenate(
        [_painted(trimesh.creation.box(size, at(place)), colour) for size, place, colour in parts]
    )


@dataclass(frozen=True)
class Bench:
    """What tests of libraries and pipelines work on."""

    encoder: ColourEncoder
    meshes: dict[str, trimesh.Trimesh]  # metres
    sources: tuple[MeshSource, ...]
    config: LibraryConfig
    camera: Camera

    def source(self, mesh_id: str) -> MeshSource:
        return next(s for s in self.sources if s.id == mesh_id)

    def photograph(self, mesh_id: str, T_cam_obj: np.ndarray, camera: Camera = CAMERA) -> tuple[Frame, Detection]:
        """The mesh in metres at `T_cam_obj`, lit from the camera, before grey; the box is exact."""
        mesh, R, t = self.meshes[mesh_id], T_cam_obj[:3, :3], T_cam_obj[:3, 3]
        rays = camera_rays(camera.K, camera.width, camera.height, 2) @ R
        hits = Raycaster(mesh).cast(-R.T @ t, rays)
        sight = rays[hits.ray] / np.linalg.norm(rays[hits.ray], axis=1, keepdims=True)
        slope = np.abs((surface_normals(mesh, hits) * sight).sum(1))
        fine = np.full((len(rays), 3), 0.5)
        fine[hits.ray] = surface_colour(mesh, hits.triangle, hits.barycentric) * (SHADE + (1 - SHADE) * slope)[:, None]
        image = fine.reshape(camera.height, 2, camera.width, 2, 3).mean((1, 3))
        uv = project_pixels(np.asarray(mesh.vertices) @ R.T + t, camera.K)
        box = np.concatenate([uv.min(0), uv.max(0)])
        return Frame((image * 255).round().astype(np.uint8), camera), Detection(box, id=mesh_id)


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("meshes")
    meshes = {"block": block(), "can": can(), "truck": truck()}
    sources = []
    for name, mesh in meshes.items():
        path = folder / f"{name}.ply"
        millimetres = mesh.copy()
        millimetres.apply_scale(1000)
        millimetres.export(path)
        sources.append(MeshSource(name, f"{name}s", path, 0.001, "CC0-1.0", "the tests", "auto", POSE_SETS[name], "+y"))
    config = LibraryConfig(points=800, views=30, upright_views=30, supersample=1, strangers=12, batch_size=8, workers=1)
    return Bench(ColourEncoder(), meshes, tuple(sources), config, CAMERA)


@pytest.fixture(scope="session")
def library_path(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of the three meshes; tests that change it work on a copy."""
    path = tmp_path_factory.mktemp("library") / "lib"
    report = build_library(bench.sources, path, bench.encoder, bench.config)
    assert report.built == ("block", "can", "truck")
    return path


class Toy:
    """Point clouds with features for tests of the search, seen as the search sees them."""

    view = ViewSpec()

    @dataclass(frozen=True)
    class Space:
        """A library of such clouds (`coarse.SearchSpace`)."""

        points: tuple[torch.Tensor, ...]  # each [N, 3]
        clouds: tuple[torch.Tensor, ...]  # each [N, D]
        made: tuple[Templates, ...]
        turns: tuple[tuple[int, ...], ...]
        rivals: Rivals

        def sparse(self, mesh: int) -> SparseCloud:
            return SparseCloud.of(self.clouds[mesh], self.made[mesh])

    def cloud(self, seed: int, points: int = 400, dim: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
        """Points [points, 3] of an ellipsoid and unrelated unit features [points, dim]."""
        xyz = np.random.default_rng(seed).normal(size=(points, 3))
        xyz = xyz / np.linalg.norm(xyz, axis=1, keepdims=True) * [0.3, 0.6, 0.7]
        features = torch.randn(points, dim, generator=torch.Generator().manual_seed(seed))
        return torch.as_tensor(xyz, dtype=torch.float32), torch.nn.functional.normalize(features, dim=1)

    def rotations(self, count: int, seed: int = 0) -> torch.Tensor:
        return torch.as_tensor(random_rotations(count, np.random.default_rng(seed)), dtype=torch.float32)

    def render(
        self, points: torch.Tensor, features: torch.Tensor, rotations: torch.Tensor, config: SplatConfig
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Feature maps [P, D, g, g] and masks [P, g, g] of a cloud placed by its outline."""
        rotated = points @ rotations.transpose(1, 2)
        uv, depth = project(rotated, place(rotated, self.view), config.size)
        return splat(uv, depth, features, config)

    def shown(
        self, points: torch.Tensor, features: torch.Tensor, rotations: torch.Tensor, config: SplatConfig
    ) -> torch.Tensor:
        """The same maps at unit length, as an encoder would give them."""
        return torch.nn.functional.normalize(self.render(points, features, rotations, config)[0], dim=1)


@pytest.fixture(scope="session")
def toy() -> Toy:
    return Toy()
