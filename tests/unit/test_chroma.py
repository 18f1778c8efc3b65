"""Colours compared: hand-made pixels, the compiled sums against their twins and both against pixels taken one by one."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from pasr_perception.chroma import (
    GREY,
    agreement,
    chroma_of,
    crop_chroma,
    splats_agreement,
    splats_sums,
    templates_sums,
    templates_sums_of_runs,
)
from pasr_perception.geometry.placement import ViewSpec
from pasr_perception.kernels.chroma import SUMS
from pasr_perception.refine.problem import Clouds, Pose, RenderScene
from pasr_perception.refine.similarity import render
from pasr_perception.render.splat import SplatConfig
from pasr_perception.templates import ChosenPoses, SparseCloud, build_templates, pixel_runs
from pasr_perception.types import Crop, Detection

SPLAT = SplatConfig(size=12, radius=0.2, points_per_pixel=4, depth_band=0.2)
SCENE = RenderScene(ViewSpec(), SPLAT)
TURNS = 3


def sums_of(shown: np.ndarray, seen: np.ndarray) -> torch.Tensor:
    """[1, 8] of chroma [M, 2], pixel by pixel."""
    sums = np.zeros(SUMS)
    for m, s in zip(shown, seen, strict=True):
        sums += [1, *m, *s, m @ m, s @ s, m @ s]
    return torch.tensor(sums, dtype=torch.float32)[None]


def agreed(shown: np.ndarray, seen: np.ndarray) -> float:
    return float(agreement(sums_of(shown, seen))[0])


@pytest.fixture
def print_of_a_box() -> np.ndarray:
    """Chroma of two loud colours [64, 2]."""
    return np.where(np.arange(64)[:, None] % 2, [60.0, 10.0], [-20.0, 50.0])


def test_chroma_of_known_colours() -> None:
    red, white, grey, blue = chroma_of(np.array([[255, 0, 0], [255, 255, 255], [90, 90, 90], [0, 0, 255]], np.uint8))
    np.testing.assert_allclose(red, [80.1, 67.2], atol=0.3)
    np.testing.assert_allclose(blue, [79.2, -107.9], atol=0.3)
    assert np.abs([white, grey]).max() < 0.1
    np.testing.assert_allclose(chroma_of(np.array([[1.0, 0, 0]]))[0], red, atol=0.01)


def test_the_same_colours_agree_and_opposite_ones_do_not(print_of_a_box: np.ndarray) -> None:
    assert agreed(print_of_a_box, print_of_a_box) == pytest.approx(1, abs=0.05)
    assert agreed(print_of_a_box, -print_of_a_box) == pytest.approx(-1, abs=0.05)
    swapped = np.roll(print_of_a_box, 1, axis=0)  # of the same hues, elsewhere
    assert agreed(print_of_a_box, swapped) < 0.1


def test_grey_has_no_opinion(print_of_a_box: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    grey = rng.normal(0, GREY / 20, print_of_a_box.shape)
    assert abs(agreed(print_of_a_box, grey)) < 0.05
    assert abs(agreed(grey, print_of_a_box)) < 0.05
    assert abs(agreed(grey, grey)) < 0.05


def test_light_of_another_colour_is_half_forgiven(print_of_a_box: np.ndarray) -> None:
    assert agreed(print_of_a_box, print_of_a_box - 30) > 0.6
    assert agreed(print_of_a_box, 0.6 * print_of_a_box) > 0.9


def test_no_pixels_say_nothing() -> None:
    assert agreement(torch.zeros(2, SUMS)).tolist() == [0, 0]


def test_cells_of_a_crop_turn_as_its_maps_do() -> None:
    image = np.zeros((48, 48, 3), np.uint8)
    image[:24, :24] = 255, 0, 0  # the upper left quarter is red
    crop = Crop(image, np.eye(3), np.eye(3), np.zeros(4), np.zeros(4, bool), Detection(np.zeros(4)))
    upright, once = crop_chroma([crop], 12, (0, 1))[0].unflatten(1, (12, 12))
    assert torch.equal(upright[:6, :6, 0] > 50, torch.ones(6, 6, dtype=torch.bool))
    assert float(upright[6:].abs().max()) < 0.1
    assert torch.equal(once, torch.rot90(upright, 1, (0, 1)))  # anticlockwise, as `turn_maps` turns


@pytest.fixture
def coloured(toy: Any) -> tuple[SparseCloud, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A cloud with colours, its points, poses, and the chroma of a crop in turns."""
    points, features = toy.cloud(3)
    rotation = toy.rotations(9)
    generator = torch.Generator().manual_seed(5)
    chroma = 40 * torch.randn(len(points), 2, generator=generator)
    templates = build_templates(points, features, rotation, SCENE.view, SPLAT)
    cells = 40 * torch.randn(TURNS, SPLAT.size**2, 2, generator=generator)
    return SparseCloud.of(features, templates, chroma), points, rotation, cells


