"""Detections find their tracks by id, by overlap, and by colours where boxes cross."""

from __future__ import annotations

import numpy as np
import pytest

from pasr_perception.config import TrackConfig
from pasr_perception.track.association import Expected, Oddity, associate, colours_of
from pasr_perception.types import Detection

CONFIG = TrackConfig()


def canvas() -> np.ndarray:
    image = np.full((100, 200, 3), 90, np.uint8)
    image[:, :100] = (200, 30, 30)
    image[:, 100:] = (30, 30, 200)
    return image


RED, BLUE = np.array([10.0, 10, 50, 90]), np.array([120.0, 10, 160, 90])


def test_boxes_go_to_the_tracks_that_they_overlap():
    image = canvas()
    red, blue = colours_of(image, RED), colours_of(image, BLUE)
    tracks = [Expected(RED, red, ""), Expected(BLUE, blue, "")]
    detections = [Detection(BLUE + 4), Detection(RED - 4), Detection(np.array([170.0, 0, 190, 20]))]
    assert associate(tracks, detections, [blue, red, blue], CONFIG) == [1, 0, None]


def test_colours_decide_between_boxes_that_cross():
    image = canvas()
    red, blue = colours_of(image, RED), colours_of(image, BLUE)
    middle = np.array([80.0, 10, 120, 90])
    tracks = [Expected(middle, red, ""), Expected(middle + np.array([2.0, 0, 2, 0]), blue, "")]
    detections = [Detection(middle + np.array([1.0, 0, 1, 0])), Detection(middle + np.array([1.0, 0, 1, 0]))]
    assert associate(tracks, detections, [blue, red], CONFIG) == [1, 0]


def test_ids_go_before_overlap_and_different_ids_never_meet():
    colours = np.full(4, 0.25)
    tracks = [Expected(RED, colours, "a"), Expected(BLUE, colours, "b")]
    far = [Detection(BLUE, id="a"), Detection(RED, id="c")]
    assert associate(tracks, far, [colours, colours], CONFIG) == [0, None]


@pytest.mark.parametrize("tracks", [0, 1])
def test_nothing_to_associate(tracks):
    expected = [Expected(RED, np.full(4, 0.25), "")] * tracks
    assert associate(expected, [], [], CONFIG) == []
    assert associate([], [Detection(RED)], [np.full(4, 0.25)], CONFIG) == [None]


def test_an_oddity_goes_with_the_expected_box():
    box, cut = np.array([0.0, 0, 40, 80]), np.array([0.0, 0, 10, 80])
    odd = Oddity.of(cut, box, np.full(4, 0.25))
    np.testing.assert_allclose(odd.box(np.array([100.0, 0, 180, 160])), [100, 0, 120, 160])


def test_what_is_odd_as_before_agrees():
    mine, others = np.array([1.0, 0, 0]), np.array([0, 0, 1.0])
    box, cut = np.array([0.0, 0, 40, 80]), np.array([0.0, 0, 10, 80])
    odd = Oddity.of(cut, box, others)
    expected = Expected(box, mine, "", odd=odd)
    limits = (0.5, 0.8)
    assert expected.agrees(Detection(box), mine, *limits)
    assert expected.agrees(Detection(cut), others, *limits)
    assert not expected.agrees(Detection(cut), mine, *limits)  # neither whole nor odd in the way that it was
    assert not expected.agrees(Detection(box), others, *limits)
    assert not Expected(box, mine, "").agrees(Detection(cut), others, *limits)
