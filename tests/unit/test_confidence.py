"""Margins become probabilities that leave room for "none of them"."""

from __future__ import annotations

import pytest

from pasr_perception.confidence import is_ambiguous, log_odds, probabilities
from pasr_perception.config import ConfidenceConfig

CONFIG = ConfidenceConfig(slope=1.0, intercept=-3.0, ambiguity=0.25)


def test_odds_are_linear_in_the_margin():
    assert log_odds(3.0, CONFIG) == 0.0
    assert log_odds(5.0, CONFIG) == 2.0


def test_probabilities_and_unknown_are_one_together():
    shares, unknown = probabilities([9.0, 4.0, -2.0], CONFIG)
    assert sum(shares) + unknown == pytest.approx(1.0)
    assert shares[0] > 0.98


def test_what_is_no_better_than_a_stranger_is_unknown():
    assert probabilities([0.0, -1.0], CONFIG)[1] > 0.9
    assert probabilities([], CONFIG) == ([], 1.0)


def test_look_alikes_are_ambiguous():
    alike, _ = probabilities([8.0, 7.5], CONFIG)
    apart, _ = probabilities([8.0, 5.0], CONFIG)
    assert is_ambiguous(alike, CONFIG)
    assert not is_ambiguous(apart, CONFIG)
    assert not is_ambiguous(alike[:1], CONFIG)
