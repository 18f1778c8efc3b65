"""Newton refinement: right derivatives, convergence over 3, 5 and 6 unknowns, and what it must never do."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from pasr_perception.config import RefineConfig
from pasr_perception.geometry.viewpoints import look_at
from pasr_perception.refine import Boxes, Clouds, Contest, Hypotheses, Pose, refine, similarity
from pasr_perception.refine.newton import (
    LATE_TRUST,
    TRUST,
    Carried,
    next_in_tensors,
    next_pose,
    splat_model,
)
from pasr_perception.refine.quadratic import distance, moved_by
from pasr_perception.refine.template import Problem, cut_template, splat

STEP = 1e-5
TURNING = RefineConfig(unknowns=3, iterations=3)  # the box is taken as it is


def displaced(stage: Any, count: int, seed: int, unknowns: int) -> Pose:
    """True poses that are off their outline's placement where that is an unknown."""
    generator = torch.Generator().manual_seed(seed)
    shift = 0.04 * (2 * torch.rand(count, 2, generator=generator) - 1) * (unknowns >= 5)
    log_scale = 0.1 * (2 * torch.rand(count, generator=generator) - 1) * (unknowns >= 6)
    return Pose(stage.poses(count, seed), shift, log_scale)


@pytest.mark.parametrize("unknowns", [3, 5, 6])
def test_derivatives_agree_with_differences(stage: Any, unknowns: int) -> None:
    clouds = Clouds(stage.clouds.points.double(), stage.clouds.features.double())
    truth = displaced(stage, 3, 1, 6)
    start = stage.start(truth, 12, 2)
    boxes = Boxes(start.boxes.edges.double(), start.boxes.clipped)
    given = Hypotheses(start.rotation.double(), start.cloud, start.crop, boxes)
    config = RefineConfig(unknowns=unknowns, coverage_weight=0.1)
    problem = Problem.of(given, clouds, stage.maps(truth, 3).double(), stage.scene, config)
    splatted = splat(Pose.by_outline(given.rotation), problem)
    template = cut_template(splatted, problem)
    carried = Carried(template, problem)
    pose = moved_by(template.pose, 0.03 * torch.tensor([[1.0, -2, 1, 1, -1, 2]]).double().expand(3, -1)[:, :unknowns])
    at, start_model = carried.model(pose), splat_model(template, problem)
    for k in range(unknowns):
        step = STEP * torch.eye(unknowns).double()[k].expand(3, -1)
        slope = carried.model(moved_by(pose, step)).value - carried.model(moved_by(pose, -step)).value
        torch.testing.assert_close(at.gradient[:, k], slope / (2 * STEP), rtol=0.02, atol=2e-3)
    # both models stand on the same template: where the splat's derivative is, there the carried one is halfway to
    free = carried.model(template.pose)
    torch.testing.assert_close(
        2 * free.gradient - start_model.gradient, carried_alone(carried, template.pose), rtol=0.05, atol=0.02
    )


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("unknowns", [3, 5, 6])
def test_loops_go_where_tensors_go(stage: Any, unknowns: int, far: bool) -> None:
    truth = displaced(stage, 8, 1, 6)
    config = RefineConfig(unknowns=unknowns)
    problem = Problem.of(stage.start(truth, 12, 2), stage.clouds, stage.maps(truth, 3), stage.scene, config)
    if problem.boxes is not None:  # one edge beyond which the image ends, and one hypothesis that its box does not hold
        problem.boxes.clipped[0, 1] = True
        problem = dataclasses.replace(problem, toll=0.05 * torch.arange(8.0))
    pose = Pose(stage.start(truth, 12, 2).rotation, 0.5 * truth.shift, 0.5 * truth.log_scale)
    trust, damping = torch.full((8,), TRUST), torch.full((8,), 0.1)
    found, twin = (go(problem, pose, trust, damping, far) for go in (next_pose, next_in_tensors))
    assert (distance(twin, pose) > 0.01).all()
    for name in ("rotation", "shift", "log_scale"):
        torch.testing.assert_close(getattr(found, name), getattr(twin, name), atol=1e-3, rtol=0)
    assert distance(found, pose).max() <= 1.001 * (TRUST if far else LATE_TRUST) + 1e-5


def test_a_known_similarity_at_the_start_is_taken_as_it_is(stage: Any) -> None:
    truth = displaced(stage, 6, 3, 6)
    start, maps = stage.start(truth, 12, 5), stage.maps(truth, 6)
    known = dataclasses.replace(
        start, similarity=similarity(start.rotation, start.cloud, start.crop, stage.clouds, maps, stage.scene)
    )
    found, alone = (refine(s, stage.clouds, maps, stage.scene, RefineConfig()) for s in (known, start))
    torch.testing.assert_close(found.rotation, alone.rotation, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.similarity, alone.similarity)
    lucky = dataclasses.replace(
        known, similarity=torch.full((6,), 2.0)
    )  # nothing is better, so all stay where they are
    stayed = refine(lucky, stage.clouds, maps, stage.scene, RefineConfig())
    torch.testing.assert_close(stayed.rotation, start.rotation)


