"""Coefficients come back from examples made with them; counts of hand-made cases are as counted by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from pasr_perception.confidence import probabilities
from pasr_perception.config import ConfidenceConfig
from pasr_perception.data.records import BagFrame, Truth
from pasr_perception.evaluation.calibration import Example, calibrate, collect, fit, judge
from pasr_perception.evaluation.reliability_plot import reliability_plot
from pasr_perception.types import Camera, Detection, Frame, Hypothesis

START = ConfidenceConfig(slope=1.0, intercept=0.0)


def drawn(config: ConfidenceConfig, count: int, seed: int = 0) -> list[Example]:
    """Examples that are right as often as `config` says."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        margins = tuple(sorted(rng.uniform(0, 10, 3), reverse=True))
        shares, unknown = probabilities(margins, config)
        pick = int(rng.choice(4, p=[*shares, unknown]))
        found.append(Example(margins, None if pick == 3 else pick, known=pick != 3, mesh_id=f"mesh {len(found) % 20}"))
    return found


def test_the_coefficients_behind_the_examples_are_found():
    true = ConfidenceConfig(slope=0.8, intercept=-4.0, accept=0.6)
    found = fit(drawn(true, 1500), ConfidenceConfig(accept=0.6))
    assert found.slope == pytest.approx(0.8, abs=0.1)
    assert found.intercept == pytest.approx(-4.0, abs=0.5)
    assert found.accept == 0.6  # what is not fitted stays


def test_examples_that_separate_give_no_endless_slope():
    apart = [Example((9.0,), 0, True)] * 10 + [Example((1.0,), None, False)] * 10
    assert 0 < fit(apart, START).slope < 100


def test_too_few_examples_are_refused():
    with pytest.raises(ValueError, match="expected at least 10 searched objects, got 9"):
        fit([Example((5.0,), 0, True)] * 9, START)


def test_too_few_examples_or_meshes_to_judge_on_others_are_refused():
    with pytest.raises(ValueError, match="expected at least 20 searched objects, got 19"):
        calibrate([Example((5.0,), 0, True)] * 19, START)
    with pytest.raises(ValueError, match="expected objects of at least 5 meshes, got 1"):
        calibrate([Example((5.0,), 0, True, "mug")] * 40, START)


def test_counts_of_hand_made_cases():
    even, sure = (0.0,), (4.0,)  # probability 0.5, and 0.982
    examples = [
        Example(sure, 0, True),
        Example(sure, None, True),  # the wrong mesh
        Example(even, 0, True),
        Example(even, None, False),  # a stranger
    ]
    found = judge(examples, START)
    assert [(round(p, 3), share, n) for p, share, n in found.reliability] == [(0.5, 0.5, 2), (0.982, 0.5, 2)]
    assert found.ece == pytest.approx(0.5 * (0.982 - 0.5), abs=1e-3)
    by_threshold = {round(t, 2): (accepts, rejects) for t, accepts, rejects in found.thresholds}
    assert by_threshold[0.4] == (1.0, pytest.approx(1 / 3))  # the stranger is taken for a mesh; one is wrong
    assert by_threshold[0.6] == (0.0, pytest.approx(2 / 3))


def test_an_object_without_hypotheses_counts_as_improbable():
    found = judge([Example((), None, True)], START)
    assert found.reliability == ((0.0, 0.0, 1),)
    assert all(rejects == 1.0 for _, _, rejects in found.thresholds)


def test_calibration_is_judged_on_meshes_that_the_fit_did_not_see():
    true = ConfidenceConfig(slope=0.8, intercept=-4.0)
    found = calibrate(drawn(true, 600), START)
    assert found.examples == 600
    assert found.ece < 0.08
    assert found.config == fit(drawn(true, 600), START)
    # one mesh is always wrong however sure, and no other: a fit that saw it would know
    odd = [Example((6.0,), 0, True, f"mesh {i % 9}") for i in range(90)]
    odd += [Example((6.0,), None, False, "stranger")] * 60
    seen, unseen = judge(odd, fit(odd, START)), calibrate(odd, START)
    assert seen.ece < 0.05
    assert unseen.ece > 0.1


def test_the_picture_shows_what_was_found(tmp_path: Path) -> None:
    path = tmp_path / "plots" / "calibration.png"
    reliability_plot(calibrate(drawn(ConfidenceConfig(slope=0.8, intercept=-4.0), 200), START), path)
    image = imread(path)
    assert image.shape[1] > 800
    assert len(np.unique(image.reshape(-1, image.shape[2]), axis=0)) > 20


def test_examples_are_collected_from_what_is_visible_and_named():
    frame = Frame(np.zeros((48, 64, 3), np.uint8), Camera(64, 48, np.eye(3)))
    box = np.array([1.0, 1, 20, 20])
    truths = (Truth("1", "mug", np.eye(4)), Truth("2", "cat", np.eye(4)), Truth("3", "can", np.eye(4), None, 0.3))
    found_at = tuple(Detection(box, id=name) for name in ("1", "2", "3", "false_1"))

    def detect(_: Frame, detections: list[Detection]) -> Any:
        hypotheses = tuple(Hypothesis(m, "", 0.5, 0.5, np.eye(4), margin) for m, margin in (("can", 5.0), ("mug", 4.0)))
        return SimpleNamespace(objects=[SimpleNamespace(detection=d, hypotheses=hypotheses) for d in detections])

    entries = [SimpleNamespace(id="mug"), SimpleNamespace(id="can")]
    pipeline: Any = SimpleNamespace(library=SimpleNamespace(entries=entries), detect=detect)
    found = collect(pipeline, [BagFrame(frame, found_at, truths)])
    assert found == [Example((5.0, 4.0), 1, True, "mug"), Example((5.0, 4.0), None, False, "cat")]
