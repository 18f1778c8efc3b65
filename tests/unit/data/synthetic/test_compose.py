"""Photos of which exactly as much is hidden as was asked for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pasr_perception.data.synthetic.compose import compose_photo
from pasr_perception.data.synthetic.spec import LEVELS, OcclusionLevel, PhotoSpec
from pasr_perception.data.synthetic.stage import PhotoError
from pasr_perception.geometry.camera import project


@pytest.fixture
def compose(props, spec):
    def make(level: str, seed: int, **changes):
        others = [props["post"], props["slab"]]
        return compose_photo(
            props["block"], others, LEVELS[level], dataclasses.replace(spec, **changes), np.random.default_rng(seed)
        )

    return make


@pytest.mark.parametrize("level", ["L1", "L2", "L3"])
def test_as_much_is_hidden_as_the_level_says(compose, level):
    photo = compose(level, 1)
    assert LEVELS[level].low <= photo.hidden <= LEVELS[level].high
    assert photo.occluders[0] in ("post", "slab")
    assert (photo.visible & ~photo.whole).sum() == 0
    # counted in quarter pixels there, in whole ones here
    assert 1 - photo.visible.sum() / photo.whole.sum() == pytest.approx(photo.hidden, abs=0.03)


def test_nothing_hides_at_level_0(compose):
    photo = compose("L0", 2)
    assert photo.hidden == 0
    assert photo.occluders == ()
    np.testing.assert_array_equal(photo.visible, photo.whole)


def test_pose_mask_and_depth_agree(compose, props):
    photo = compose("L0", 3, clutter=0)
    vertices = np.asarray(props["block"].item.mesh.vertices)
    points = vertices @ photo.T_cam_obj[:3, :3].T + photo.T_cam_obj[:3, 3]
    uv = project(points, photo.camera.K)
    rows, columns = np.nonzero(photo.visible)
    np.testing.assert_allclose([columns.min(), rows.min()], uv.min(0), atol=1)
    np.testing.assert_allclose([columns.max() + 1, rows.max() + 1], uv.max(0), atol=1)
    assert points[:, 2].min() - 1e-3 <= photo.depth[photo.visible].min()
    assert photo.depth[photo.visible].max() <= points[:, 2].max() + 1e-3
    assert photo.truncated == 0
    longest = (uv.max(0) - uv.min(0)).max() / 72
    assert 0.4 < longest < 0.9


def test_the_border_cuts_where_it_is_to(compose):
    photo = compose("L0", 4, truncated=1.0)
    assert 0.03 < photo.truncated < 0.6
    edges = (photo.whole[0], photo.whole[-1], photo.whole[:, 0], photo.whole[:, -1])
    assert any(edge.any() for edge in edges)


def test_a_seed_is_one_photo(compose):
    first, again, other = compose("L2", 5), compose("L2", 5), compose("L2", 6)
    np.testing.assert_array_equal(first.image, again.image)
    assert not np.array_equal(first.image, other.image)


def test_looks_differ_in_colour_only(compose):
    own, textured = compose("L0", 7, looks={"own": 1}), compose("L0", 7, looks={"textured": 1})
    assert (own.look, textured.look) == ("own", "textured")
    assert own.image[own.visible].astype(int)[:, 0].mean() > own.image[own.visible].astype(int)[:, 1].mean() + 30


def test_what_cannot_be_is_said(props, spec):
    with pytest.raises(ValueError, match="companions: expected at least one"):
        compose_photo(props["block"], [], LEVELS["L1"], spec, np.random.default_rng(0))
    impossible = OcclusionLevel("all", 0.9999, 0.99991)
    with pytest.raises(PhotoError, match="block: no arrangement with all of it hidden"):
        compose_photo(props["block"], [props["post"]], impossible, spec, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 10}, "image size"),
        ({"object_size": (0.9, 0.2)}, "object_size"),
        ({"looks": {"gold": 1.0}}, "looks"),
        ({"truncated": 2.0}, "truncated"),
        ({"clutter": -1}, "clutter"),
    ],
)
def test_bad_settings_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        PhotoSpec(**changes)
