"""Ray casting and surface colours against a box and a textured square whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from PIL import Image
from trimesh.visual.material import PBRMaterial, SimpleMaterial

from pasr_perception.render.mesh import (
    DEFAULT_GREY,
    Raycaster,
    camera_rays,
    surface_colour,
    surface_normals,
    surface_points,
)

K = np.array([[50.0, 0, 20], [0, 40.0, 15], [0, 0, 1]])
TEXELS = np.array([[(255, 0, 0), (0, 255, 0)], [(0, 0, 255), (255, 255, 255)]], np.uint8)  # upper row first


def square(uv_scale: float = 1.0, material: object | None = None) -> trimesh.Trimesh:
    """The unit square at z = 0, texture coordinates equal to (x, y) times `uv_scale`."""
    corners = np.array([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)], float)
    mesh = trimesh.Trimesh(corners, [(0, 1, 2), (0, 2, 3)], process=False)
    material = material or SimpleMaterial(image=Image.fromarray(TEXELS))
    mesh.visual = trimesh.visual.TextureVisuals(uv=corners[:, :2] * uv_scale, material=material)
    return mesh


def colour_at(mesh: trimesh.Trimesh, xy: list[tuple[float, float]]) -> np.ndarray:
    """Colours [N, 3] where rays straight down meet the square."""
    origins = np.array([(x, y, 2.0) for x, y in xy])
    hits = Raycaster(mesh).cast(origins, np.tile([0.0, 0.0, -1.0], (len(xy), 1)))
    assert len(hits.ray) == len(xy)
    return surface_colour(mesh, hits.triangle, hits.barycentric)


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-3, 0.0), (300.0, 1e4)])
def test_depth_of_a_box_whatever_its_size_and_place(scale: float, offset: float) -> None:
    mesh = trimesh.creation.box((scale, 2 * scale, 3 * scale)).apply_translation((offset, 0, offset))
    origin = np.array([offset, 0.0, offset - 5 * scale])
    rays = np.array([(0, 0, 1.0), (0, 0, 4.0), (0.1, 0.25, 1.0), (0.2, 0.0, 1.0), (0, 0, -1.0)])
    hits = Raycaster(mesh).cast(origin, rays)
    assert hits.ray.tolist() == [0, 1, 2]  # the fourth passes by, the last looks away
    np.testing.assert_allclose(hits.distance, np.array([3.5, 3.5 / 4, 3.5]) * scale, rtol=1e-5)
    np.testing.assert_allclose(np.abs(surface_normals(mesh, hits)), [(0, 0, 1)] * 3, atol=1e-9)


def test_barycentric_coordinates_give_the_place_that_was_hit() -> None:
    mesh = trimesh.creation.icosphere(subdivisions=2, radius=0.3).apply_translation((1, 2, 3))
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(200, 3))
    hits = Raycaster(mesh).cast(np.array([1.0, 2.0, 3.0]), directions)  # from inside: every ray hits
    assert hits.ray.tolist() == list(range(200))
    np.testing.assert_allclose(hits.barycentric.sum(1), 1, atol=1e-6)
    assert hits.barycentric.min() > -1e-5
    points = surface_points(mesh, hits.triangle, hits.barycentric)
    np.testing.assert_allclose(points, (1, 2, 3) + directions * hits.distance[:, None], atol=1e-5)


def test_every_ray_may_have_its_own_origin() -> None:
    mesh = trimesh.creation.box((1, 1, 1))
    origins = np.array([(0, 0, -2.0), (3, 0, 0.0), (0.2, 0.1, 5.0)])
    directions = np.array([(0, 0, 1.0), (-1, 0, 0.0), (0, 0, -2.0)])
    np.testing.assert_allclose(Raycaster(mesh).cast(origins, directions).distance, [1.5, 2.5, 2.25], rtol=1e-6)


def test_texture_has_its_origin_at_the_lower_left() -> None:
    found = colour_at(square(), [(0.25, 0.75), (0.75, 0.75), (0.25, 0.25), (0.75, 0.25)])
    np.testing.assert_allclose(found, [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)], atol=1e-6)


def test_texture_coordinates_beyond_one_repeat() -> None:
    found = colour_at(square(uv_scale=2.0), [(0.125, 0.375), (0.625, 0.875), (0.875, 0.625)])
    np.testing.assert_allclose(found, [(1, 0, 0), (1, 0, 0), (1, 1, 1)], atol=1e-6)


def test_a_materials_factor_tints_its_texture() -> None:
    material = PBRMaterial(baseColorTexture=Image.fromarray(TEXELS), baseColorFactor=[51, 255, 102, 255])
    found = colour_at(square(material=material), [(0.75, 0.25), (0.25, 0.75)])
    np.testing.assert_allclose(found, [(0.2, 1, 0.4), (0.2, 0, 0)], atol=1e-6)


@pytest.mark.parametrize(
    "material", [PBRMaterial(baseColorFactor=[51, 102, 153, 255]), SimpleMaterial(diffuse=[51, 102, 153, 255])]
)
def test_a_material_without_texture_is_its_colour(material: object) -> None:
    np.testing.assert_allclose(colour_at(square(material=material), [(0.3, 0.6)]), [(0.2, 0.4, 0.6)], atol=1e-6)


def test_vertex_colours_are_interpolated() -> None:
    mesh = trimesh.Trimesh([(0, 0, 0), (1, 0, 0), (0, 1, 0)], [(0, 1, 2)], process=False)
    mesh.visual.vertex_colors = np.array([(255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 255, 255)], np.uint8)
    np.testing.assert_allclose(colour_at(mesh, [(0.25, 0.5)]), [(0.25, 0.25, 0.5)], atol=1e-5)


def test_face_colours_are_flat_and_no_colour_is_grey() -> None:
    mesh = square()
    mesh.visual = trimesh.visual.ColorVisuals(mesh, face_colors=np.array([(255, 0, 0, 255), (0, 51, 0, 255)], np.uint8))
    np.testing.assert_allclose(colour_at(mesh, [(0.9, 0.1), (0.1, 0.9)]), [(1, 0, 0), (0, 0.2, 0)], atol=1e-6)
    mesh.visual = trimesh.visual.ColorVisuals(mesh)
    np.testing.assert_allclose(colour_at(mesh, [(0.5, 0.4)]), DEFAULT_GREY)


def test_camera_rays_go_through_pixel_centres() -> None:
    rays = camera_rays(K, 40, 30, 1).reshape(30, 40, 3)
    np.testing.assert_allclose(rays[0, 0], [(0.5 - 20) / 50, (0.5 - 15) / 40, 1])
    uv = rays.reshape(-1, 3) @ K.T
    np.testing.assert_allclose(uv.reshape(30, 40, 3)[7, 31], [31.5, 7.5, 1])


def test_a_finer_grid_has_the_same_mean() -> None:
    rays = camera_rays(K, 40, 30, 3).reshape(30, 3, 40, 3, 3)
    np.testing.assert_allclose(rays.mean((1, 3)), camera_rays(K, 40, 30, 1).reshape(30, 40, 3), atol=1e-12)
