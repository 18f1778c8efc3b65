"""What a pixel takes, checked by hand on a few points, for every backend."""

from __future__ import annotations

import math

import pytest
import torch

from pasr_perception.render import splat as fast
from pasr_perception.render.splat import Fragments, SplatConfig, composite, splat

SIZE = 4
ONE_PIXEL = SplatConfig(size=SIZE, radius=2 / SIZE, points_per_pixel=3)  # a radius of exactly one pixel


def by_pixel(fragments: Fragments) -> dict[int, list[int]]:
    return dict(zip(fragments.pixel.tolist(), fragments.index.tolist(), strict=True))


def cloud(*points: tuple[float, float, float]) -> tuple[torch.Tensor, torch.Tensor]:
    """One cloud from (u, v, depth) rows: uv [1, N, 2], depth [1, N]."""
    rows = torch.tensor(points).reshape(1, -1, 3)
    return rows[..., :2], rows[..., 2]


def test_radius_is_strict(rasterise):
    fragments = rasterise(*cloud((1.5, 2.5, 1.0)), ONE_PIXEL)  # the four neighbours are exactly one pixel away
    assert by_pixel(fragments) == {2 * SIZE + 1: [0, -1, -1]}
    assert fragments.weight.tolist() == [[1.0, 0.0, 0.0]]


def test_weight_falls_with_squared_distance(rasterise):
    fragments = rasterise(*cloud((1.75, 2.5, 1.0)), ONE_PIXEL)
    assert by_pixel(fragments) == {9: [0, -1, -1], 10: [0, -1, -1]}
    torch.testing.assert_close(fragments.weight[:, 0], torch.tensor([1 - 0.25**2, 1 - 0.75**2]), atol=1e-6, rtol=0)


def test_nearest_come_first_and_the_rest_are_cut(rasterise):
    points = [(0.5, 0.5, z) for z in (3.0, 1.0, 4.0, 2.0, 5.0)]
    assert by_pixel(rasterise(*cloud(*points), ONE_PIXEL)) == {0: [1, 3, 0]}


def test_ties_go_by_index(rasterise):
    points = [(0.5 + 0.01 * n, 0.5, z) for n, z in enumerate((2.0, 1.0, 2.0, 1.0, 1.0))]
    assert by_pixel(rasterise(*cloud(*points), ONE_PIXEL))[0] == [1, 3, 4]


def test_empty_slots_are_minus_one_with_no_weight(rasterise):
    fragments = rasterise(*cloud((0.5, 0.5, 2.0), (0.5, 0.5, 1.0)), ONE_PIXEL)
    assert fragments.index.tolist() == [[1, 0, -1]]
    assert fragments.weight.tolist() == [[1.0, 1.0, 0.0]]


def test_behind_the_camera_is_dropped_and_depth_zero_is_not(rasterise):
    points = cloud((0.5, 0.5, -1e-6), (0.5, 0.5, 0.0), (0.5, 0.5, math.nan), (math.nan, 0.5, 1.0), (0.5, math.inf, 1.0))
    assert by_pixel(rasterise(*points, ONE_PIXEL)) == {0: [1, -1, -1]}


def test_a_point_outside_reaches_only_the_pixels_at_its_side(rasterise):
    fragments = rasterise(*cloud((-0.25, 0.5, 1.0), (4.25, 3.5, 1.0), (2.0, -7.0, 1.0)), ONE_PIXEL)
    assert by_pixel(fragments) == {0: [0, -1, -1], 15: [1, -1, -1]}


def test_nothing_seen_gives_no_pixels(rasterise):
    fragments = rasterise(*cloud((-5.0, 0.5, 1.0)), ONE_PIXEL)
    assert fragments.pixel.shape == (0,)
    assert fragments.index.shape == fragments.weight.shape == (0, 3)


def test_depth_band_hides_what_lies_farther_behind_the_front(rasterise):
    config = SplatConfig(size=SIZE, radius=2 / SIZE, points_per_pixel=3, depth_band=0.5)
    points = [(0.5, 0.5, z) for z in (2.25, 1.0, 1.5, 1.75)] + [(3.5, 3.5, 9.0)]
    fragments = rasterise(*cloud(*points), config)
    assert by_pixel(fragments) == {0: [1, 2, -1], 15: [4, -1, -1]}
    assert fragments.weight[0].tolist() == [1.0, 1.0, 0.0]


def test_clouds_of_a_batch_do_not_mix(rasterise):
    generator = torch.Generator().manual_seed(3)
    config = SplatConfig(size=9, radius=0.3, points_per_pixel=4)
    uv, depth = torch.rand(3, 40, 2, generator=generator) * 9, torch.rand(3, 40, generator=generator)
    together = rasterise(uv, depth, config)
    for b in range(3):
        alone = rasterise(uv[b : b + 1], depth[b : b + 1], config)
        own = together.pixel // 81 == b
        assert torch.equal(together.pixel[own] - b * 81, alone.pixel)
        assert torch.equal(together.index[own], alone.index)
        assert torch.equal(together.weight[own], alone.weight)


def test_image_is_the_weighted_mean_and_the_mask_what_is_covered(rasterise):
    features = torch.tensor([[1.0, 0.0], [0.0, 10.0]])
    image, mask = splat(*cloud((1.75, 2.5, 1.0), (1.5, 2.5, 2.0)), features, ONE_PIXEL, rasterise)
    assert image.shape == (1, 2, SIZE, SIZE)
    assert mask.nonzero().tolist() == [[0, 2, 1], [0, 2, 2]]
    first = 1 - 0.25**2
    expected = torch.tensor([first / (first + 1), 10 / (first + 1)])
    torch.testing.assert_close(image[0, :, 2, 1], expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(image[0, :, 2, 2], features[0], atol=1e-6, rtol=0)
    assert image.permute(0, 2, 3, 1)[~mask].abs().max() == 0


def test_a_weight_sum_below_the_floor_fades_to_zero(rasterise):
    distance = 1 - 2.5e-6  # weight about 5e-6, against the compositor's floor of 1e-4
    image, mask = splat(*cloud((0.5 + distance, 0.5, 1.0)), torch.tensor([[1.0]]), ONE_PIXEL, rasterise)
    assert mask[0, 0, 0]
    assert image[0, 0, 0, 0].item() == pytest.approx(0.05, rel=0.05)


def test_cloud_chooses_the_features():
    fragments = fast.rasterise(torch.tensor([[[0.5, 0.5]], [[3.5, 3.5]]]), torch.ones(2, 1), ONE_PIXEL)
    features = torch.tensor([[[1.0]], [[2.0]], [[3.0]]])  # three clouds of one point
    assert composite(fragments, features, cloud=torch.tensor([2, 1])).tolist() == [[3.0], [2.0]]


def test_wrong_shapes_are_named(rasterise):
    with pytest.raises(ValueError, match=r"uv \[B, N, 2\].*got \[1, 5, 3\] and \[1, 5\]"):
        rasterise(torch.zeros(1, 5, 3), torch.zeros(1, 5), ONE_PIXEL)
    with pytest.raises(ValueError, match=r"depth \[B, N\], got \[1, 5, 2\] and \[1, 4\]"):
        rasterise(torch.zeros(1, 5, 2), torch.zeros(1, 4), ONE_PIXEL)


@pytest.mark.parametrize("name", ["size", "radius", "points_per_pixel", "depth_band"])
def test_config_refuses_what_is_not_positive(name):
    with pytest.raises(ValueError, match=f"splat.{name}: expected more than 0.*got 0"):
        SplatConfig(**{name: 0})
