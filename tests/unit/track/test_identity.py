"""Evidence over frames: it settles, one bad frame does not overturn it, and look-alikes stay apart by what differs."""

from __future__ import annotations

import numpy as np
import pytest

from pasr_perception.config import ConfidenceConfig, TrackConfig
from pasr_perception.track.identity import (
    Identity,
    is_ambiguous,
    looked,
    searched,
    seen_from,
    spoken_against,
    told_apart,
)

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


def side(degrees: float) -> np.ndarray:
    return np.array([np.cos(np.radians(degrees)), 0.0, np.sin(np.radians(degrees))])


def test_the_nth_look_from_one_side_counts_an_nth_and_the_first_from_another_counts_fully():
    views, weights = (), []
    for degrees in (0, 5, -5, 90, 3, 88):
        views, weight = seen_from(views, side(degrees))
        weights.append(weight)
    assert weights == [1, 1 / 2, 1 / 3, 1, 1 / 4, 1 / 2]
    assert [v.looks for v in views] == [4, 2]


def test_three_sides_overturn_what_one_side_said_many_times():
    """Two cabinets that differ in their fronts: the wrong one fits a little better from behind, the right one from elsewhere."""
    identity, views = Identity(), ()
    for degrees, margins in (
        *[(0, {"wrong": 14.0, "right": 12.0})] * 30,
        *[(a, {"right": 14.0, "wrong": 11.0}) for a in range(60, 300, 40)],
    ):
        views, weight = seen_from(views, side(degrees))
        identity = searched(identity, margins, CONFIDENCE, CONFIG, weight)
        if degrees == 0:
            assert identity.best == "wrong"
    assert identity.best == "right"


def test_meshes_that_look_the_same_from_here_are_hardly_told_apart():
    margins = {"left": 9.0, "right": 7.0, "other": 7.0}
    gain = told_apart(margins, {"left": 1.0, "right": 0.8})
    assert gain["left"] == 9.0
    assert gain["other"] == 7.0
    assert gain["right"] == pytest.approx(9.0 - 2.0 * (0.2 / 0.65) ** 2)
    assert told_apart(margins, {"left": 1.0, "right": 0.3}) == margins  # chairs are that alike


def test_likeness_is_that_of_the_pair_whichever_of_it_fits_better():
    assert told_apart({"left": 7.0, "right": 9.0}, {"left": 1.0, "right": 0.8})["left"] == pytest.approx(
        told_apart({"left": 9.0, "right": 7.0}, {"left": 1.0, "right": 0.8})["right"]
    )
    assert told_apart({}, {}) == {}


def test_other_evidence_speaks_against_one_mesh_only():
    identity = after({"mug": 5.0, "can": 4.0})
    less = spoken_against(identity, "mug", 1.5, CONFIG)
    assert less.evidence["mug"] == pytest.approx(identity.evidence["mug"] - 1.5)
    assert less.evidence["can"] == identity.evidence["can"]
