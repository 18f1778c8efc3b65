"""Matching answers to truth and judging them, symmetry included."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from pasr_perception.data.records import BagFrame, PublishedFrame, PublishedHypothesis, PublishedObject, Truth
from pasr_perception.evaluation.report import by_appearance
from pasr_perception.evaluation.scores import judge, pose_error, score, score_poses
from pasr_perception.evaluation.truth import Case, MeshFacts, cases_of_frame, mesh_facts, published_by_stamp
from pasr_perception.pipeline import Pipeline
from pasr_perception.types import Detection, Frame


@pytest.fixture(scope="module")
def facts(pipeline: Pipeline) -> dict[str, MeshFacts]:
    return mesh_facts(pipeline.library)


def published(stamp: int, *objects: tuple[str, str]) -> PublishedFrame:
    found = tuple(
        PublishedObject(name, (PublishedHypothesis(mesh_id, 0.5, np.eye(4)),), np.zeros(3), np.ones(3))
        for name, mesh_id in objects
    )
    return PublishedFrame(stamp, stamp, "camera", found)


def case(truth: Truth, *after: tuple[str, np.ndarray]) -> Case:
    hypotheses = tuple(PublishedHypothesis(mesh_id, 0.5, T) for mesh_id, T in after)
    return Case(0, truth, Detection(np.array([0.0, 0, 1, 1]), id=truth.id), after=hypotheses)


def test_facts_come_from_the_library(facts: dict[str, MeshFacts]) -> None:
    assert facts["can_red"].shape_class == facts["can_blue"].shape_class != facts["box"].shape_class
    assert facts["slab"].appearance == "unknown"
    assert facts["box"].surface.diameter == pytest.approx(np.linalg.norm((0.05, 0.08, 0.12)), rel=0.02)
    assert facts["can_blue"].surface.center == pytest.approx((0, 0, 0.05), abs=0.002)  # its origin is at its foot


def test_cases_join_by_id_and_leave_out_what_was_not_asked(scene: SimpleNamespace) -> None:
    truths = tuple(Truth(name, "box", np.eye(4)) for name in ("a", "b", "hidden"))
    detections = tuple(Detection(np.zeros(4), id=name) for name in ("b", "a", "no truth"))
    frame = BagFrame(Frame(np.zeros((1, 1, 3), np.uint8), scene.camera, 5), detections, truths)
    cases = cases_of_frame(frame, published(5, ("a", "box"), ("a", "slab"), ("z", "box")), published(5, ("b", "slab")))
    assert [c.truth.id for c in cases] == ["b", "a"]
    assert cases[0].after == ()
    assert [h.mesh_id for h in cases[0].before] == ["slab"]
    assert [h.mesh_id for h in cases[1].after] == ["box"]  # the first of two answers of one id
    assert cases[1].before == ()


def test_the_first_of_two_answers_to_one_image_counts() -> None:
    found = published_by_stamp([published(5, ("a", "box")), published(5, ("a", "slab")), published(6)])
    assert found[5].objects[0].hypotheses[0].mesh_id == "box"
    assert sorted(found) == [5, 6]


def test_spinning_a_can_about_its_axis_is_no_error(facts: dict[str, MeshFacts], scene: SimpleNamespace) -> None:
    T = scene.pose(0.1, 0.0)
    spun = T @ np.block([[scene.pose(0, 0, (0, 0, 130))[:3, :3], np.zeros((3, 1))], [0, 0, 0, 1]])
    truth = Truth("1", "can_red", T)
    error = pose_error(spun, truth, facts["can_red"])
    assert np.degrees(error.rotation) < 1.5
    assert error.translation < 0.001
    assert error.adds < 0.02
    assert error.adds_rotation < 0.02
    assert np.degrees(pose_error(spun, Truth("1", "box", T), facts["box"]).rotation) == pytest.approx(50, abs=1)


def test_translation_is_measured_at_the_middle_not_at_the_files_origin(
    facts: dict[str, MeshFacts], scene: SimpleNamespace
) -> None:
    """Turned by 90 degrees about its own middle, a mesh whose origin lies at its foot has no translation error."""
    mine, T = facts["can_blue"], scene.pose(0.0, 0.0)
    turned = scene.turned(T, 90)
    middle = np.asarray(mine.symmetry.center)
    turned[:3, 3] += (T[:3, :3] - turned[:3, :3]) @ middle
    error = pose_error(turned, Truth("1", "can_blue", T), mine)
    assert error.translation < 1e-9
    assert np.degrees(error.rotation) == pytest.approx(90, abs=2)


def test_no_answer_counts_as_wrong_and_has_no_error(facts: dict[str, MeshFacts], scene: SimpleNamespace) -> None:
    T = scene.pose(0, 0)
    truth = Truth("1", "box", T)
    scores = score([judge(case(truth), facts), judge(case(truth, ("box", T)), facts)], facts)
    assert (scores.objects, scores.mesh_top1, scores.category_top1, scores.shape_class_top1) == (2, 0.5, 0.5, 0.5)
    assert scores.rotation_error_deg.after.count == scores.rotation_error_deg_all.after.count == 1
    assert scores.adds_rotation_05d.after == 0.5
    assert scores.rotation_error_deg.before.count == 0


def test_scores_split_by_the_true_meshs_appearance(facts: dict[str, MeshFacts], scene: SimpleNamespace) -> None:
    T = scene.pose(0, 0)
    judged = [
        judge(case(Truth("1", "slab", T), ("slab", T)), facts),
        judge(case(Truth("2", "box", T), ("slab", T)), facts),
    ]
    parts = by_appearance(judged, facts)
    assert {name: (s.objects, s.mesh_top1) for name, s in parts.items()} == {"known": (1, 0.0), "unknown": (1, 1.0)}
    assert by_appearance(judged[:1], facts).keys() == {"unknown"}


def test_poses_of_a_given_mesh_count_the_missing_ones(facts: dict[str, MeshFacts], scene: SimpleNamespace) -> None:
    T = scene.pose(0, 0)
    good = pose_error(T, Truth("1", "box", T), facts["box"])
    scores = score_poses([None, None], [good, None])
    assert (scores.objects, scores.adds_10d.after, scores.adds_10d.before) == (2, 0.5, 0.0)
