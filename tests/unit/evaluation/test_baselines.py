"""Pooling by box area, the pooled baseline on flat colours, and chance by its closed form."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pasr_perception.data.records import Truth
from pasr_perception.evaluation.baselines import PooledBaseline, RandomPoses, chance_scores, pool_boxes
from pasr_perception.evaluation.scores import PoseError
from pasr_perception.evaluation.truth import Case, mesh_facts
from pasr_perception.pipeline import Pipeline
from pasr_perception.types import Detection


def test_pool_boxes_weighs_cells_by_their_covered_share() -> None:
    maps = torch.zeros(1, 3, 2, 2)
    maps[0, 0, 0, 0] = maps[0, 1, 0, 1] = maps[0, 2, 1, 0] = 1.0
    pooled = pool_boxes(maps, torch.tensor([[0.0, 0.0, 7.5, 5.0]]), size=10)  # the upper row: one cell, half a cell
    expected = torch.tensor([1.0, 0.5, 0.0])
    torch.testing.assert_close(pooled[0], expected / expected.norm())


def test_pool_boxes_ignores_what_lies_outside_the_crop() -> None:
    maps = torch.rand(1, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    inside = pool_boxes(maps, torch.tensor([[0.0, 0.0, 50.0, 50.0]]), size=50)
    torch.testing.assert_close(pool_boxes(maps, torch.tensor([[-20.0, -5.0, 80.0, 50.0]]), size=50), inside)


def test_pooled_baseline_finds_the_colour_and_puts_it_into_the_box(pipeline: Pipeline, scene: SimpleNamespace) -> None:
    truths = [Truth("1", "box", scene.pose(-0.1, 0.05)), Truth("2", "can_blue", scene.pose(0.1, -0.05))]
    frame = scene.bag_frame(1, truths)
    hopeless = Detection(np.array([10.0, 10.0, 10.0, 50.0]))
    asked = [(frame.detections[0], "box"), (hopeless, "box"), (frame.detections[1], "can_red")]
    answers = PooledBaseline(pipeline).answer(frame.frame, asked)
    assert answers[0].hypotheses[0].mesh_id == "box"
    assert answers[1].hypotheses == ()
    assert answers[1].given_mesh is None
    assert answers[2].hypotheses[0].mesh_id == "can_blue"  # the true id is not looked at
    ids = [h.mesh_id for h in answers[0].hypotheses]
    assert len(set(ids)) == len(ids) == 4
    assert answers[0].hypotheses[0].T_cam_obj[:3, 3] == pytest.approx([-0.1, 0.05, 0.6], abs=0.15)
    assert answers[2].given_mesh is not None


def test_random_poses_repeat_with_their_seed_and_fit_the_box(pipeline: Pipeline, scene: SimpleNamespace) -> None:
    facts = mesh_facts(pipeline.library)
    frame = scene.bag_frame(1, [Truth("1", "slab", scene.pose(0.0, 0.0))])
    case = Case(1, frame.truths[0], frame.detections[0])
    first = RandomPoses(pipeline, seed=3).errors(frame.frame, [case] * 5, facts)
    again = RandomPoses(pipeline, seed=3).errors(frame.frame, [case] * 5, facts)
    other = RandomPoses(pipeline, seed=4).errors(frame.frame, [case] * 5, facts)
    assert first == again != other
    errors = [error for _, found in first for error in found]
    assert len(errors) == 20
    assert np.median([e.rotation for e in errors]) > np.radians(25)
    assert np.median([e.translation for e in errors]) < 0.5


def test_chance_is_the_expected_value(pipeline: Pipeline) -> None:
    facts = mesh_facts(pipeline.library)  # 4 meshes: two cans of one shape; a box and a slab
    errors = [PoseError(np.radians(90), 0.1, 0.05, 0.01), PoseError(np.radians(30), 0.3, 0.5, 0.2)]
    scores, given = chance_scores(["can_red", "box"], errors, facts)
    assert (scores.mesh_top1, scores.mesh_top5, scores.category_top1) == (0.25, 1.0, 0.5)
    assert scores.shape_class_top1 == pytest.approx((2 / 4 + 1 / 4) / 2)
    assert scores.rotation_error_deg.after.median == pytest.approx(60)
    assert given.adds_rotation_05d.after == 0.5
    assert scores.adds_rotation_05d.after == 0.5 / 4  # the mesh must be right as well
    empty, _ = chance_scores([], [], facts)
    assert empty.mesh_top1 is None
