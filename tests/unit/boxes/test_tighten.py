"""The box stage: loose boxes of drawn things get tighter; what it must leave alone; files that hold no weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pasr_perception.boxes import Tightener
from pasr_perception.boxes.network import CELL, CROP, EdgeHead
from pasr_perception.boxes.shown import ShownHead
from pasr_perception.boxes.tighten import in_image
from pasr_perception.boxes.weights import load_head, save_head, shipped_weights
from pasr_perception.config import BoxConfig
from pasr_perception.crop import crop_detection
from pasr_perception.data.detector import jitter_box
from pasr_perception.encoders.base import EncoderError
from pasr_perception.encoders.efficientnet_lite import EfficientNetLite
from pasr_perception.geometry.boxes import iou
from pasr_perception.geometry.camera import project, rays
from pasr_perception.types import Camera, Detection, Frame

CAMERA = Camera(320, 240, np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]]))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tighten() -> Tightener:
    return Tightener(CPU, BoxConfig())


def drawn(rng: np.random.Generator) -> tuple[Frame, np.ndarray]:
    """A bottle-like thing on a table, and its box."""
    image = np.full((240, 320, 3), (150, 140, 130), np.uint8)
    image[150:] = (105, 85, 65)
    x, y = int(rng.integers(110, 190)), int(rng.integers(100, 130))
    w, h = int(rng.integers(25, 45)), int(rng.integers(40, 60))
    colour = tuple(int(c) for c in rng.integers(0, 255, 3))
    cv2.rectangle(image, (x - w, y - h), (x + w - 1, y + h - 1), colour, -1)
    cv2.rectangle(image, (x - w, y - h // 3), (x + w - 1, y + h // 3), (240, 240, 235), -1)
    noisy = cv2.GaussianBlur(image, (0, 0), 0.7) + rng.normal(0, 3, image.shape)
    return Frame(np.clip(noisy, 0, 255).astype(np.uint8), CAMERA), np.array([x - w, y - h, x + w, y + h], float)


def test_loose_boxes_get_tighter(tighten: Tightener) -> None:
    rng = np.random.default_rng(0)
    before, after = [], []
    for _ in range(12):
        frame, true = drawn(rng)
        loose = Detection(jitter_box(true, 0.1, CAMERA, rng))
        (tight,) = tighten(frame, [loose])
        before.append(iou(loose.box[None], true[None])[0, 0])
        after.append(iou(tight.detection.box[None], true[None])[0, 0])
    assert np.mean(after) > np.mean(before) + 0.04


def test_cells_show_the_thing_and_not_what_hides_a_part_of_it(tighten: Tightener) -> None:
    rng = np.random.default_rng(7)
    on, off, hidden = [], [], []
    for _ in range(8):
        frame, true = drawn(rng)
        image, middle = frame.image.copy(), int(true[[0, 2]].mean())
        x0, y0, x1, y1 = (int(v) for v in true)
        image[y0 + 10 : y1 + 30, middle + 4 : x1 + 30] = rng.integers(0, 255, 3)  # before its lower right part
        (tight,) = tighten(dataclasses.replace(frame, image=image), [Detection(true)])
        crop, belief = tight.shown.crop, tight.shown.belief
        uv = np.array([[x0 + 8, y0 + 8], [x0 - 12, y0 + 20], [x1 - 4, y1 - 8]], float)
        column, row = (project(rays(uv, CAMERA.K) @ crop.R_cam_crop, crop.K_crop) / CELL).astype(int).T
        for found, value in zip((on, off, hidden), belief[row, column], strict=True):
            found.append(value)
    assert np.mean(on) > 0.8
    assert np.mean(off) < 0.1
    assert np.mean(hidden) < 0.5


@pytest.mark.parametrize("tuned", [False, True])
def test_an_encoders_network_serves_as_well(tighten: Tightener, tuned: bool) -> None:
    """Also where its tail was tuned: what boxes are looked at with comes before that."""
    encoder = EfficientNetLite(CPU)
    if tuned:
        for parameter in encoder.tail.parameters():
            parameter.zero_()
    frame, true = drawn(np.random.default_rng(4))
    said = [Detection(true + 5)]
    (own,), (shared,) = tighten(frame, said), Tightener(CPU, BoxConfig(), encoder.network)(frame, said)
    assert np.array_equal(own.detection.box, shared.detection.box)
    assert np.array_equal(own.shown.belief, shared.shown.belief)


def test_everything_but_the_box_stays_in_order(tighten: Tightener) -> None:
    frame, true = drawn(np.random.default_rng(1))
    said = [Detection(true, 0.7, "a", "1"), Detection(true - 9, 0.6, "b", "2")]
    found = [t.detection for t in tighten(frame, said)]
    assert [(d.score, d.class_id, d.id) for d in found] == [(0.7, "a", "1"), (0.6, "b", "2")]
    alone = [tighten(frame, [d])[0].detection.box for d in said]
    assert all(np.allclose(f.box, a, atol=1e-3) for f, a in zip(found, alone, strict=True))


def test_what_cannot_be_seen_well_stays_as_it_is(tighten: Tightener) -> None:
    frame, _ = drawn(np.random.default_rng(2))
    small, outside = Detection(np.array([50.0, 50, 60, 70])), Detection(np.array([400.0, 10, 500, 90]))
    broken, flat = Detection(np.array([np.nan, 0, 50, 50])), Detection(np.array([90.0, 50, 20, 100]))
    said = [small, outside, broken, flat]
    found = tighten(frame, said)
    assert all(a.detection is b and a.shown is None for a, b in zip(found, said, strict=True))
    assert tighten(frame, []) == []


def test_edges_at_the_border_stay(tighten: Tightener) -> None:
    frame, true = drawn(np.random.default_rng(3))
    box = np.array([0.0, true[1] + 4, true[2] - 4, 240.0])
    tight = tighten(frame, [Detection(box)])[0].detection
    assert (tight.box[0], tight.box[3]) == (0.0, 240.0)
    assert (tight.box[1:3] != box[1:3]).all()


def test_the_gain_says_how_far_edges_go(tighten: Tightener) -> None:
    frame, true = drawn(np.random.default_rng(5))
    box = true + np.array([-6.0, 5, 6, -5])
    said = [Detection(box)]
    half, whole = (Tightener(CPU, BoxConfig(gain=gain))(frame, said)[0].detection.box for gain in (0.5, 1.0))
    assert half - box == pytest.approx((whole - box) / 2, abs=1e-3)


def test_edges_move_in_the_image_as_they_do_in_the_crop() -> None:
    frame, true = drawn(np.random.default_rng(4))
    crop = crop_detection(frame, Detection(true), CROP)
    assert in_image(crop, crop.box, CAMERA) == pytest.approx(true)
    moved = crop.box + np.array([-3.0, 2, 4, 0])
    pixel = (true[3] - true[1]) / (crop.box[3] - crop.box[1])
    assert in_image(crop, moved, CAMERA) - true == pytest.approx(np.array([-3.0, 2, 4, 0]) * pixel, rel=0.02)
    (low,) = {*in_image(crop, crop.box - 1e6, CAMERA)}
    assert low == 0.0


@pytest.mark.parametrize("kind", [EdgeHead, ShownHead])
def test_weights_are_what_was_written(kind: type[EdgeHead] | type[ShownHead], tmp_path: Path) -> None:
    torch.manual_seed(0)
    head, path = kind(), tmp_path / "boxes.safetensors"
    if isinstance(head, EdgeHead):
        torch.nn.init.normal_(head.edges.weight)
    save_head(path, head, {"recipe": {"seed": 3}})
    read, card = load_head(path, kind)
    assert card == {"recipe": {"seed": 3}}
    assert all(
        torch.equal(a.half().float(), b)
        for a, b in zip(head.state_dict().values(), read.state_dict().values(), strict=True)
    )
    assert not any(p.requires_grad for p in read.parameters())


def test_a_file_without_weights_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "boxes.safetensors"
    with pytest.raises(EncoderError, match=r"boxes\.safetensors: holds no readable box network .*pasr train boxes"):
        Tightener(CPU, BoxConfig(weights=str(path)))
    with pytest.raises(EncoderError, match=r"boxes\.safetensors: holds no readable box network .*pasr train shown"):
        Tightener(CPU, BoxConfig(shown_weights=str(path)))
    save_head(path, EdgeHead(), {})
    with pytest.raises(EncoderError, match=r"pasr-shown.*pasr train shown"):
        Tightener(CPU, BoxConfig(shown_weights=str(path)))
    path.write_bytes(b"no weights")
    with pytest.raises(EncoderError, match="holds no readable box network"):
        Tightener(CPU, BoxConfig(weights=str(path)))


def test_the_shipped_weights_are_small_and_tell_how_they_were_made() -> None:
    _, card = load_head(shipped_weights(EdgeHead), EdgeHead)
    assert shipped_weights(EdgeHead).stat().st_size < 1e6
    _, seen = load_head(shipped_weights(ShownHead), ShownHead)
    assert shipped_weights(ShownHead).stat().st_size < 1e6
    assert seen["held_out"]["shown"] > seen["held_out"]["box"] + 0.2
    assert {"recipe", "things", "held_out"} <= card.keys()
    assert card["held_out"]["tightened"]["iou"] > card["held_out"]["said"]["iou"]
