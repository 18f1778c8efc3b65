from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from pasr_perception.library import meshes
from pasr_perception.library.meshes import MeshError, export_glb, has_colour, load_mesh
from pasr_perception.render.mesh import surface_colour

TWO_MATERIALS = """mtllib m.mtl
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
v 0 0 2
vt 0 0
vt 2 0
vt 2 2
vt 0 2
usemtl picture
f 1/1 2/2 3/3
f 1/1 3/3 4/4
usemtl plain
f 1 2 5
"""
MATERIALS = "newmtl picture\nKd 0.5 0.5 0.5\nmap_Kd picture.png\nnewmtl plain\nKd 1 0 0\n"


def write_obj(folder: Path, text: str = TWO_MATERIALS, materials: str = MATERIALS) -> Path:
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:16], picture[16:] = [0, 255, 0], [0, 0, 255]
    Image.fromarray(picture).save(folder / "picture.png")
    (folder / "m.mtl").write_text(materials)
    (folder / "m.obj").write_text(text)
    return folder / "m.obj"


def colours_at_face_centres(mesh: trimesh.Trimesh) -> np.ndarray:
    third = np.full((len(mesh.faces), 3), 1 / 3)
    return np.round(surface_colour(mesh, np.arange(len(mesh.faces)), third) * 255)


