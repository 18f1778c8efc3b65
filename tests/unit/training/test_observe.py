"""Observations: looks and their clouds, cells in the right place, centred targets, the same every time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from pasr_perception.library.build import library_header
from pasr_perception.library.meshes import MeshError, load_mesh
from pasr_perception.library.sample import normalised
from pasr_perception.training.observe import Look, ObserveConfig, Observer


def observer_of(bench, config: ObserveConfig) -> Observer:
    header = library_header(bench.encoder, bench.config)
    return Observer(bench.encoder, header.view, header.splat, config)


@pytest.fixture(scope="session")
def observer(bench, observe_config: ObserveConfig) -> Observer:
    return observer_of(bench, observe_config)


@pytest.fixture(scope="session")
def looks(bench, observer: Observer) -> list[Look]:
    return observer.observe(bench.source("block"))


def test_a_coloured_mesh_is_seen_in_its_own_colours_painted_and_bare(looks: list[Look]) -> None:
    assert [(look.cloud.known, len(look.views)) for look in looks] == [(True, 2), (True, 1), (False, 1)]
    assert not torch.equal(looks[0].cloud.colours, looks[1].cloud.colours)
    assert not looks[2].cloud.colours.any()


def test_own_colours_are_those_of_the_surface(bench, looks: list[Look]) -> None:
    """The block's colour says where on it one is, in its own axes: they must differ from the cloud's by a rotation."""
    mesh = normalised(load_mesh(bench.source("block").path, 0.001))
    place = mesh.bounds[0] + (looks[0].cloud.colours.numpy() * 255 - 20) / 220 * mesh.extents
    points = looks[0].cloud.points.numpy()
    turn = np.linalg.lstsq(place, points, rcond=None)[0]
    assert np.abs(place @ turn - points).max() < 0.02
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=0.02)


def test_cells_hold_unit_targets_and_weights_that_sum_to_one(looks: list[Look]) -> None:
    for view in (view for look in looks for view in look.views):
        assert 10 < len(view.target) == len(view.index) == len(view.weight)
        torch.testing.assert_close(view.target.float().norm(dim=1), torch.ones(len(view.target)), rtol=0, atol=5e-3)
        torch.testing.assert_close(view.weight.float().sum(1), torch.ones(len(view.weight)), rtol=0, atol=5e-3)
        assert int(view.index.max()) < 300


def test_a_view_shows_its_cloud(looks: list[Look]) -> None:
    """Points of one place, whichever view they are seen in, get targets that agree more than those of other places."""
    first, second = looks[0].views
    places = [(v.weight.float()[..., None] * looks[0].cloud.points[v.index.long()]).sum(1) for v in (first, second)]
    gap = torch.cdist(places[0], places[1])
    cosine = first.target.float() @ second.target.float().T
    assert (gap < 0.1).sum() > 10
    assert cosine[gap < 0.1].mean() > cosine[gap > 0.5].mean() + 0.15


def test_observing_again_gives_the_same(bench, observer: Observer, looks: list[Look]) -> None:
    again = observer.observe(bench.source("block"))
    for a, b in zip(looks, again, strict=True):
        assert torch.equal(a.cloud.points, b.cloud.points)
        assert torch.equal(a.views[0].target, b.views[0].target)


def test_copies_are_stretched_along_the_axes_and_seen_anew(bench, observer: Observer, looks: list[Look]) -> None:
    copy, other = (observer.observe(bench.source("block"), k) for k in (1, 2))
    assert [(look.cloud.known, len(look.views)) for look in copy] == [(True, 2), (True, 1), (False, 1)]
    sides = [np.sort(np.ptp(made[0].cloud.points.numpy(), axis=0)) for made in (looks, copy, other)]
    for made, side in zip((copy, other), sides[1:], strict=True):
        assert np.abs(side - sides[0]).max() > 0.05
        assert made[0].cloud.points.norm(dim=1).max() == pytest.approx(1, abs=0.05)  # of 300 samples
    assert np.abs(sides[1] - sides[2]).max() > 0.02


def test_a_copy_is_stretched_no_further_than_wanted(bench, observe_config: ObserveConfig) -> None:
    little = observer_of(bench, dataclasses.replace(observe_config, stretch=1.001))
    mesh = normalised(load_mesh(bench.source("block").path, 0.001))
    for k in range(1, 4):
        cloud = little.observe(bench.source("block"), k)[0].cloud
        sides = np.sort(np.ptp(cloud.points.numpy(), axis=0))
        np.testing.assert_allclose(sides, np.sort(mesh.extents), rtol=0.05)


def test_heavy_meshes_are_left_out(bench, observe_config: ObserveConfig) -> None:
    light = observer_of(bench, dataclasses.replace(observe_config, max_faces=10))
    with pytest.raises(MeshError, match="faces are more than the 10 wanted here"):
        light.observe(bench.source("block"))


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match=r"observe\.bare_views: expected at least 1, got 0"):
        ObserveConfig(bare_views=0)
    with pytest.raises(ValueError, match=r"observe\.stretch: expected more than 1 and at most 10, got 1"):
        ObserveConfig(stretch=1.0)
