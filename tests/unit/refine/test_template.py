"""Templates: their value is eq. 8, their pull the splat's own gradient, and robust weights by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from pasr_perception.config import RefineConfig
from pasr_perception.refine import Boxes, Hypotheses, Pose, similarity
from pasr_perception.refine.template import (
    RESIDUAL_FLOOR,
    Problem,
    Splatted,
    closer,
    cut_template,
    robust_weight,
    splat,
    visit,
)
from pasr_perception.render.splat import composite, rasterise, rasterise_all

CONFIG = RefineConfig(unknowns=6)


@pytest.fixture(scope="module")
def problem(stage: Any) -> tuple[Problem, Pose]:
    truth = Pose.by_outline(stage.poses(3, 1))
    start = stage.start(truth, 12, 2)
    made = Problem.of(start, stage.clouds, stage.maps(truth, 3), stage.scene, CONFIG)
    return made, Pose.by_outline(start.rotation)


def test_a_splat_is_worth_eq_8_less_the_boxes_cost(stage: Any, problem: tuple[Problem, Pose]) -> None:
    truth = Pose.by_outline(stage.poses(3, 1))
    start, maps = stage.start(truth, 12, 2), stage.maps(truth, 3)
    expected = similarity(start.rotation, start.cloud, start.crop, stage.clouds, maps, stage.scene)
    found = splat(problem[1], problem[0])
    torch.testing.assert_close(found.similarity, expected)
    assert (found.value < found.similarity).all()
    free = dataclasses.replace(problem[0], boxes=None)
    torch.testing.assert_close(splat(problem[1], free).value, expected)


def test_a_visit_is_worth_what_the_splat_is(problem: tuple[Problem, Pose]) -> None:
    made, pose = problem
    seen, visited = splat(pose, made), visit(pose, made)
    assert not isinstance(visited, Splatted)  # the CPU's loop was asked
    torch.testing.assert_close(visited.similarity, seen.similarity, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(visited.value, seen.value, atol=1e-5, rtol=1e-5)


def test_the_pull_is_the_splats_gradient(stage: Any, problem: tuple[Problem, Pose]) -> None:
    """Moving all points together: the pixels' gradients add up to what autograd finds through the splat."""
    made, pose = problem
    splatted: Splatted = splat(pose, made)
    pull = closer(splatted, made)[2]
    found = torch.zeros(3, 2).index_add(0, splatted.rendered.hypothesis, pull)
    uv, depth = stage.placed(pose)
    shift = torch.zeros(3, 1, 2, requires_grad=True)
    fragments = rasterise(uv + shift, depth, stage.scene.splat)
    seen = splatted.seen[fragments.pixel]
    cosine = torch.nn.functional.cosine_similarity(composite(fragments, stage.clouds.features[0]), seen)
    torch.testing.assert_close(found, torch.autograd.grad(cosine.sum(), shift)[0][:, 0], rtol=1e-3, atol=1e-4)


def test_the_metric_is_gauss_newtons(stage: Any, problem: tuple[Problem, Pose]) -> None:
    """Of a crop that shows the very rendering, curvature of the cosine is what the unit feature changes by, squared."""
    made, pose = problem
    splatted = splat(pose, made)
    unit = torch.nn.functional.normalize(splatted.rendered.feature, dim=1)
    matched = dataclasses.replace(splatted, seen=unit, cosine=torch.ones(len(unit)))
    _, _, pull, metric = closer(matched, made)
    torch.testing.assert_close(pull, torch.zeros_like(pull), rtol=0, atol=1e-4)
    uv, depth = stage.placed(pose)
    step, shown = 1e-3, splatted.rendered
    moved = rasterise_all(uv + torch.tensor([step, 0.0]), depth, stage.scene.splat)
    kept = (moved.index == shown.index).all(1) & shown.covered
    assert kept.sum() > 0.8 * shown.covered.sum(), (
        "the step is meant to be too small to change much of what pixels take"
    )
    after = torch.nn.functional.normalize(composite(moved, stage.clouds.features[0]), dim=1)
    expected = ((after - unit) / step).square().sum(1)[kept]
    error = (metric[kept, 0, 0] - expected).abs() / (expected + 0.02 * expected.mean())
    assert error.quantile(0.95) < 0.05  # the rest are pixels with a single point at the edge of its reach


@pytest.mark.parametrize("enough", [0, 1000])
def test_a_template_is_the_covered_pixels_or_every_second(
    stage: Any, problem: tuple[Problem, Pose], enough: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pasr_perception.refine.template.PIXELS_ENOUGH", enough)
    splatted = splat(problem[1], problem[0])
    template = cut_template(splatted, problem[0])
    rendered, size = splatted.rendered, stage.scene.splat.size
    chosen = rendered.covered
    if not enough:
        chosen = chosen & ((rendered.cell % size + rendered.cell // size) % 2 == 0)
    assert (template.weight > 0).sum() == chosen.sum()
    torch.testing.assert_close(template.weight.sum(1), torch.ones(3))
    seen = problem[0].cells.unit[problem[0].crop[:, None], (template.middle.floor() @ torch.tensor([1.0, size])).long()]
    cosine = (template.feature * seen).sum(-1)[template.weight > 0]
    torch.testing.assert_close(cosine, splatted.cosine[chosen], rtol=1e-4, atol=1e-5)


def test_robust_weights_by_hand() -> None:
    residual = RESIDUAL_FLOOR * torch.tensor([[0.5, 0.5, 0.5, 1.5, 0.0]])
    covered = torch.tensor([[1.0, 1, 1, 1, 0]])
    torch.testing.assert_close(robust_weight(residual, covered, 0.0), torch.tensor([[0.25, 0.25, 0.25, 0.25, 0]]))
    # three medians at a scale of three: (1 + 1)^-2 = 1/4; one median: (1 + 1/9)^-2 = 0.81
    expected = torch.tensor([[0.81, 0.81, 0.81, 0.25, 0]]) / (3 * 0.81 + 0.25)
    torch.testing.assert_close(robust_weight(residual, covered, 3.0), expected)
    # where nearly all pixels agree the floor keeps those that do not: (1 + 0.04)^-2 and (1 + 0.0004)^-2
    small = RESIDUAL_FLOOR * torch.tensor([[0.02, 0.02, 0.2]])
    weights = torch.tensor([[1.0004**-2, 1.0004**-2, 1.04**-2]])
    torch.testing.assert_close(robust_weight(small, torch.ones(1, 3), 3.0), weights / weights.sum())


def test_a_hypothesis_that_covers_nothing_is_worth_nothing_and_stays_finite(stage: Any) -> None:
    rotation = stage.poses(2, 5)
    out_of_sight = Pose(rotation, torch.tensor([[9.0, 0], [0, 0]]), torch.zeros(2))
    zero = torch.zeros(2, dtype=torch.long)
    boxes = Boxes(torch.tensor([[0.1, 0.1, 0.9, 0.9]]).repeat(2, 1), torch.zeros(2, 4, dtype=torch.bool))
    start = Hypotheses(rotation, zero, zero, boxes)
    maps = stage.maps(Pose.by_outline(rotation))
    made = Problem.of(start, stage.clouds, maps, stage.scene, CONFIG)
    found = splat(out_of_sight, made)
    assert found.similarity[0] == 0
    template = cut_template(found, made)
    for tensor in (template.weight, template.feature, template.pull, template.metric, template.surface):
        assert tensor.isfinite().all()