@pytest.mark.parametrize("suffix", ["obj", "ply", "stl", "off", "glb"])
def test_every_format_gives_the_same_box_in_metres(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"box.{suffix}"
    trimesh.creation.box((10, 20, 30)).export(path)
    mesh = load_mesh(path, unit=0.01)
    np.testing.assert_allclose(mesh.extents, [0.1, 0.2, 0.3], rtol=1e-6)
    assert len(mesh.faces) == 12
    assert not has_colour(mesh)


def test_scenes_are_flattened_with_their_transforms(tmp_path: Path) -> None:
    scene = trimesh.Scene()
    box = trimesh.creation.box((1, 1, 1))
    scene.add_geometry(box, transform=trimesh.transformations.translation_matrix([5, 0, 0]))
    scene.add_geometry(box, transform=trimesh.transformations.translation_matrix([0, 0, -3]))
    (tmp_path / "s.glb").write_bytes(scene.export(file_type="glb"))
    mesh = load_mesh(tmp_path / "s.glb")
    np.testing.assert_allclose(mesh.bounds, [[-0.5, -0.5, -3.5], [5.5, 0.5, 0.5]], atol=1e-6)
    assert len(mesh.faces) == 24


def test_plain_and_tiled_materials_both_show_in_the_merged_mesh(tmp_path: Path) -> None:
    mesh = load_mesh(write_obj(tmp_path))
    assert mesh.visual.kind == "texture"
    assert has_colour(mesh)
    flat = np.abs(mesh.face_normals[:, 2]) > 0.9
    weights = np.tile([0.1, 0.35, 0.55], (len(mesh.faces), 1))  # not on the border of two colours
    seen = np.round(surface_colour(mesh, np.arange(len(mesh.faces)), weights) * 255)
    at = np.einsum("fk,fkd->fd", weights, mesh.triangles)
    expected = np.where(
        (at[flat, 1] * 2 % 1 > 0.5)[:, None], [0, 255, 0], [0, 0, 255]
    )  # picture repeats twice; v is up
    np.testing.assert_array_equal(seen[flat], expected)
    np.testing.assert_array_equal(seen[~flat], [[255, 0, 0]])


def test_glb_keeps_geometry_and_looks(tmp_path: Path) -> None:
    first = load_mesh(write_obj(tmp_path), unit=0.5)
    export_glb(first, tmp_path / "copy.glb")
    again = load_mesh(tmp_path / "copy.glb")
    np.testing.assert_allclose(again.triangles, first.triangles, atol=1e-6)
    np.testing.assert_array_equal(colours_at_face_centres(again), colours_at_face_centres(first))


def test_glb_keeps_plain_colours(tmp_path: Path) -> None:
    two = MATERIALS.replace("map_Kd picture.png\n", "")
    first = load_mesh(write_obj(tmp_path, materials=two))
    assert first.visual.kind == "vertex"
    export_glb(first, tmp_path / "copy.glb")
    again = load_mesh(tmp_path / "copy.glb")
    np.testing.assert_array_equal(colours_at_face_centres(again), colours_at_face_centres(first))
    assert [255, 0, 0] in colours_at_face_centres(again).tolist()


def test_a_bare_mesh_is_still_bare_after_glb(tmp_path: Path) -> None:
    trimesh.creation.box().export(tmp_path / "bare.stl")
    export_glb(load_mesh(tmp_path / "bare.stl"), tmp_path / "bare.glb")
    assert not has_colour(load_mesh(tmp_path / "bare.glb"))


def test_face_colours_stay_sharp(tmp_path: Path) -> None:
    box = trimesh.creation.box()
    colours = np.random.default_rng(0).integers(0, 256, (12, 4), dtype=np.uint8)
    colours[:, 3] = 255
    part = meshes._part(trimesh.Trimesh(box.vertices, box.faces, face_colors=colours, process=False))
    assert part is not None
    merged = meshes._merge([part])
    np.testing.assert_array_equal(colours_at_face_centres(merged), colours[:, :3])


def test_gltf_base_colours_are_converted_to_what_is_seen(tmp_path: Path) -> None:
    box = trimesh.creation.box()
    material = trimesh.visual.material.PBRMaterial(baseColorFactor=[55, 55, 255, 255])  # 55/255 linear is 128 on screen
    box.visual = trimesh.visual.TextureVisuals(uv=np.zeros((8, 2)), material=material)
    (tmp_path / "b.glb").write_bytes(trimesh.Scene(box).export(file_type="glb"))
    np.testing.assert_allclose(colours_at_face_centres(load_mesh(tmp_path / "b.glb")), [[128, 128, 255]] * 12, atol=1)


def test_invisible_materials_are_left_out(tmp_path: Path) -> None:
    hidden = MATERIALS.replace("Kd 1 0 0", "Kd 1 0 0\nd 0.0")
    assert len(load_mesh(write_obj(tmp_path, materials=hidden)).faces) == 2
    visible = MATERIALS.replace("Kd 1 0 0", "Kd 1 0 0\nd 0.3")
    assert len(load_mesh(write_obj(tmp_path, materials=visible)).faces) == 3


@pytest.mark.parametrize(
    ("colour", "expected"),
    [([200, 200, 200], False), ([102, 102, 102], False), ([200, 60, 60], True), ([10, 10, 10], True)],
)
def test_one_uniform_colour_counts_unless_it_is_a_default_grey(colour: list[int], expected: bool) -> None:
    box = trimesh.creation.box()
    box.visual.vertex_colors = np.tile([*colour, 255], (8, 1)).astype(np.uint8)
    assert has_colour(box) is expected


def test_uniform_texture_is_no_colour() -> None:
    box = trimesh.creation.box()
    white = Image.new("RGB", (8, 8), "white")
    box.visual = trimesh.visual.TextureVisuals(uv=np.zeros((8, 2)), image=white)
    assert not has_colour(box)


def test_slivers_and_unused_vertices_go(tmp_path: Path) -> None:
    lines = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 2 0 0\nv 99 99 99\nf 1 2 3\nf 1 2 4\nf 1 1 2\n"
    (tmp_path / "t.obj").write_text(lines)
    mesh = load_mesh(tmp_path / "t.obj")
    assert len(mesh.faces) == 1
    np.testing.assert_allclose(mesh.extents, [1, 1, 0])


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.obj", "", "empty"),
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\n", "no triangles"),
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n", "area is zero"),
        ("a.obj", "v 5 5 5\nv 5 5 5\nv 5 5 5\nf 1 2 3\n", "area is zero"),
        ("a.obj", "v 0 0 0\nv nan 0 0\nv 0 1 0\nf 1 2 3\n", "not finite"),
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "cannot be read"),
        ("a.ply", "nonsense", "cannot be read"),
        ("a.stl", "nonsense that is long enough to hold a header of eighty bytes " * 4, "a.stl"),
        ("a.glb", "nonsense", "cannot be read"),
        ("a.off", "OFF\n3 1 0\n0 0 0\n", "cannot be read"),
        ("a.txt", "hello", "not a mesh format"),
    ],
)
def test_bad_files_are_named_with_the_reason(tmp_path: Path, name: str, content: str, reason: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(MeshError, match=reason) as caught:
        load_mesh(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_missing_and_oversized_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MeshError, match="no such file"):
        load_mesh(tmp_path / "none.obj")
    path = write_obj(tmp_path)
    monkeypatch.setattr(meshes, "MAX_FACES", 2)
    with pytest.raises(MeshError, match="3 triangles are more than the 2"):
        load_mesh(path)
    monkeypatch.setattr(meshes, "MAX_FILE_BYTES", 10)
    with pytest.raises(MeshError, match="MiB"):
        load_mesh(path)


@pytest.mark.parametrize("unit", [0.0, -1.0, float("nan"), float("inf")])
def test_unit_must_be_positive(tmp_path: Path, unit: float) -> None:
    with pytest.raises(ValueError, match="unit"):
        load_mesh(write_obj(tmp_path), unit)


def test_an_unlikely_size_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_mesh(write_obj(tmp_path), 1000.0)
    assert "is its unit right?" in caplog.text
