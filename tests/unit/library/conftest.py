"""A library of two tiny meshes, and what further ones are made of."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import trimesh

from pasr_perception.geometry.symmetry import Symmetry
from pasr_perception.library.store import LibraryHeader, LibraryWriter, MeshData, MeshEntry
from pasr_perception.render.splat import SplatConfig
from pasr_perception.templates import Templates


class Parts:
    """Headers, entries, tensors and meshes for a library of 8 channels."""

    D, G = 8, 4
    header = LibraryHeader("tiny-net", "abc123", D, 64, G, 0.8, 6.0, SplatConfig(size=G, radius=0.3))
    round = Symmetry.from_dict({"continuous_axes": [[0, 1, 0]], "center": [0.0, 0.1, 0.0]})

    def entry(self, identity: str, **changes: Any) -> MeshEntry:
        plain = MeshEntry(
            id=identity,
            category="cup",
            source_path="/somewhere/cup.obj",
            unit=0.01,
            licence="CC0-1.0",
            creator="Ann",
            appearance="known",
            pose_set="so3",
            up="+y",
            center=(0.1, 0.0, -0.2),
            scale=0.25,
            extent=(0.3, 0.2, 0.1),
            faces=12,
            build_seconds=1.5,
            offset_mean=0.4,
            offset_std=0.05,
            symmetry=self.round,
        )
        return dataclasses.replace(plain, **changes)

    def mesh_data(self, seed: int = 0, points: int = 20) -> MeshData:
        g = torch.Generator().manual_seed(seed)
        return MeshData(
            points=torch.rand(points, 3, generator=g),
            features=torch.nn.functional.normalize(torch.randn(points, self.D, generator=g), dim=1).half(),
            weight=torch.rand(points, generator=g),
            view_rotation=torch.eye(3).repeat(5, 1, 1),
            view_pooled=torch.rand(5, self.D, generator=g).half(),
        )

    def templates(self) -> Templates:
        return Templates(
            rotation=torch.eye(3).repeat(3, 1, 1),
            start=torch.tensor([0, 2, 4], dtype=torch.int32),
            pair=torch.arange(6, dtype=torch.int32),
            weight=torch.linspace(0, 1, 6),
            outline=torch.full((3, 2), 0.8),
        )

    def box(self) -> trimesh.Trimesh:
        return trimesh.creation.box((0.3, 0.2, 0.1))

    def add(self, writer: LibraryWriter, identity: str, seed: int = 0, **changes: Any) -> None:
        writer.add(self.entry(identity, **changes), self.mesh_data(seed), self.templates(), self.box())


@pytest.fixture(scope="session")
def parts() -> Parts:
    return Parts()


@pytest.fixture
def library(parts: Parts, tmp_path: Path) -> Path:
    with LibraryWriter.create(tmp_path / "lib", parts.header) as writer:
        parts.add(writer, "cup", 1)
        parts.add(writer, "mug", 2, offset_mean=0.1)
    return tmp_path / "lib"