def test_a_crop_of_no_numbers_moves_nothing(stage: Any) -> None:
    truth = displaced(stage, 2, 1, 6)
    maps = torch.full_like(stage.maps(truth), torch.nan)
    start = stage.start(truth, 12, 2)
    result = refine(start, stage.clouds, maps, stage.scene, RefineConfig(unknowns=6))
    torch.testing.assert_close(result.rotation, start.rotation)


def carried_alone(carried: Carried, pose: Pose) -> torch.Tensor:
    """The gradient of the product maps without the rendering's share."""
    tilt, carried._tilt = carried._tilt, torch.zeros_like(carried._tilt)
    gradient = carried.model(pose).gradient
    carried._tilt = tilt
    return gradient


@pytest.mark.parametrize(("unknowns", "iterations"), [(3, 4), (5, 8), (6, 8)])
def test_it_recovers_poses_twelve_degrees_off(stage: Any, unknowns: int, iterations: int) -> None:
    truth = displaced(stage, 12, 4, unknowns)
    start = stage.start(truth, 12, 5, of_splat=unknowns == 6)  # without a scale a rendering ends where its points do
    config = RefineConfig(unknowns=unknowns, iterations=iterations)
    result = refine(start, stage.clouds, stage.maps(truth), stage.scene, config)
    assert stage.off_degrees(result.rotation, truth).median() < 2
    assert result.similarity.median() > 0.98
    if unknowns >= 5:
        before, after = truth.shift.norm(dim=1), (result.shift - truth.shift).norm(dim=1)
        assert after.median() < 0.3 * before.median()
        assert after.median() < 0.008
    if unknowns >= 6:
        assert (result.log_scale - truth.log_scale).abs().median() < 0.35 * truth.log_scale.abs().median()
    else:
        assert not result.log_scale.any()


def test_it_has_no_pole(stage: Any) -> None:
    views = np.stack([look_at(sign * np.pi / 2, a) for sign in (-1, 1) for a in (0.0, 1.0, 2.0, 3.0)])
    truth = Pose.by_outline(torch.as_tensor(views, dtype=torch.float32))
    result = refine(stage.start(truth, 10, 4), stage.clouds, stage.maps(truth), stage.scene, TURNING)
    assert stage.off_degrees(result.rotation, truth).median() < 2


def test_its_loss_is_no_higher_than_that_of_fifty_adamw_steps(stage: Any) -> None:
    truth = Pose.by_outline(stage.poses(12, 6))
    start, maps = stage.start(truth, 14, 7), stage.maps(truth, 8)
    newton = refine(start, stage.clouds, maps, stage.scene, RefineConfig(unknowns=3, iterations=4))
    adamw = refine(start, stage.clouds, maps, stage.scene, RefineConfig(method="adamw"))
    assert (1 - newton.similarity).median() <= (1 - adamw.similarity).median()
    assert newton.similarity.min() > 0.98
    error, reference = (stage.off_degrees(r.rotation, truth).median() for r in (newton, adamw))
    assert error <= reference


@pytest.mark.parametrize("unknowns", [3, 6])
def test_it_never_ends_below_its_start(stage: Any, unknowns: int) -> None:
    truth = displaced(stage, 6, 9, unknowns)
    start, maps = stage.start(truth, 70, 10), stage.maps(truth, 11)
    config = RefineConfig(unknowns=unknowns)
    problem = Problem.of(start, stage.clouds, maps, stage.scene, config)
    before = splat(Pose.by_outline(start.rotation), problem)
    result = refine(start, stage.clouds, maps, stage.scene, config)
    after = splat(Pose(result.rotation, result.shift, result.log_scale), problem)
    assert (after.value >= before.value - 1e-6).all()
    assert (after.value > before.value + 1e-3).any()
    torch.testing.assert_close(after.similarity, result.similarity)


def test_no_iterations_change_nothing(stage: Any) -> None:
    truth = Pose.by_outline(stage.poses(2, 9))
    start, maps = stage.start(truth, 10, 1), stage.maps(truth)
    result = refine(start, stage.clouds, maps, stage.scene, RefineConfig(unknowns=6, iterations=0))
    assert torch.equal(result.rotation, start.rotation)
    expected = similarity(start.rotation, start.cloud, start.crop, stage.clouds, maps, stage.scene)
    torch.testing.assert_close(result.similarity, expected)


