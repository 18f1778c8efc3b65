"""Rendered views against what is known of a box, and the random looks of meshes without colour."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from pasr_perception.geometry.placement import ViewSpec, project
from pasr_perception.geometry.viewpoints import look_at
from pasr_perception.library.sample import normalised
from pasr_perception.library.views import AMBIENT, RandomTexture, ViewRenderer, random_background

SIZE = 60
GREEN = (51, 204, 102)
GREY = np.array([0.2, 0.2, 0.2])


def box(extents: tuple[float, float, float]) -> trimesh.Trimesh:
    mesh = normalised(trimesh.creation.box(extents))
    mesh.visual.face_colors = [*GREEN, 255]
    return mesh


@pytest.fixture(scope="module")
def front() -> tuple[trimesh.Trimesh, ViewRenderer]:
    mesh = box((0.5, 1.0, 0.25))
    return mesh, ViewRenderer(mesh, ViewSpec(fill=0.8, distance=6.0), SIZE, 2)


def test_the_longer_side_fills_its_share_and_the_outline_is_centred(front) -> None:
    _, renderer = front
    seen = np.isfinite(renderer.render(np.eye(3), GREY).depth)
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    assert (rows[0], rows[-1]) == (6, 53)  # 0.8 of 60 pixels
    assert len(columns) == pytest.approx(24, abs=1)
    assert columns[0] + columns[-1] == pytest.approx(SIZE - 1, abs=1)
    assert seen[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()


def test_depth_is_that_of_the_near_side(front) -> None:
    mesh, renderer = front
    depth = renderer.render(np.eye(3), GREY).depth
    near = 6.0 - mesh.extents[2] / 2  # the camera sits 6 radii before the middle
    np.testing.assert_allclose(depth[np.isfinite(depth)], near, atol=1e-4)
    assert depth[0, 0] == np.inf


def test_projected_corners_bound_the_silhouette_of_a_turned_box(front) -> None:
    mesh, renderer = front
    rotation = look_at(0.4, 0.7, 0.3)
    view = renderer.render(rotation, GREY)
    corners = torch.as_tensor(mesh.vertices @ rotation.T, dtype=torch.float32)
    uv = project(corners[None], view.placement, SIZE)[0][0]
    seen = np.isfinite(view.depth)
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    bounds = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    np.testing.assert_allclose(bounds, [*uv.amin(0), *uv.amax(0)], atol=1.0)
    np.testing.assert_allclose(view.rotation, rotation, atol=1e-6)


@pytest.mark.parametrize("degrees", [0, 30, 60])
def test_a_slanted_side_is_darker_by_its_slope(degrees: float) -> None:
    renderer = ViewRenderer(box((1.0, 1.0, 0.01)), ViewSpec(), SIZE, 2)
    middle = renderer.render(look_at(0.0, np.radians(degrees)), GREY).image[SIZE // 2, SIZE // 2]
    slope = np.cos(np.radians(degrees))
    np.testing.assert_allclose(middle, np.array(GREEN) * (AMBIENT + (1 - AMBIENT) * slope), atol=1.5)


def test_the_background_is_what_was_given(front) -> None:
    _, renderer = front
    plain = renderer.render(np.eye(3), GREY).image
    np.testing.assert_array_equal(plain[0, 0], [51, 51, 51])
    picture = np.random.default_rng(0).uniform(size=(SIZE, SIZE, 3))
    shown = renderer.render(np.eye(3), picture)
    outside = ~np.isfinite(shown.depth)
    outside[5:55, 15:45] = False  # the object's border mixes
    np.testing.assert_array_equal(shown.image[outside], (picture[outside].astype(np.float32) * 255).round())


def test_a_texture_replaces_the_meshs_own_colour(front) -> None:
    _, renderer = front
    texture = RandomTexture(np.random.default_rng(3))
    image = renderer.render(np.eye(3), GREY, texture).image[20:40, 22:38]
    assert np.ptp(image.reshape(-1, 3).astype(int), axis=0).max() > 20
    again = renderer.render(np.eye(3), GREY, RandomTexture(np.random.default_rng(3))).image[20:40, 22:38]
    other = renderer.render(np.eye(3), GREY, RandomTexture(np.random.default_rng(4))).image[20:40, 22:38]
    np.testing.assert_array_equal(image, again)
    assert np.abs(image.astype(int) - other).mean() > 10


def test_random_textures_are_colours_and_belong_to_the_surface() -> None:
    points = np.random.default_rng(0).uniform(-1, 1, (200, 3))
    for seed in range(20):
        colour = RandomTexture(np.random.default_rng(seed))(points)
        assert colour.shape == (200, 3)
        assert colour.dtype == np.float32
        assert 0 <= colour.min() <= colour.max() <= 1
        permuted = np.random.default_rng(1).permutation(200)
        np.testing.assert_allclose(RandomTexture(np.random.default_rng(seed))(points[permuted]), colour[permuted])


def test_backgrounds_are_plain_or_pictures_half_and_half() -> None:
    rng = np.random.default_rng(0)
    shapes = [random_background(8, rng).shape for _ in range(100)]
    assert set(shapes) == {(3,), (8, 8, 3)}
    assert 30 < shapes.count((3,)) < 70
