"""Evidence over frames: it settles, one bad frame does not overturn it, and look-alikes stay apart by what differs."""

from __future__ import annotations

import pytest

from pasr_perception.config import ConfidenceConfig, TrackConfig
from pasr_perception.track.identity import Identity, is_ambiguous, looked, searched

CONFIDENCE, CONFIG = ConfidenceConfig(slope=1.0, intercept=-3.0), TrackConfig()


def after(*looks: dict[str, float]) -> Identity:
    identity = Identity()
    for margins in looks:
        identity = searched(identity, margins, CONFIDENCE, CONFIG)
    return identity


def test_evidence_settles_and_probabilities_are_one_together():
    identity = after({"mug": 7.0, "can": 2.0}, {"mug": 6.0, "can": 3.0})
    shares, unknown = identity.probabilities()
    assert identity.best == "mug"
    assert shares["mug"] > 0.9
    assert sum(shares.values()) + unknown == pytest.approx(1.0)


def test_one_bad_frame_changes_nothing():
    good = {"mug": 8.0, "can": 1.0}
    identity = after(good, good, good, {"can": 9.0, "mug": -5.0})
    assert identity.best == "mug"
    assert after({"can": 9.0, "mug": -5.0}, good, good, good).best == "mug"


def test_a_mistake_is_corrected_in_the_end():
    assert after(*[{"can": 8.0, "mug": 1.0}] * 20, *[{"mug": 8.0, "can": 1.0}] * 6).best == "mug"


def test_differences_between_look_alikes_survive_the_bounds():
    identity = after(*[{"left": 20.0, "right": 19.5}] * 8)
    assert identity.evidence["left"] == CONFIG.identity_limit
    assert identity.evidence["left"] - identity.evidence["right"] == pytest.approx(4.0)
    assert is_ambiguous(after({"left": 9.0, "right": 8.8}), CONFIDENCE)
    assert not is_ambiguous(identity, CONFIDENCE)


def test_what_no_mesh_explains_is_unknown():
    _, unknown = after({"mug": 0.0, "can": -1.0}, {"mug": 0.5}).probabilities()
    assert unknown > 0.98


def test_a_mesh_looked_at_alone_can_only_be_spoken_against():
    identity = after({"mug": 5.0})
    assert looked(identity, {"mug": 9.0}, CONFIDENCE, CONFIG).evidence == identity.evidence
    assert looked(identity, {"mug": 1.0}, CONFIDENCE, CONFIG).evidence["mug"] == pytest.approx(0.0)
    both = looked(after({"mug": 5.0, "can": 4.5}), {"mug": 5.0, "can": 7.0}, CONFIDENCE, CONFIG)
    assert both.best == "can"
