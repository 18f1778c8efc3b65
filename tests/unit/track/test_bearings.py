"""Rays through boxes: a thing at rest is at rest from wherever it is seen, whatever its pose is held to be."""

from __future__ import annotations

import numpy as np
import pytest

from pasr_perception.geometry.camera import project
from pasr_perception.geometry.se3 import invert_T, make_T
from pasr_perception.geometry.viewpoints import look_at
from pasr_perception.track.bearings import FEWEST, MOST, WINDOW_S, Sighting, latest, moves, sighting
from pasr_perception.types import Camera, Frame

CAMERA = Camera(640, 480, np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]]), np.zeros(0))
SIZE, START = 0.3, np.array([0.1, -0.05, 0.4])


def seen(speed: np.ndarray, frames: int = 12, jitter: float = 0.08, pan: float = 0.6) -> list[Sighting]:
    """A thing of 0.3 m, seen at 5 Hz by a camera that goes round it by `pan` radians at 2 m."""
    rng, found = np.random.default_rng(0), []
    for i in range(frames):
        R = look_at(0.4, pan * i / frames)
        T_ref_cam = invert_T(make_T(R, np.array([0, 0, 2.0])))
        T_cam_ref = invert_T(T_ref_cam)
        where = START + speed * i / 5
        uv = project((T_cam_ref[:3, :3] @ where + T_cam_ref[:3, 3])[None], CAMERA.K)[0]
        half = SIZE / 2 / 2.0 * 600
        box = np.concatenate([uv - half, uv + half]) + jitter * 2 * half * rng.uniform(-1, 1, 4)
        one = sighting(box, Frame(np.zeros((480, 640, 3), np.uint8), CAMERA, i * 200_000_000), T_ref_cam)
        assert one is not None
        found.append(one)
    return found


@pytest.mark.parametrize("held", [START, START + np.array([0.4, 0.4, -0.2]), START * 0.5])
def test_a_thing_at_rest_is_at_rest_wherever_it_is_held_to_be(held: np.ndarray) -> None:
    assert not moves(seen(np.zeros(3)), held)


def test_it_is_at_rest_for_a_camera_that_stands_still() -> None:
    assert not moves(seen(np.zeros(3), pan=0.0), START)


@pytest.mark.parametrize("pan", [0.0, 0.6])
def test_a_thing_that_moves_across_the_view_is_noticed(pan: float) -> None:
    assert moves(seen(np.array([0.25, 0.0, 0.1]), pan=pan), START)


def test_one_box_of_something_else_decides_nothing() -> None:
    sightings = seen(np.zeros(3))
    other = Sighting(sightings[4].stamp_ns, sightings[4].origin, np.array([1.0, 0, 0]), 0.01, np.ones(2))
    assert not moves([*sightings[:4], other, *sightings[5:]], START)


def test_a_few_sightings_say_nothing() -> None:
    assert not moves(seen(np.array([1.0, 0, 0]), frames=FEWEST - 1, pan=0.0), START)


def test_old_sightings_are_let_go() -> None:
    kept = latest(seen(np.zeros(3), frames=60))
    assert len(kept) == MOST
    old = [Sighting(i * 10**9, np.zeros(3), np.array([0, 0, 1.0]), 0.1, np.ones(2)) for i in range(10)]
    assert [s.stamp_ns for s in latest(old)] == [(9 - WINDOW_S + i) * 1e9 for i in range(int(WINDOW_S) + 1)]


def test_a_box_that_the_border_cuts_is_no_sighting() -> None:
    frame = Frame(np.zeros((480, 640, 3), np.uint8), CAMERA, 0)
    assert sighting(np.array([0.0, 10, 50, 60]), frame, np.eye(4)) is None
