"""Covariance by curvature: agrees with differences of eq. 8, with the scatter of noisy answers, and knows what it cannot know."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pasr_perception.config import RefineConfig
from pasr_perception.crop import CropSpec, crop_detection
from pasr_perception.geometry.covariance import covariance_of_origin
from pasr_perception.geometry.se3 import exp_so3
from pasr_perception.refine import Hypotheses, Pose, refine, similarity
from pasr_perception.refine.covariance import (
    TURN_VARIANCE,
    Noise,
    _curved,
    _curved_in_loops,
    pose_rate,
    spun,
    turned_back,
    unknowns_covariance,
)
from pasr_perception.refine.template import Problem
from pasr_perception.types import Camera, Detection, Frame

BARE = Noise(inflation=1.0, floor=(0.0, 0.0, 0.0))  # nothing but the curvature
TURNING = RefineConfig(unknowns=3)
FAR = 0.2  # radians between the looks that eq. 8's curvature is read from: farther than points come and go


def covariance(
    stage: Any, start: Hypotheses, pose: Pose, maps: torch.Tensor, noise: Noise, config: RefineConfig | None = None
) -> torch.Tensor:
    assert start.boxes is not None
    problem = Problem.of(start, stage.clouds, maps, stage.scene, config or TURNING)
    return unknowns_covariance(problem, pose, start.boxes, noise)


@pytest.mark.parametrize("unknowns", [3, 6])
def test_loops_are_as_sure_as_tensors(stage: Any, unknowns: int) -> None:
    truth = Pose.by_outline(stage.poses(8, 1))
    start, config = stage.start(truth, 8, 2), RefineConfig(unknowns=unknowns)
    problem = Problem.of(start, stage.clouds, noisy(stage.maps(truth), 0.7, 3), stage.scene, config)
    problem = replace(problem, boxes=None)
    for found, twin in zip(_curved_in_loops(truth, problem), _curved(truth, problem), strict=True):
        torch.testing.assert_close(found, twin, rtol=2e-3, atol=1e-3 * float(twin.abs().max()))


def noisy(maps: torch.Tensor, amount: float, seed: int) -> torch.Tensor:
    noise = torch.randn(maps.shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(maps + amount * noise / maps.shape[1] ** 0.5, dim=1)


def test_the_rotation_part_is_the_inverse_curvature_of_eq_8(stage: Any) -> None:
    truth = Pose.by_outline(stage.poses(8, 1))
    start, maps = stage.start(truth, 0, 2), noisy(stage.maps(truth), 0.7, 3)
    at = similarity(truth.rotation, start.cloud, start.crop, stage.clouds, maps, stage.scene)
    C = covariance(stage, start, truth, maps, BARE, replace(TURNING, robust_scale=0.0))

    def moved(k: int, step: float) -> torch.Tensor:
        turn = exp_so3(step * torch.eye(3)[k])
        return similarity(turn @ truth.rotation, start.cloud, start.crop, stage.clouds, maps, stage.scene)

    measured = torch.stack([(2 * at - moved(k, FAR) - moved(k, -FAR)) / FAR**2 for k in range(3)], 1)
    inverse = torch.linalg.inv(C[:, :3, :3])
    scale = inverse.diagonal(dim1=1, dim2=2) / measured
    assert 0.5 < scale.median() / scale[:, 0].median() < 2  # one scale for all axes
    assert (scale / scale.mean(1, keepdim=True) - 1).abs().median() < 0.5  # and for all poses


def test_normalised_errors_of_noisy_refinements_are_those_of_three_numbers(stage: Any) -> None:
    truth = Pose.by_outline(stage.poses(16, 4))
    start, config = stage.start(truth, 5, 5), replace(TURNING, iterations=4)
    squared = []
    for seed in range(3):
        maps = noisy(stage.maps(truth), 2.0, seed)
        result = refine(start, stage.clouds, maps, stage.scene, config)
        C = covariance(stage, start, result.pose, maps, BARE, config)[:, :3, :3]
        R = result.rotation @ truth.rotation.transpose(1, 2)
        w = torch.stack([R[:, 2, 1] - R[:, 1, 2], R[:, 0, 2] - R[:, 2, 0], R[:, 1, 0] - R[:, 0, 1]], 1).double() / 2
        squared.append((w[:, None] @ torch.linalg.inv(C) @ w[..., None])[:, 0, 0])
    assert 0.4 < torch.cat(squared).median() / 2.37 < 2.5  # the median of chi^2 of three numbers


def test_shift_and_scale_are_as_sure_as_the_box_and_a_clipped_edge_says_nothing(stage: Any) -> None:
    truth = Pose.by_outline(stage.poses(2, 6))
    start = stage.start(truth, 0, 7)
    assert start.boxes is not None
    clipped = torch.tensor([[False] * 4, [True, False, True, False]])
    start = replace(start, boxes=replace(start.boxes, clipped=clipped))
    noise = Noise()
    C = covariance(stage, start, truth, stage.maps(truth), noise)
    deviations = C.diagonal(dim1=1, dim2=2).sqrt()
    assert noise.edge / 4 < deviations[0, 3] < noise.edge
    assert noise.edge / 4 < deviations[0, 5] < 2 * noise.edge
    assert deviations[1, 3] > 5 * deviations[0, 3]  # left and right are cut
    assert deviations[1, 4] < 3 * deviations[0, 4]


def test_where_refinement_moves_the_image_it_tells_more_of_place_and_size_than_the_box(stage: Any) -> None:
    truth = Pose.by_outline(stage.poses(6, 6))
    start, maps = stage.start(truth, 0, 7), stage.maps(truth)
    by_box, by_both = (
        covariance(stage, start, truth, maps, Noise(), RefineConfig(unknowns=unknowns)) for unknowns in (3, 6)
    )
    gain = (by_both / by_box).diagonal(dim1=1, dim2=2)[:, 3:]
    assert (gain < 1).all()
    assert (torch.linalg.eigvalsh(by_both) > 0).all()


def test_what_nothing_tells_of_is_a_whole_turn_unsure(stage: Any) -> None:
    truth = Pose.by_outline(stage.poses(1, 8))
    plain = replace(stage, clouds=replace(stage.clouds, parts=torch.ones_like(stage.clouds.features)))
    start, maps = stage.start(truth, 0, 9), torch.nn.functional.normalize(torch.ones_like(stage.maps(truth)), dim=1)
    C = covariance(plain, start, truth, maps, BARE)
    deviations = C[0, :3, :3].diagonal().sqrt()
    assert (deviations > 1).all()
    assert (deviations <= TURN_VARIANCE**0.5 + 1e-6).all()


def test_turned_back_turns_rotation_and_shift() -> None:
    C = torch.diag(torch.tensor([1.0, 2, 3, 4, 5, 6])).double()[None]
    quarter = exp_so3(torch.tensor([0.0, 0.0, np.pi / 2])).double()[None]
    torch.testing.assert_close(turned_back(C, quarter)[0].diagonal(), torch.tensor([2.0, 1, 3, 5, 4, 6]).double())


def test_pose_rates_are_the_derivatives_of_the_lift() -> None:
    camera = Camera(640, 480, np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]))
    frame = Frame(np.zeros((480, 640, 3), np.uint8), camera)
    crop = crop_detection(frame, Detection(np.array([350.0, 90, 450, 230])), CropSpec(224, 0.8))
    points = np.random.default_rng(0).uniform(-1, 1, (300, 3)) * [0.05, 0.08, 0.1]
    rate = pose_rate(np.eye(3), np.zeros(3), points, crop, camera)
    np.testing.assert_allclose(rate[3:, :3], crop.R_cam_crop)
    away = rate[:3, 5]  # larger in the image: nearer, along the ray to the object
    np.testing.assert_allclose(away / np.linalg.norm(away), -crop.R_cam_crop[:, 2], atol=0.1)
    sideways = crop.R_cam_crop.T @ rate[:3, 3]
    np.testing.assert_allclose(sideways[1:], 0, atol=1e-9)
    assert sideways[0] == pytest.approx(np.linalg.norm(away) * 224 / crop.K_crop[0, 0], rel=0.01)


def test_a_spun_axis_is_free_and_takes_an_origin_beside_it_along() -> None:
    C = spun(1e-6 * np.eye(6), np.array([[0.0, 1.0, 0.0]]))
    assert C[4, 4] == pytest.approx(TURN_VARIANCE, rel=1e-3)
    assert C[3, 3] == C[5, 5] == 1e-6
    origin = covariance_of_origin(C, np.eye(3), np.array([0.1, 0.0, 0.0]))
    assert origin[2, 2] == pytest.approx(0.01 * TURN_VARIANCE, rel=1e-2)
    assert origin[1, 1] < 1e-5
