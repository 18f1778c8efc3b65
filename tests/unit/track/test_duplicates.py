"""Two tracks of one thing become one, under the older number."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from pasr_perception.config import ConfidenceConfig
from pasr_perception.geometry.se3 import make_T
from pasr_perception.track.duplicates import merge_duplicates
from pasr_perception.track.identity import Identity
from pasr_perception.track.motion import begin
from pasr_perception.track.state import Track
from pasr_perception.types import Detection, TrackState

ENTRIES = {name: SimpleNamespace(extent=(0.2, 0.2, 0.2)) for name in ("mug", "can")}
BOX = np.array([0.0, 0, 10, 10])


def track(number: int, x: float, mesh: str = "mug", evidence: float = 5.0, seen: bool = True, name: str = "") -> Track:
    made = Track(number, 0, number, BOX + number, np.full(4, 0.25), name, TrackState.TRACKED)
    made.mesh_id, made.identity = mesh, Identity({mesh: evidence}, 3)
    made.motion = begin(make_T(np.eye(3), np.array([x, 0, 1.5])), np.eye(6), 0)
    made.detection = Detection(made.box) if seen else None
    return made


def merged(*tracks: Track) -> list[tuple[int, str]]:
    return [(t.track_id, why) for t, why in merge_duplicates(tracks, ENTRIES, np.eye(4), ConfidenceConfig())]


def test_an_unseen_track_goes_on_where_the_younger_one_is():
    older, younger = track(1, 0.0, seen=False), track(2, 0.03)
    assert merged(younger, older) == [(2, "the same thing as track 1")]
    assert older.motion is younger.motion
    assert older.detection is younger.detection
    assert older.seen_ns == 2


def test_a_track_that_is_seen_keeps_its_own_pose():
    older, younger = track(1, 0.0), track(2, 0.03)
    kept = older.motion
    assert merged(older, younger) == [(2, "the same thing as track 1")]
    assert older.motion is kept


@pytest.mark.parametrize(
    "other",
    [track(2, 0.3), track(2, 0.0, "can"), track(2, 0.0, evidence=-1.0), track(2, 0.0, name="another")],
)
def test_different_things_stay_apart(other):
    assert merged(track(1, 0.0, seen=False, name="one"), other) == []


def test_three_of_one_thing_become_one():
    assert [number for number, _ in merged(track(1, 0.0), track(2, 0.01), track(3, 0.02))] == [2, 3]


def test_a_settled_pose_is_not_given_up_for_one_that_is_not():
    older, younger = track(1, 0.0, seen=False), track(2, 0.03)
    younger.state, kept = TrackState.TENTATIVE, older.motion
    assert merged(older, younger) == [(2, "the same thing as track 1")]
    assert older.motion is kept
    assert older.detection is younger.detection
