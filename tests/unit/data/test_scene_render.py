from __future__ import annotations

import numpy as np
import pytest
import trimesh

from pasr_perception.data.scene_layout import PlacedMesh, SceneMesh
from pasr_perception.data.scene_path import look_from
from pasr_perception.data.scene_render import NOTHING, Light, SceneRenderer, Shape, corner_normals
from pasr_perception.data.scene_room import Room
from pasr_perception.geometry.se3 import make_T
from pasr_perception.types import Camera

CAMERA = Camera(160, 120, np.array([[150.0, 0, 80], [0, 150, 60], [0, 0, 1]]))
EYE = np.array([0.0, -3.0, 0.5])


def renderer(*placed, sun=1.0):
    light = Light(np.array([0, 0, 1.0]), 0.0, np.full(3, sun), np.full(3, 0.2))
    room = Room(np.array([-4.0, -4, 0]), np.array([4.0, 4, 4]), 1.0, np.random.default_rng(0))
    objects = [
        PlacedMesh(str(i), SceneMesh(str(i), mesh, "+z"), make_T(np.eye(3), np.array(at)))
        for i, (mesh, at) in enumerate(placed)
    ]
    return SceneRenderer(objects, [Shape(o.source.mesh) for o in objects], room, light)


def painted(mesh, colour):
    mesh.visual.face_colors = [*colour, 255]
    return mesh


def test_corner_normals_are_sharp_on_a_cube_and_round_on_a_ball():
    cube = trimesh.creation.box((1, 2, 3))
    np.testing.assert_allclose(corner_normals(cube), cube.face_normals[:, None].repeat(3, 1), atol=1e-9)
    ball = trimesh.creation.icosphere(3)
    ball.unmerge_vertices()  # as in files that repeat vertices per face
    np.testing.assert_allclose(corner_normals(ball), ball.vertices[ball.faces], atol=0.02)


def test_mask_depth_and_outline_of_a_ball():
    scene = renderer((trimesh.creation.icosphere(4, 0.4), (0, 0, 0.5)))
    T = look_from(EYE, np.array([0, 0, 0.5]))
    view = scene.render(T, CAMERA, np.random.default_rng(0))
    # a ball of radius r at distance d looks like a disc of radius f r / sqrt(d^2 - r^2)
    radius = 150 * 0.4 / np.sqrt(9 - 0.16)
    rows, columns = np.nonzero(view.instance == 0)
    np.testing.assert_allclose([columns.min() / 2, (columns.max() + 1) / 2], [80 - radius, 80 + radius], atol=0.6)
    np.testing.assert_allclose([rows.min() / 2, (rows.max() + 1) / 2], [60 - radius, 60 + radius], atol=0.6)
    assert (view.instance == 0).sum() / 4 == pytest.approx(np.pi * radius**2, rel=0.02)
    assert scene.outline_pixels(0, T, CAMERA) == pytest.approx(np.pi * radius**2, rel=0.02)
    assert view.depth[60, 80] == pytest.approx(2.6, abs=2e-3)
    assert view.depth[60, 5] == pytest.approx(7.0, abs=1e-3)  # the wall behind
    np.testing.assert_array_equal(scene.instances(T, CAMERA), view.instance)


def test_the_nearer_object_hides_the_other_and_outlines_ignore_that_and_the_border():
    near, far = trimesh.creation.box((0.4, 0.1, 0.4)), trimesh.creation.box((0.8, 0.1, 0.4))
    scene = renderer((near, (0.2, -0.5, 0.5)), (far, (0, 0.5, 0.5)))
    T = look_from(EYE, np.array([0, 0, 0.5]))
    instance = scene.instances(T, CAMERA)
    assert set(np.unique(instance)) == {NOTHING, 0, 1}
    seen = (instance == 1).sum() / 4 / scene.outline_pixels(1, T, CAMERA)
    # in front of the far box, of x in +-0.4 at depth 3.45, the near one hides x from 0 on (up to 0.4 * 3.45 / 2.45)
    assert seen == pytest.approx(0.5, abs=0.02)
    half_out = look_from(EYE, np.array([2.2, 0, 0.5]))
    whole = scene.outline_pixels(1, half_out, CAMERA)
    assert whole > 1.5 * (scene.instances(half_out, CAMERA) == 1).sum() / 4


def test_colours_and_light():
    scene = renderer((painted(trimesh.creation.box((1, 1, 1)), (255, 0, 0)), (0, 0, 0.5)), sun=1.0)
    view = scene.render(look_from(np.array([0.0, -2, 3]), np.array([0, 0, 0.5])), CAMERA, np.random.default_rng(0))
    front = look_from(np.array([0.0, -3, 0.6]), np.array([0, 0, 0.6]))
    side = scene.render(front, CAMERA, np.random.default_rng(0))
    np.testing.assert_allclose(side.radiance[60, 80], [0.2 * 0.65, 0, 0], atol=1e-3)  # no sun on an upright face
    lid = np.abs(view.radiance[view.instance[::2, ::2] == 0] - [1.0 + 0.2, 0, 0]).max(1) < 1e-3  # sun and sky
    assert 0.3 < lid.mean() < 0.9


def test_objects_throw_shadows_on_the_floor():
    plate = trimesh.creation.box((1.0, 1.0, 0.02))
    T = look_from(np.array([0.0, -3, 0.7]), np.array([0, 0, 0.0]))
    lit, dark = (
        renderer((plate, (x, 0, 0.6))).render(T, CAMERA, np.random.default_rng(0)).radiance[60, 80] for x in (3.0, 0.0)
    )
    np.testing.assert_allclose(dark / lit, 0.2 / 1.2, rtol=0.02)


def test_objects_behind_the_camera_are_refused():
    scene = renderer((trimesh.creation.icosphere(2, 0.4), (0, 0, 0.5)))
    with pytest.raises(ValueError, match="in front of the camera"):
        scene.outline_pixels(0, look_from(EYE, np.array([0, -6, 0.5])), CAMERA)
