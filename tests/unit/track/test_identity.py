"""Evidence over frames: it settles, one bad frame does not overturn it, and look-alikes stay apart by what differs."""

from __future__ import annotations

import pytest

from pasr_perception.config import ConfidenceConfig, TrackConfig
from pasr_perception.track.identity import Identity, is_ambiguous, looked, searched, spoken_against, view_weight

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
    assert looked(identity, {"mug": 1.0}, CONFIDENCE, CONFIG).evidence["mug"] == pytest.approx(1.0)
    both = looked(after({"mug": 5.0, "can": 4.5}), {"mug": 5.0, "can": 7.0}, CONFIDENCE, CONFIG)
    assert both.best == "can"


def test_what_is_thought_of_a_mesh_beforehand_counts_once():
    """A stranger's margins are sometimes high, but not time and again with the same mesh."""
    stranger = after({"mug": 3.0, "can": 1.0}, {"can": 3.0, "pot": 1.0}, {"pot": 3.0, "mug": 0.5})
    assert stranger.probabilities()[1] > 0.5
    weak = after(*[{"mug": 3.0, "can": 1.0}] * 6)
    assert weak.best == "mug"
    assert weak.probabilities()[1] < 0.1


def test_a_mesh_that_is_listed_late_starts_behind():
    identity = after({"mug": 6.0, "pot": 0.0}, {"mug": 6.0, "pot": 0.0}, {"mug": 2.0, "can": 4.0})
    assert identity.evidence["can"] < identity.evidence["mug"]
    assert after({"can": 4.0}).evidence["can"] > identity.evidence["can"]


def test_looks_from_one_side_count_little():
    def gained(weight: float) -> float:
        first = searched(Identity(), {"mug": 3.0}, CONFIDENCE, CONFIG)
        return searched(first, {"mug": 4.0}, CONFIDENCE, CONFIG, weight).evidence["mug"] - first.evidence["mug"]

    assert gained(view_weight(0.0)) == pytest.approx(0.3 * gained(view_weight(3.0)))
    assert view_weight(0.1) > view_weight(0.0)


def test_other_evidence_speaks_against_one_mesh_only():
    identity = after({"mug": 5.0, "can": 4.0})
    less = spoken_against(identity, "mug", 1.5, CONFIG)
    assert less.evidence["mug"] == pytest.approx(identity.evidence["mug"] - 1.5)
    assert less.evidence["can"] == identity.evidence["can"]
