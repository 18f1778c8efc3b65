from __future__ import annotations

import numpy as np
import pytest

from pasr_perception.data.detector import DetectorSpec, detect, jitter_box, with_detections
from pasr_perception.data.records import BagFrame, Truth
from pasr_perception.types import Camera, Detection, Frame

CAMERA = Camera(640, 480, np.eye(3))


def truth(name, box, visible=1.0):
    return Truth(name, "m", np.eye(4), None if box is None else np.array(box, float), visible)


def test_edges_move_independently_within_the_fraction():
    rng = np.random.default_rng(0)
    box = np.array([100.0, 100, 300, 200])
    moved = np.stack([jitter_box(box, 0.05, CAMERA, rng) for _ in range(2000)]) - box
    limit = np.array([10.0, 5, 10, 5])
    assert (np.abs(moved) <= limit).all()
    assert (np.abs(moved).max(0) > 0.98 * limit).all()
    assert np.abs(np.corrcoef(moved.T) - np.eye(4)).max() < 0.1


def test_edges_at_the_border_stay_and_others_never_cross_it():
    rng = np.random.default_rng(0)
    boxes = np.stack([jitter_box(np.array([0.0, 3, 640, 400]), 0.1, CAMERA, rng) for _ in range(500)])
    assert (boxes[:, 0] == 0).all()
    assert (boxes[:, 2] == 640).all()
    assert boxes[:, 1].min() == 0
    assert boxes[:, 3].max() > 430


def test_hidden_small_and_unseen_objects_are_missed():
    truths = [
        truth("seen", (10, 10, 60, 60), 0.31),
        truth("hidden", (10, 10, 60, 60), 0.29),
        truth("small", (10, 10, 33, 33)),
        truth("narrow", (10, 10, 34, 12)),
        truth("none", None),
    ]
    found = detect(truths, DetectorSpec(jitter=0), CAMERA, np.random.default_rng(0))
    assert [d.id for d in found] == ["seen", "narrow"]
    np.testing.assert_array_equal(found[0].box, [10, 10, 60, 60])
    assert found[0].class_id == ""


@pytest.mark.parametrize("change", [{"jitter": -0.1}, {"jitter": 0.5}, {"min_visibility": 1.5}])
def test_impossible_settings_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        DetectorSpec(**change)


def test_boxes_without_truth_are_kept_and_the_seed_decides():
    frame = Frame(np.zeros((480, 640, 3), np.uint8), CAMERA)
    extra = Detection(np.array([200.0, 200, 260, 260]), id="unknown")
    item = BagFrame(frame, (extra,), (truth("known", (10, 10, 60, 60)),))
    runs = [next(with_detections([item], DetectorSpec(), seed)) for seed in (1, 1, 2)]
    assert [d.id for d in runs[0].detections] == ["known", "unknown"]
    assert not np.array_equal(runs[0].detections[1].box, extra.box)
    np.testing.assert_array_equal(runs[0].detections[0].box, runs[1].detections[0].box)
    assert not np.array_equal(runs[0].detections[0].box, runs[2].detections[0].box)


CROWD = [truth(str(i), (10 + 20 * i, 10, 60 + 20 * i, 60)) for i in range(20)]


def many(spec: DetectorSpec, seed: int = 0) -> list[Detection]:
    rng = np.random.default_rng(seed)
    return [d for _ in range(50) for d in detect(CROWD, spec, CAMERA, rng)]


def test_a_share_of_visible_objects_is_missed():
    assert 0.66 < len(many(DetectorSpec(missed=0.3))) / 1000 < 0.74
    assert not many(DetectorSpec(missed=1.0))


def test_invented_boxes_lie_in_the_image_and_are_named_after_no_object():
    found = many(DetectorSpec(jitter=0, invented=0.25))
    false = [d for d in found if d.id.startswith("false_")]
    assert len(found) - len(false) == 1000
    assert 0.2 < len(false) / 1000 < 0.3
    boxes = np.stack([d.box for d in false])
    assert (boxes >= 0).all()
    assert (boxes[:, 2:] <= [CAMERA.width, CAMERA.height]).all()
    np.testing.assert_allclose(boxes[:, 2:] - boxes[:, :2], 50)
    assert len(np.unique(boxes[:, 0].round())) > 100  # anywhere


def test_an_anonymous_detector_names_nothing():
    found = many(DetectorSpec(invented=0.5, named=False))
    assert {d.id for d in found} == {""}
    assert len(found) > 1200


def test_faults_follow_from_the_seed():
    spec = DetectorSpec(missed=0.3, invented=0.3)
    one, same, other = many(spec, 1), many(spec, 1), many(spec, 2)
    assert [d.id for d in one] == [d.id for d in same] != [d.id for d in other]
    np.testing.assert_array_equal([d.box for d in one], [d.box for d in same])


@pytest.mark.parametrize("name", ["missed", "invented"])
def test_impossible_shares_of_faults_are_named(name):
    with pytest.raises(ValueError, match=f"{name}: expected a share in 0..1, got 1.5"):
        DetectorSpec(**{name: 1.5})
