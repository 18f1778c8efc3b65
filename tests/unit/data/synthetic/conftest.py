"""Three small things to photograph, as props and as files."""

from __future__ import annotations

import pytest
import trimesh

from pasr_perception.data.scene_layout import SceneMesh
from pasr_perception.data.scene_render import Shape
from pasr_perception.data.synthetic.spec import PhotoSpec
from pasr_perception.data.synthetic.stage import Prop
from pasr_perception.library.manifest import MeshSource


def things() -> dict[str, trimesh.Trimesh]:
    block = trimesh.creation.box((0.3, 0.4, 0.2)).apply_translation((1, 2, 3))
    block.visual.face_colors = [200, 40, 40, 255]
    post = trimesh.creation.cylinder(0.1, 0.6, sections=16)
    slab = trimesh.creation.box((0.5, 0.5, 0.1))
    return {"block": block, "post": post, "slab": slab}


@pytest.fixture(scope="session")
def props() -> dict[str, Prop]:
    return {name: Prop(SceneMesh(name, mesh, "+z"), Shape(mesh)) for name, mesh in things().items()}


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[MeshSource]:
    folder = tmp_path_factory.mktemp("things")
    found = []
    for name, mesh in things().items():
        mesh.export(folder / f"{name}.ply")
        found.append(
            MeshSource(name, "thing", folder / f"{name}.ply", 1.0, "CC0-1.0", "the tests", "auto", "upright", "+z")
        )
    return found


@pytest.fixture(scope="session")
def spec() -> PhotoSpec:
    return PhotoSpec(96, 72, object_size=(0.5, 0.8), clutter=1)
