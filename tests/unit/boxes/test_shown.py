"""What cells of one crop show, seen over another one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pasr_perception.boxes.network import CROP, GRID
from pasr_perception.boxes.shown import Shown, shown_in
from pasr_perception.crop import CropSpec, crop_detection
from pasr_perception.types import Camera, Crop, Detection, Frame

CAMERA = Camera(320, 240, np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]]))
BOX = np.array([100.0, 60, 180, 140])


def crop_of(box: np.ndarray, spec: CropSpec = CROP) -> Crop:
    return crop_detection(Frame(np.zeros((240, 320, 3), np.uint8), CAMERA), Detection(box), spec)


def half(crop: Crop) -> Shown:
    """The left half of the picture shows the object."""
    belief = np.zeros((GRID, GRID), np.float32)
    belief[:, : GRID // 2] = 1
    return Shown(crop, belief)


def test_over_its_own_crop_it_is_what_was_seen() -> None:
    belief = np.random.default_rng(0).random((GRID, GRID)).astype(np.float32)
    crop = crop_of(BOX)
    assert Shown(crop, belief).over(crop, GRID) == pytest.approx(belief, abs=1e-3)


def test_a_closer_look_through_the_same_middle_is_divided_at_the_same_place() -> None:
    over = half(crop_of(BOX)).over(crop_of(BOX, CropSpec(448, 0.9)), 20)
    assert over.shape == (20, 20)
    assert (over[:, :9] == 1).all()
    assert (over[:, 11:] == 0).all()


def test_a_box_to_the_right_sees_less_of_it_and_one_elsewhere_nothing() -> None:
    seen = half(crop_of(BOX))
    right = seen.over(crop_of(np.add(BOX, (20, 0, 20, 0))), GRID)
    # 20 pixels are a quarter of the box's side, which fills 0.62 of the crop
    assert (right > 0.5).mean() == pytest.approx(0.5 - 0.62 / 4, abs=0.02)
    assert seen.over(crop_of(np.array([230.0, 150, 310, 230])), GRID).max() == 0


def test_what_lies_behind_the_camera_that_saw_shows_nothing() -> None:
    crop = crop_of(BOX)
    about = dataclasses.replace(crop, R_cam_crop=crop.R_cam_crop @ np.diag([-1.0, 1.0, -1.0]))
    everywhere = Shown(crop, np.ones((GRID, GRID), np.float32))
    assert everywhere.over(about, GRID).max() == 0


def test_crops_carry_what_was_seen_and_nothing_where_nothing_was() -> None:
    crop = crop_of(BOX)
    assert shown_in(crop, None, 14) is crop
    carried = shown_in(crop, half(crop), 14)
    assert carried.shown is not None
    assert carried.shown.shape == (14, 14)
    assert carried.image is crop.image
