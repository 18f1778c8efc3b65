"""Centring takes out what an object's features, or a mesh's, have in common."""

from __future__ import annotations

import pytest
import torch

from pasr_perception.encoders.centring import (
    SCALE_POWER,
    centred_cloud,
    centred_maps,
    centred_views,
    evened_cloud,
    share_inside,
)


def unit(x: torch.Tensor, dim: int) -> torch.Tensor:
    return torch.nn.functional.normalize(x, dim=dim)


def test_a_cloud_by_hand() -> None:
    features = torch.tensor([[1.0, 0.0, 2.0], [1.0, 2.0, 2.0], [1.0, 4.0, 8.0]])
    rest = torch.tensor([[-2.0, -2.0], [0.0, -2.0], [2.0, 4.0]])
    expected = unit(rest / torch.tensor([8 / 3, 8.0]).sqrt() ** SCALE_POWER, 1)
    centred = centred_cloud(features)
    assert torch.allclose(centred[:, 1:], expected, atol=1e-6)
    assert torch.equal(centred[:, 0], torch.zeros(3))  # the same everywhere: nothing is left of it


def test_half_of_what_points_have_in_common_is_taken_out_by_hand() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.8, 0.6]])  # mean .6, .6
    expected = unit(torch.tensor([[0.7, -0.3], [-0.3, 0.7], [0.3, 0.5], [0.5, 0.3]]), 1)
    torch.testing.assert_close(evened_cloud(features), expected)


def test_maps_are_centred_crop_by_crop_over_turns_and_what_is_inside() -> None:
    maps = torch.randn(2, 4, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    everything = torch.ones(2, 4, 3, 3)
    centred = centred_maps(maps, everything)
    for b in range(2):
        cells = maps[b].permute(0, 2, 3, 1).reshape(-1, 5)
        assert torch.allclose(centred[b].permute(0, 2, 3, 1).reshape(-1, 5), centred_cloud(cells), atol=1e-6)
    assert torch.allclose(centred.norm(dim=2), torch.ones(2, 4, 3, 3))
    part = torch.zeros(2, 4, 3, 3)
    part[:, :, 1, :2] = 1
    centred = centred_maps(maps, part)[0, :, :, 1, :2].permute(0, 2, 1).reshape(-1, 5)
    assert torch.allclose(centred, centred_cloud(maps[0, :, :, 1, :2].permute(0, 2, 1).reshape(-1, 5)), atol=1e-6)


def test_a_colour_cast_changes_nothing() -> None:
    maps = torch.randn(1, 2, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    cast = torch.tensor([3.0, -1.0, 0.5, 0.0]).view(1, 1, 4, 1, 1)
    inside = torch.rand(1, 2, 3, 3, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(centred_maps(maps + cast, inside), centred_maps(maps, inside), atol=1e-5)


def test_views_are_centred_as_crops_are_each_over_its_own_box() -> None:
    maps = torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(3))
    boxes = torch.tensor([[0.25, 0.0, 0.75, 1.0], [0.5, 0.5, 1.0, 0.75]])
    centred = centred_views(maps, boxes)
    for view, (rows, columns) in enumerate(((slice(0, 4), slice(1, 3)), (slice(2, 3), slice(2, 4)))):
        inside = maps[view, :, rows, columns].flatten(1).T
        assert torch.allclose(centred[view, :, rows, columns].flatten(1).T, centred_cloud(inside), atol=1e-6)
    assert torch.allclose(centred.norm(dim=1), torch.ones(2, 4, 4))


def test_share_inside_by_hand() -> None:
    inside = share_inside(torch.tensor([[0.125, 0.5, 0.75, 1.3]]), (0, 1), 4)
    across, down = torch.tensor([0.5, 1.0, 1.0, 0.0]), torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert torch.allclose(inside[0, 0], down[:, None] * across)
    assert torch.allclose(inside[0, 1], torch.rot90(down[:, None] * across))


def test_a_sliver_of_a_box_still_has_an_inside() -> None:
    assert share_inside(torch.tensor([[0.30, 0.1, 0.31, 0.9]]), (0,), 4).sum() == pytest.approx(0.04 * 3.2, abs=1e-5)


def test_a_box_beside_its_crop_is_refused() -> None:
    with pytest.raises(ValueError, match=r"boxes: expected all to overlap the crop"):
        share_inside(torch.tensor([[0.1, 0.1, 0.9, 0.9], [1.2, 0.1, 1.4, 0.5]]), (0,), 4)
