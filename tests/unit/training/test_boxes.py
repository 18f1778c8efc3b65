"""What the box network learns from: heaps known to the pixel, loose boxes and their true ones; and that training tightens."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pasr_perception.boxes.network import CELL, CROP, GRID, STEP, positions
from pasr_perception.crop import crop_detection
from pasr_perception.data.synthetic.photo_set import mask_box
from pasr_perception.geometry.boxes import iou
from pasr_perception.training.boxes import (
    CAMERA,
    Asked,
    BoxTraining,
    asked,
    loose_boxes,
    objective,
    scores,
    seen_in,
    shown_cells,
    shown_objective,
    train_boxes,
    train_shown,
)
from pasr_perception.training.collage import SIZE, Collage, Cutout, collage
from pasr_perception.types import Detection, Frame

QUICK = BoxTraining(crops=48, steps=16, batch=16, held_out_crops=32)


def quiet(*_: object) -> None:
    """Progress that nobody watches."""


def things(seed: int) -> list[Cutout]:
    """Ellipses and bars of flat colours before grey."""
    rng, found = np.random.default_rng(seed), []
    for number in range(8):
        photo = np.full((SIZE[1], SIZE[0], 3), rng.integers(60, 190), np.uint8)
        height, width = (int(n) for n in rng.integers(40, 160, 2))
        mask = np.zeros((height, width), np.uint8)
        if number % 2:
            cv2.ellipse(mask, (width // 2, height // 2), (width // 2, height // 2), 0, 0, 360, 1, -1)
        else:
            mask[:] = 1
        image = np.full((height, width, 3), rng.integers(0, 255, 3), np.uint8)
        found.append(Cutout(photo, image, mask.astype(np.float32)))
    return found


@pytest.fixture(scope="module")
def heap() -> Collage:
    return collage(things(0), np.random.default_rng(5))


def test_a_heap_knows_what_is_seen_and_what_is_hidden(heap: Collage) -> None:
    assert heap.image.shape == (SIZE[1], SIZE[0], 3)
    assert heap.image.dtype == np.uint8
    assert len(heap.whole) >= 2
    for number, whole in enumerate(heap.whole):
        seen = heap.shown == number
        later = np.any(heap.whole[number + 1 :], axis=0) if number + 1 < len(heap.whole) else np.zeros_like(whole)
        assert np.array_equal(seen, whole & ~later)


def test_the_same_seed_heaps_the_same(heap: Collage) -> None:
    again, other = (collage(things(0), np.random.default_rng(seed)) for seed in (5, 6))
    assert np.array_equal(heap.image, again.image)
    assert not np.array_equal(heap.image, other.image)


def test_true_boxes_are_of_what_is_seen_or_of_all_of_it(heap: Collage) -> None:
    for share in (0.0, 1.0):
        found = loose_boxes(heap, (0.1, 0.1), share, np.random.default_rng(0))
        boxes = {
            tuple(mask_box(w if share else heap.shown == n))
            for n, w in enumerate(heap.whole)
            if (heap.shown == n).any()
        }
        assert found
        for loose in found:
            assert tuple(loose.true) in boxes
            off = np.abs(loose.detection.box - loose.true) / np.tile(loose.true[2:] - loose.true[:2], 2)
            assert off.max() <= 0.1 + 1e-9
            assert any(np.array_equal(loose.seen, heap.shown == n) for n in range(len(heap.whole)))


def test_a_box_seen_through_its_own_crop_is_the_crops_box(heap: Collage) -> None:
    crop = crop_detection(Frame(heap.image, CAMERA), Detection(np.array([40.0, 300, 180, 420])), CROP)
    assert seen_in(crop, np.asarray(crop.detection.box), CAMERA) == pytest.approx(crop.box, abs=0.01)


def hand_made(free: bool = True) -> Asked:
    box = torch.tensor([[60.0, 60, 160, 110]])
    true = box + torch.tensor([[5.0, 0, 0, 5]])
    return Asked([], box, true, torch.full((1, 4), free), torch.zeros(1, GRID, GRID, dtype=torch.uint8))


def peaked(part: Asked, at: torch.Tensor) -> torch.Tensor:
    return -(((positions(at.device) - at[..., None]) / STEP) ** 2)


def test_the_objective_wants_the_true_edges() -> None:
    part = hand_made()
    right, wrong = (float(objective(peaked(part, at), part)) for at in (part.true, part.box))
    assert right < wrong
    assert float(objective(peaked(part, part.box), hand_made(free=False))) == 0.0


def test_scores_by_hand() -> None:
    part = hand_made()
    found = scores(part.box, part)
    assert found.error == pytest.approx((5 / 100 + 5 / 50) / 4)
    assert found.iou == pytest.approx(iou(part.box.numpy(), part.true.numpy())[0, 0])
    assert scores(part.true, part).error == 0.0


def test_as_many_are_asked_about_as_wanted() -> None:
    part = asked(things(0), 10, QUICK, (0.1, 0.1), quiet)
    assert len(part) == 10
    assert [len(t) for t in part.taps] == [10, 10]
    assert part.true.shape == part.free.shape == (10, 4)
    assert part.shown.shape == (10, GRID, GRID)


def test_training_tightens_boxes_of_other_things_and_repeats_itself() -> None:
    head, card = train_boxes(things(1), things(2), QUICK)
    assert card["held_out"]["tightened"]["error"] < 0.9 * card["held_out"]["said"]["error"]
    again, _ = train_boxes(things(1), things(2), QUICK)
    assert all(torch.equal(a, b) for a, b in zip(head.state_dict().values(), again.state_dict().values(), strict=True))


def test_cells_show_what_is_seen_through_them() -> None:
    box = np.array([200.0, 150, 320, 270])
    crop = crop_detection(Frame(np.zeros((SIZE[1], SIZE[0], 3), np.uint8), CAMERA), Detection(box), CROP)
    seen = np.zeros((SIZE[1], SIZE[0]), bool)
    seen[150:270, 200:260] = True  # the left half of the box
    share = shown_cells(crop, seen) / 255
    low, high = crop.box[:2] / CELL, crop.box[2:] / CELL
    assert share.sum() == pytest.approx((high - low).prod() / 2, rel=0.05)
    assert share[GRID // 2, math.ceil(low[0])] == 1
    assert share[GRID // 2, math.floor(high[0]) - 1] == 0
    assert share[0].max() == 0


def test_the_objective_of_cells_wants_what_they_show() -> None:
    part = dataclasses.replace(hand_made(), shown=torch.tensor([[[255, 0]]], dtype=torch.uint8))
    right, undecided, wrong = (torch.tensor([[[x, -x]]]) for x in (9.0, 0.0, -9.0))
    assert float(shown_objective(right, part)) < 1e-3
    assert float(shown_objective(undecided, part)) == pytest.approx(math.log(2))
    assert float(shown_objective(wrong, part)) == pytest.approx(9, abs=1e-3)


def test_training_sees_what_boxes_show_of_other_things_and_repeats_itself() -> None:
    head, card = train_shown(things(1), things(2), QUICK)
    _, untrained = train_shown(things(1), things(2), dataclasses.replace(QUICK, steps=0))
    assert card["held_out"]["box"] == untrained["held_out"]["box"]
    assert card["held_out"]["shown"] > untrained["held_out"]["shown"] + 0.2
    again, _ = train_shown(things(1), things(2), QUICK)
    assert all(torch.equal(a, b) for a, b in zip(head.state_dict().values(), again.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("crops", 0, r"boxes\.crops: expected at least 1, got 0"),
        ("steps", -1, r"boxes\.steps: expected 0 or more, got -1"),
        ("jitter", 0.5, r"boxes\.jitter: expected more than 0, below 0\.5, got 0\.5"),
        ("whole_share", 1.5, r"boxes\.whole_share: expected 0\.\.1, got 1\.5"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(field: str, value: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(QUICK, **{field: value})


def test_photos_of_no_mesh_for_training_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pasr_perception.data.synthetic.photo_set import PhotoSet
    from pasr_perception.training.collage import cutouts

    empty = PhotoSet(tmp_path, {"meshes": []}, [])
    with pytest.raises(ValueError, match="expected photos of train meshes at L0 or L1, got none"):
        cutouts(empty, "train")
