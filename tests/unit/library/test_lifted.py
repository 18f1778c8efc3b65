"""Lifting: a point takes the features of where it is seen, hidden ones take none, inner ones their neighbour's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from pasr_perception.geometry.placement import ViewSpec, project
from pasr_perception.geometry.viewpoints import look_at
from pasr_perception.library.lifted import lift_features, visibility
from pasr_perception.library.sample import SurfaceSamples, normalised, sample_surface
from pasr_perception.library.views import RenderedView, ViewRenderer

SIZE, GRID = 80, 16
GREY = np.full(3, 0.5)


@pytest.fixture(scope="module")
def samples() -> SurfaceSamples:
    return sample_surface(normalised(trimesh.creation.box((0.6, 0.8, 1.0))), 600, seed=0)


@pytest.fixture(scope="module")
def renderer() -> ViewRenderer:
    return ViewRenderer(normalised(trimesh.creation.box((0.6, 0.8, 1.0))), ViewSpec(), SIZE, 1)


def ramp(views: int) -> torch.Tensor:
    """Maps [V, 3, g, g] that hold each cell's middle (u, v) in image sizes, and 1."""
    at = (torch.arange(GRID) + 0.5) / GRID
    v, u = torch.meshgrid(at, at, indexing="ij")
    return torch.stack([u, v, torch.ones_like(u)]).expand(views, -1, -1, -1).clone()


def place_of(samples: SurfaceSamples, view: RenderedView) -> torch.Tensor:
    rotated = torch.as_tensor(samples.points) @ torch.as_tensor(view.rotation).T
    return project(rotated[None], view.placement, SIZE)[0][0] / SIZE


def test_only_the_near_side_is_seen_by_the_cosine_of_its_slope(samples, renderer) -> None:
    view = renderer.render(np.eye(3), GREY)
    uv, weight = visibility(samples, view)
    torch.testing.assert_close(uv, place_of(samples, view))
    near = torch.as_tensor(samples.normals[:, 2] < -0.5)
    inside = ((uv - 0.5).abs() < 0.38).all(1)  # the outline's own pixels may be background
    assert (weight[near & inside] > 0.98).all()
    assert near.sum() > 50
    assert (weight[torch.as_tensor(samples.normals[:, 2] > 0.5)] == 0).all()


def test_windings_do_not_matter(samples, renderer) -> None:
    view = renderer.render(look_at(0.5, 0.6), GREY)
    flipped = SurfaceSamples(samples.points, -samples.normals, samples.triangle)
    torch.testing.assert_close(visibility(flipped, view)[1], visibility(samples, view)[1])


def test_a_point_takes_the_feature_of_the_place_where_it_is_seen(samples, renderer) -> None:
    view = renderer.render(look_at(0.5, 0.6), GREY)
    lifted = lift_features(samples, [view], ramp(1))
    seen = lifted.weight > 0
    assert 0.3 < seen.float().mean() < 0.6  # three of six sides
    torch.testing.assert_close(lifted.features.norm(dim=1), torch.ones(600))
    place = lifted.features[seen, :2] / lifted.features[seen, 2:]
    torch.testing.assert_close(place, place_of(samples, view)[seen], atol=1e-4, rtol=0)


def test_views_are_averaged_by_how_squarely_they_see(samples, renderer) -> None:
    views = [renderer.render(look_at(0.2, azimuth), GREY) for azimuth in (0.0, 0.9)]
    maps = torch.zeros(2, 2, GRID, GRID)
    maps[0, 0], maps[1, 1] = 1.0, 1.0
    lifted = lift_features(samples, views, maps)
    weights = torch.stack([visibility(samples, view)[1] for view in views], 1)  # [N, 2]
    torch.testing.assert_close(lifted.weight, weights.sum(1))
    seen = lifted.weight > 0
    torch.testing.assert_close(lifted.features[seen], torch.nn.functional.normalize(weights[seen], dim=1))


def test_what_no_view_shows_takes_the_nearest_seen_feature(samples, renderer) -> None:
    view = renderer.render(np.eye(3), GREY)
    lifted = lift_features(samples, [view], ramp(1))
    seen = np.flatnonzero(lifted.weight.numpy() > 0)
    hidden = np.flatnonzero(lifted.weight.numpy() == 0)
    assert len(hidden) > 300
    for i in hidden[::40]:
        nearest = seen[np.linalg.norm(samples.points[seen] - samples.points[i], axis=1).argmin()]
        torch.testing.assert_close(lifted.features[i], lifted.features[nearest])


def test_as_many_maps_as_views(samples, renderer) -> None:
    view = renderer.render(np.eye(3), GREY)
    with pytest.raises(ValueError, match="zip"):
        lift_features(samples, [view], ramp(2))
