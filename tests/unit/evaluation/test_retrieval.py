"""PASR's numbers on hand-made outcomes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from pasr_perception.data.synthetic.photo_set import PhotoRecord
from pasr_perception.evaluation import metrics
from pasr_perception.evaluation.retrieval import MeshKind, Outcome, retrieval_scores, rotation_error_deg, split_by
from pasr_perception.evaluation.synthetic import results_entry, synthetic_report, with_same_pictures
from pasr_perception.geometry.symmetry import NO_SYMMETRY, Symmetry

HALF_TURN = Symmetry.from_dict({"folds": [{"axis": [0, 0, 1], "n": 2}]})
KINDS = {
    "chair": MeshKind("seat", NO_SYMMETRY, 0),
    "stool": MeshKind("seat", NO_SYMMETRY, 0),
    "lamp": MeshKind("light", HALF_TURN),
}
OUTCOMES = [
    Outcome("a", "chair", "L0", "own", ("chair", "stool"), 5.0, ("stool", "chair"), 40.0),
    Outcome("b", "chair", "L0", "own", ("stool", "chair"), 20.0, ("stool", "chair"), 20.0),
    Outcome("c", "lamp", "L0", "bare", ("chair",), 100.0, ("lamp",), 100.0),
    Outcome("d", "lamp", "L3", "own", (), None),
]


def test_top_k_category_accuracy_and_median_of_the_retrieved_first():
    scores = retrieval_scores(OUTCOMES[:3], KINDS)
    assert (scores.objects, scores.top1, scores.top5) == (3, pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert scores.category_top1 == pytest.approx(2 / 3)
    assert (scores.acc_pi_6, scores.acc_pi_18) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert scores.median_rotation_deg == 20
    before = retrieval_scores(OUTCOMES[:3], KINDS, before=True)
    assert (before.top1, before.median_rotation_deg) == (pytest.approx(1 / 3), 40)


def test_no_answer_is_a_failure_and_half_a_turn():
    scores = retrieval_scores(OUTCOMES[3:], KINDS)
    assert (scores.top1, scores.category_top1, scores.acc_pi_6, scores.median_rotation_deg) == (0, 0, 0, 180)
    assert retrieval_scores([], KINDS).top1 is None
    assert metrics.accuracy_within([], 1) is None
    assert metrics.median_with_failures([], 1) is None


def test_rotation_counts_symmetries():
    T = np.eye(4)
    assert rotation_error_deg(np.diag([-1.0, -1, 1, 1]), T, HALF_TURN) == pytest.approx(0, abs=1e-5)
    assert rotation_error_deg(np.diag([-1.0, -1, 1, 1]), T, NO_SYMMETRY) == pytest.approx(180)
    assert rotation_error_deg(None, T, NO_SYMMETRY) is None


def test_a_report_is_split_by_level_look_category_and_look_alikes():
    report = synthetic_report(OUTCOMES, KINDS)
    assert list(report) == ["L0", "L3"]
    assert report["L0"]["categories"]["light"]["objects"] == 1
    assert report["L0"]["looks"]["bare"]["top1"] == 0
    assert report["L0"]["without symmetry"]["objects"] == 2
    assert report["L0"]["look-alikes"]["top1"] == 0.5
    assert report["L0"]["look-alikes, group"] == 1
    assert report["L3"]["look-alikes, group"] is None


def test_only_wrong_answers_are_asked_whether_they_give_the_same_picture():
    asked: list[tuple[str, str]] = []

    def same(photo: PhotoRecord, answered: str) -> bool:
        asked.append((photo.name, answered))
        return answered == "stool"

    photos = SimpleNamespace(records=[SimpleNamespace(name=o.photo) for o in OUTCOMES])
    said = with_same_pictures(OUTCOMES, photos, same)
    assert asked == [("b", "stool"), ("c", "chair")]
    assert [o.same_picture for o in said] == [False, True, False, False]
    report = synthetic_report(said, KINDS)
    assert report["L0"]["same picture"] == pytest.approx(1 / 3)
    assert report["L0"]["all"]["top1"] == pytest.approx(1 / 3)  # as strict as before
    entry = results_entry(report)["L3"]
    assert set(entry) == {"top1", "top5", "category_top1", "acc_pi_6", "acc_pi_18", "median_rotation_deg"}
    assert list(split_by(OUTCOMES, lambda o: o.look)) == ["bare", "own"]