def test_half_of_the_object_may_be_hidden(stage: Any) -> None:
    truth = Pose.by_outline(stage.poses(12, 12))
    maps = stage.maps(truth)
    noise = torch.nn.functional.normalize(torch.randn(maps.shape, generator=torch.Generator().manual_seed(13)), dim=1)
    middle = maps.shape[-1] // 2
    maps[..., middle:] = noise[..., middle:]
    start = stage.start(truth, 10, 14)
    errors = [
        stage.off_degrees(
            refine(start, stage.clouds, maps, stage.scene, dataclasses.replace(TURNING, robust_scale=scale)).rotation,
            truth,
        )
        for scale in (0.0, 3.0)
    ]
    assert errors[1].median() < 4
    assert errors[1].mean() <= errors[0].mean() + 0.3


def test_coverage_keeps_a_rendering_from_shrinking(stage: Any) -> None:
    """Only the middle of the object matches: without the box's cost a smaller rendering is the better one."""
    truth = Pose.by_outline(stage.poses(8, 15))
    maps = stage.maps(truth)
    noise = torch.nn.functional.normalize(torch.randn(maps.shape, generator=torch.Generator().manual_seed(16)), dim=1)
    inner = slice(maps.shape[-1] // 4, -(maps.shape[-1] // 4))
    noise[..., inner, inner] = maps[..., inner, inner]
    start = stage.start(truth, 0, 17)
    free, held = (
        refine(start, stage.clouds, noise, stage.scene, RefineConfig(unknowns=6, iterations=6, coverage_weight=weight))
        for weight in (1e-6, 0.15)
    )
    assert free.log_scale.median() < -0.08
    assert free.similarity.mean() > held.similarity.mean()
    assert held.log_scale.abs().max() < 0.05


def test_a_batch_is_its_hypotheses_one_by_one(stage: Any) -> None:
    truth = displaced(stage, 4, 18, 6)
    start, maps = stage.start(truth, 12, 19), stage.maps(truth, 20)
    together = refine(start, stage.clouds, maps, stage.scene, RefineConfig(unknowns=6))
    for i in range(4):
        one = Hypotheses(
            start.rotation[i : i + 1],
            start.cloud[i : i + 1],
            start.crop[i : i + 1],
            Boxes(start.boxes.edges[i : i + 1], start.boxes.clipped[i : i + 1]),
        )
        alone = refine(one, stage.clouds, maps, stage.scene, RefineConfig(unknowns=6))
        torch.testing.assert_close(alone.rotation[0], together.rotation[i], rtol=0, atol=2e-3)
        torch.testing.assert_close(alone.similarity[0], together.similarity[i], rtol=0, atol=1e-3)


def test_shift_and_scale_need_a_box(stage: Any) -> None:
    start = Hypotheses(stage.poses(1, 1), torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long))
    maps = stage.maps(Pose.by_outline(start.rotation))
    with pytest.raises(
        ValueError, match=r"start\.boxes: expected the detections' boxes to refine 6 unknowns, got None"
    ):
        refine(start, stage.clouds, maps, stage.scene, RefineConfig(unknowns=6))
    refine(start, stage.clouds, maps, stage.scene, RefineConfig(unknowns=3))


def test_leading_channels_are_enough_to_say_where_to_look(stage: Any) -> None:
    """What is reached is judged by all channels; the way there may go by three quarters of them."""
    truth = Pose.by_outline(stage.poses(12, 6))
    start, maps = stage.start(truth, 12, 7), stage.maps(truth, 8)
    features = stage.clouds.features[0]
    channels = torch.linalg.eigh(features.T @ features)[1].flip(1)[:, :12]
    narrow = dataclasses.replace(stage.clouds, channels=channels)
    config = RefineConfig(unknowns=3, iterations=4)
    by_all, by_some = (refine(start, clouds, maps, stage.scene, config) for clouds in (stage.clouds, narrow))
    assert by_some.similarity.median() > by_all.similarity.median() - 0.005
    again = refine(
        dataclasses.replace(start, rotation=by_some.rotation),
        stage.clouds,
        maps,
        stage.scene,
        RefineConfig(iterations=0),
    )
    torch.testing.assert_close(again.similarity, by_some.similarity)


def test_only_finalists_go_on_after_the_first_iteration(stage: Any) -> None:
    truth = Pose.by_outline(stage.poses(6, 6))
    start, maps = stage.start(truth, 12, 7), stage.maps(truth, 8)
    contest = Contest((3, 3), torch.zeros(6), torch.ones(6))
    config = RefineConfig(unknowns=3, iterations=4, finalists=1)
    short, long = (
        refine(start, stage.clouds, maps, stage.scene, dataclasses.replace(config, iterations=n)) for n in (1, 4)
    )
    found = refine(dataclasses.replace(start, contest=contest), stage.clouds, maps, stage.scene, config)
    for part in (slice(0, 3), slice(3, 6)):
        final = part.start + int(
            short.similarity[part].argmax()
        )  # the first of four iterations is no other than of one
        others = [i for i in range(part.start, part.stop) if i != final]
        torch.testing.assert_close(found.rotation[final], long.rotation[final], atol=1e-4, rtol=0)
        torch.testing.assert_close(found.rotation[others], short.rotation[others], atol=1e-4, rtol=0)
