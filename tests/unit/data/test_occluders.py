"""Boards hide their object wholly while they stand before it, and nothing once they are gone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pasr_perception.data.occluders import DURATIONS, SLIDE_S, Board, cover, object_box, plan_boards
from pasr_perception.data.scene_render import NOTHING, SUPERSAMPLE, SceneView
from pasr_perception.types import Camera

CAMERA = Camera(64, 48, np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]))
BOX = np.array([20.0, 12, 40, 36])
BOARD = Board(0, begin=2.0, duration=1.5, side=1.0, colours=np.array([[0.5, 0.4, 0.3], [0.3, 0.2, 0.1]]))


def view() -> SceneView:
    instance = np.full((CAMERA.height * SUPERSAMPLE, CAMERA.width * SUPERSAMPLE), NOTHING, np.int32)
    x0, y0, x1, y1 = (BOX * SUPERSAMPLE).astype(int)
    instance[y0:y1, x0:x1] = 0
    return SceneView(np.ones((48, 64, 3), np.float32), np.full((48, 64), 2.0, np.float32), instance)


def shown(time: float) -> int:
    """Quarter pixels of the object that are to be seen."""
    return int((cover(view(), [BOARD], [BOX], time, CAMERA).instance == 0).sum())


def test_a_board_comes_hides_and_goes():
    whole = shown(0.0)
    assert whole == 20 * 24 * SUPERSAMPLE**2
    assert shown(2.0) == shown(2.8) == shown(3.5) == 0
    assert 0 < shown(2.0 - 0.5 * SLIDE_S) < whole
    assert shown(3.5 + 1.1 * SLIDE_S) == whole


def test_what_is_covered_is_nearer_and_has_the_boards_colours():
    before, after = view(), cover(view(), [BOARD], [BOX], 2.5, CAMERA)
    middle = after.radiance[24, 30]
    assert (np.abs(BOARD.colours - middle).max(1) < 0.2).any()
    assert after.depth[24, 30] == pytest.approx(1.2)
    np.testing.assert_array_equal(after.radiance[2], before.radiance[2])  # beside the board
    assert (before.instance == 0).any()  # the given picture is left as it was


def test_a_board_outside_of_the_picture_changes_nothing():
    far = BOX + np.array([500.0, 0, 500, 0])
    given = view()
    assert cover(given, [BOARD], [far], 2.5, CAMERA) is given


def test_boards_come_one_after_the_other_and_go_round_the_objects():
    boards = plan_boards(7, 3, 60.0, np.random.default_rng(0))
    assert sorted(b.object for b in boards[:3]) == sorted(b.object for b in boards[3:6]) == [0, 1, 2]
    for a, b in itertools.pairwise(boards):
        assert a.begin + a.duration + SLIDE_S <= b.begin - SLIDE_S + 1e-9
    assert all(DURATIONS[0] <= b.duration <= DURATIONS[1] for b in boards)
    assert boards[-1].begin + boards[-1].duration < 60.0


def test_boards_follow_from_the_seed():
    one, same, other = (plan_boards(4, 5, 30.0, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert [(b.object, b.begin, b.duration, b.side) for b in one] == [
        (b.object, b.begin, b.duration, b.side) for b in same
    ]
    assert [b.duration for b in one] != [b.duration for b in other]


def test_the_box_of_an_object_holds_all_its_corners():
    corners = np.array([[-0.5, -0.2, 2.0], [0.5, 0.2, 2.0], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(object_box(corners, CAMERA), [17, 18, 47, 30])