def test_templates_are_summed_alike_on_any_device(coloured) -> None:
    cloud, _, _, cells = coloured
    turn, pose = np.array([0, 2, 1, 1, 0]), np.array([4, 0, 8, 3, 3])
    runs = pixel_runs(cloud.templates, len(cloud.features))
    chosen = ChosenPoses(cells, cloud, turn, pose)
    rendered = dataclasses.replace(chosen, cloud=dataclasses.replace(cloud, runs=runs))
    twin = templates_sums_of_runs(rendered)
    bare = dataclasses.replace(chosen, cloud=dataclasses.replace(cloud, chroma=None))
    of_none, found = templates_sums([bare, chosen])
    assert torch.allclose(found, twin, rtol=1e-4, atol=0.1)
    assert not of_none.any()
    assert torch.equal(templates_sums([rendered])[0], twin)
    assert agreement(twin).std() > 0.01


def test_splats_are_summed_alike_on_any_device_and_at_its_pose_a_template_is_a_splat(coloured) -> None:
    cloud, points, rotation, cells = coloured
    none = torch.zeros(len(rotation), dtype=torch.long)
    clouds = Clouds(points[None], cloud.features[None], chroma=cloud.chroma[None])
    moved = dataclasses.replace(Pose.by_outline(rotation), shift=torch.full((len(rotation), 2), 0.05))
    for pose in (Pose.by_outline(rotation), moved):
        found = splats_agreement(pose, none, clouds, cells, none + 1, SCENE)
        assert torch.allclose(found, agreement(splats_sums(pose, none, clouds, cells, none + 1, SCENE)), atol=1e-4)
    chosen = ChosenPoses(cells, cloud, np.ones(len(rotation), int), np.arange(len(rotation)))
    at_poses = agreement(templates_sums([chosen])[0])
    still = splats_agreement(Pose.by_outline(rotation), none, clouds, cells, none + 1, SCENE)
    assert torch.allclose(still, at_poses, atol=1e-3)


def test_a_mesh_without_colours_has_no_opinion(coloured) -> None:
    cloud, points, rotation, cells = coloured
    bare = dataclasses.replace(cloud, chroma=None)
    (sums,) = templates_sums([ChosenPoses(cells, bare, np.zeros(2, int), np.arange(2))])
    assert agreement(sums).tolist() == [0, 0]
    none = torch.zeros(2, dtype=torch.long)
    clouds = Clouds(points[None], cloud.features[None])
    assert splats_agreement(Pose.by_outline(rotation[:2]), none, clouds, cells, none, SCENE).tolist() == [0, 0]


def test_what_shows_a_mesh_in_its_colours_agrees_most_at_its_pose(coloured) -> None:
    cloud, points, rotation, _ = coloured
    clouds = Clouds(points[None], cloud.features[None], chroma=cloud.chroma[None])
    none = torch.zeros(len(rotation), dtype=torch.long)
    smooth = dataclasses.replace(clouds, chroma=60 * points[None, :, :2])  # colours that say where on it one is
    image = torch.zeros(1, SPLAT.size**2, 2)
    rendered = render(Pose.by_outline(rotation[4:5]), none[:1], Clouds(points[None], smooth.chroma), SCENE)
    image[0, rendered.cell] = rendered.feature
    found = splats_agreement(Pose.by_outline(rotation), none, smooth, image, none, SCENE)
    assert int(found.argmax()) == 4
    assert float(found[4]) > 0.7
