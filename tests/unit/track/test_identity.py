"""Evidence over frames: it settles, one bad frame does not overturn it, and look-alikes stay apart by what differs."""

from __future__ import annotations

import pytest

from pasr_perception.config import ConfidenceConfig, TrackConfig
from pasr_perception.track.identity import (
    ALIKE_S,
    HIDDEN,
    Identity,
    Recent,
    is_ambiguous,
    looked,
    looked_again,
    searched,
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
    assert unknown > 0.93


def test_a_mesh_looked_at_alone_can_only_be_spoken_against():
    identity = after({"mug": 5.0})
    assert looked(identity, {"mug": 9.0}, CONFIDENCE, CONFIG).evidence == identity.evidence
    assert looked(identity, {"mug": 1.0}, CONFIDENCE, CONFIG).evidence["mug"] == pytest.approx(2.0 - HIDDEN)
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


def counted(rate_hz: float, seconds: float) -> float:
    """What all looks of so long count together."""
    recent, total = Recent(), 0.0
    for i in range(round(rate_hz * seconds)):
        recent, weight = looked_again(recent, round((1 + i / rate_hz) * 1e9))
        total += weight
    return total


def test_the_nth_look_at_once_counts_an_nth_and_one_after_a_while_counts_fully():
    recent, weights = Recent(), []
    for stamp_ns in (1, 1, 1, 10**11):
        recent, weight = looked_again(recent, stamp_ns)
        weights.append(weight)
    assert weights == pytest.approx([1, 1 / 2, 1 / 3, 1])


def test_it_is_time_that_brings_evidence_whatever_the_rate():
    often, seldom = counted(30.0, 30.0), counted(3.0, 30.0)
    assert 0.5 * 30 / ALIKE_S < seldom < 1.5 * 30 / ALIKE_S
    assert often == pytest.approx(seldom, rel=0.5)
    assert counted(30.0, 60.0) == pytest.approx(2 * often, rel=0.2)


def test_what_is_seen_better_later_overtakes_what_was_half_hidden_for_long():
    """A barrel behind a board fits many things a little; once it is free, a few looks from the same side settle it."""
    identity, recent = Identity(), Recent()
    for second in range(28):
        margins = {"barrel": 12.0, "cup": 5.0} if second >= 20 else {"cup": 3.5, "lamp": 3.0}
        recent, weight = looked_again(recent, (1 + second) * 10**9)
        identity = searched(identity, margins, CONFIDENCE, CONFIG, weight)
    assert identity.probabilities()[0]["barrel"] > 0.95


def test_a_board_in_front_says_less_against_a_mesh_than_another_mesh_that_fits():
    settled = after(*[{"mug": 8.0, "can": 3.0}] * 3)
    hidden, other = {"mug": 0.5, "can": 0.5}, {"mug": 0.5, "can": 4.5}
    for search in (searched, looked):
        nothing = search(settled, hidden, CONFIDENCE, CONFIG).evidence["mug"]
        wrong = search(settled, other, CONFIDENCE, CONFIG).evidence["mug"]
        assert wrong == pytest.approx(settled.evidence["mug"] - 1.5)
        assert nothing == pytest.approx(settled.evidence["mug"] - HIDDEN * 1.5)


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
