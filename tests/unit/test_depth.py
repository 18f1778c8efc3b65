"""Translation by depth: exact where it is clean, robust to holes, an occluder and the wall, unused where it is stale."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from pasr_perception.config import DepthConfig
from pasr_perception.depth import excess, refine_by_depth, usable_depth
from pasr_perception.geometry.se3 import make_T
from pasr_perception.geometry.viewpoints import look_at
from pasr_perception.render.mesh import Raycaster, camera_rays
from pasr_perception.types import Camera, Depth, Frame

CAMERA = Camera(160, 120, np.array([[160.0, 0, 80], [0, 160.0, 60], [0, 0, 1]]))
MESH = trimesh.creation.box((0.2, 0.3, 0.4))
POINTS = np.asarray(trimesh.sample.sample_surface(MESH, 3000, seed=0)[0])
TRUE = make_T(look_at(0.5, 0.7), np.array([0.05, -0.03, 1.2]))
OFF = np.array([0.012, -0.01, 0.09])
CONFIG = DepthConfig()


def depth_map(wall: float = 2.5) -> np.ndarray:
    rays = camera_rays(CAMERA.K, CAMERA.width, CAMERA.height, 1)
    R, t = TRUE[:3, :3], TRUE[:3, 3]
    hits = Raycaster(MESH).cast(-R.T @ t, rays @ R)
    z = np.full(len(rays), wall, np.float32)
    z[hits.ray] = hits.distance
    return z.reshape(CAMERA.height, CAMERA.width)


def start() -> np.ndarray:
    return make_T(TRUE[:3, :3], TRUE[:3, 3] + OFF)


def off(metres: np.ndarray) -> float:
    fit = refine_by_depth(POINTS, start(), Depth(metres), CAMERA, CONFIG)
    assert fit.reason == ""
    return float(np.linalg.norm(fit.T_cam_obj[:3, 3] - TRUE[:3, 3]))


def test_clean_depth_gives_the_place():
    assert off(depth_map()) < 0.006
    assert off(depth_map(wall=1.6)) < 0.006


def test_noise_and_holes():
    rng, z = np.random.default_rng(0), depth_map()
    z = z + rng.normal(0, 0.004, z.shape).astype(np.float32)
    z[rng.random(z.shape) < 0.5] = 0
    z[::7] = np.nan
    assert off(z) < 0.01


def test_an_occluder_in_front_of_a_third():
    z = depth_map()
    z[:, :72] = 0.6
    assert off(z) < 0.012


def test_the_rotation_and_the_given_pose_stay():
    given = start()
    before = given.copy()
    fit = refine_by_depth(POINTS, given, Depth(depth_map()), CAMERA, CONFIG)
    np.testing.assert_array_equal(given, before)
    np.testing.assert_array_equal(fit.T_cam_obj[:3, :3], TRUE[:3, :3])
    assert fit.residual < 0.004
    assert fit.pixels > CONFIG.min_pixels


@pytest.mark.parametrize("fill", [0.0, np.nan, 0.3])
def test_depth_that_does_not_show_the_object_changes_nothing_and_says_why(fill):
    fit = refine_by_depth(POINTS, start(), Depth(np.full((120, 160), fill, np.float32)), CAMERA, CONFIG)
    assert fit.reason.startswith("depth ")
    np.testing.assert_array_equal(fit.T_cam_obj, start())


def frame(depth: Depth | None) -> Frame:
    return Frame(np.zeros((120, 160, 3), np.uint8), CAMERA, 10**9, depth=depth)


def test_absent_stale_and_wrong_depth():
    z = depth_map()
    assert usable_depth(frame(None), CONFIG) == (None, "")
    fresh = Depth(z, 10**9 + 5 * 10**7)
    assert usable_depth(frame(fresh), CONFIG) == (fresh, "")
    depth, reason = usable_depth(frame(Depth(z, 6 * 10**8)), CONFIG)
    assert depth is None
    assert reason == "depth is 0.400 s off the image (at most 0.1 s): not used"
    assert usable_depth(frame(fresh), DepthConfig(enabled=False)) == (None, "")
    with pytest.raises(ValueError, match=r"frame.depth.metres: expected float32 of shape \(120, 160\)"):
        usable_depth(frame(Depth(z[:60], 10**9)), CONFIG)


def test_by_how_much_a_pose_is_farther_than_depth_shows():
    def said(z: float, metres: np.ndarray) -> float | None:
        T = make_T(TRUE[:3, :3], TRUE[:3, 3] * z)
        return excess(POINTS, T, Depth(metres), CAMERA, CONFIG)

    assert said(1.0, depth_map()) == pytest.approx(0, abs=0.01)
    assert said(1.15, depth_map()) == pytest.approx(0.15, abs=0.02)
    assert said(0.85, depth_map()) == pytest.approx(-0.15, abs=0.02)
    half = depth_map()
    half[:, ::2] = 0
    assert said(1.15, half) == pytest.approx(0.15, abs=0.02)
    assert said(3.0, depth_map(wall=9.0)) == np.inf  # nothing is as far as that
    assert said(1.0, np.zeros_like(half)) is None
