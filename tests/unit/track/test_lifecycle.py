"""Every state that a track can come to, and the words that say why."""

from __future__ import annotations

import numpy as np
import pytest

from pasr_perception.config import ConfidenceConfig, TrackConfig
from pasr_perception.track.identity import Identity
from pasr_perception.track.lifecycle import verdict
from pasr_perception.track.motion import begin
from pasr_perception.track.state import Track
from pasr_perception.types import Detection, TrackState

CONFIG, CONFIDENCE = TrackConfig(), ConfidenceConfig()
BOX = np.array([0.0, 0, 10, 10])
TENTATIVE, TRACKED, COASTING, LOST = TrackState.TENTATIVE, TrackState.TRACKED, TrackState.COASTING, TrackState.LOST


def track(state: TrackState, seen: bool = True, **values: object) -> Track:
    known = {"identity": Identity({"mug": 6.0, "can": 1.0}, looks=3), "mesh_id": "mug", "agreed": 2}
    made = Track(1, 0, 0, BOX, np.full(4, 0.25), "", state, reason="before", **(known | values))
    made.motion = begin(np.eye(4), np.eye(6), 0)
    made.detection = Detection(BOX) if seen else None
    return made


@pytest.mark.parametrize(
    ("given", "unseen_s", "state", "reason"),
    [
        (track(TENTATIVE), 0.0, TRACKED, "mug with probability 0.99"),
        (track(TENTATIVE, identity=Identity({"mug": 6.0}, looks=1)), 0.0, TENTATIVE, "not settled: mug"),
        (track(TENTATIVE, agreed=1), 0.0, TENTATIVE, "mug, but its last searches found different poses"),
        (track(TENTATIVE, identity=Identity()), 0.0, TENTATIVE, "waits for its first search"),
        (track(TENTATIVE, identity=Identity({"mug": -4.0}, 2)), 0.0, TENTATIVE, "no mesh of the library explains it"),
        (track(TENTATIVE, identity=Identity({"mug": 4.0, "can": 3.9}, 2)), 0.0, TENTATIVE, "not settled: mug"),
        (track(TRACKED, measured=True), 0.0, TRACKED, "mug with probability 0.99"),
        (track(COASTING, measured=True), 0.0, TRACKED, "mug with probability 0.99"),
        (track(LOST, measured=True), 0.0, TRACKED, "mug with probability 0.99"),
        (track(TRACKED), 0.0, COASTING, "its last looks did not fit"),
        (track(TRACKED, waited=1), 0.0, COASTING, "the time budget did not reach it"),
        (track(LOST), 0.0, LOST, "detected again, but not yet recognised"),
        (track(TRACKED, seen=False), 0.4, COASTING, "not detected for 0.4 s"),
        (track(COASTING, seen=False), 1.1, LOST, "not detected for 1.1 s"),
        (track(LOST, seen=False), 0.1, LOST, "not detected for 0.1 s"),
        (track(TRACKED, identity=Identity({"mug": -5.0}, 9)), 0.0, TENTATIVE, "no mesh explains it any more"),
        (
            track(TRACKED, identity=Identity({"mug": 1.0, "can": 1.0}, 9), measured=True),
            0.0,
            TENTATIVE,
            "no longer settled: mug",
        ),
    ],
)
def test_states_and_reasons(given, unseen_s, state, reason):
    assert verdict(given, unseen_s, CONFIG, CONFIDENCE) == ""
    assert given.state is state
    assert given.reason.startswith(reason)


@pytest.mark.parametrize(
    ("state", "unseen_s", "reason"),
    [
        (TENTATIVE, 2.1, "not detected for 2.1 s before it was recognised"),
        (COASTING, 30.5, "not detected for 30.5 s"),
        (LOST, 31.0, "not detected for 31.0 s"),
    ],
)
def test_what_is_given_up_and_why(state, unseen_s, reason):
    assert verdict(track(state, seen=False), unseen_s, CONFIG, CONFIDENCE) == reason
