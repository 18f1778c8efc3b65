"""From margins to probabilities: which mesh an object is, and that it is none of the library's.

A margin says how many spreads a hypothesis stands out from what strangers reach with that mesh (`rank.py`). Its log-odds of being
the right one are taken as linear in it (Platt 1999), and the meshes of one crop compete with each other and with "none of
them", whose log-odds are 0: a multinomial logit with an outside option. The two coefficients are fitted on simulated scenes some of
whose objects the library does not hold (`evaluation/calibration.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pasr_perception.config import ConfidenceConfig


def log_odds(margin: float, config: ConfidenceConfig) -> float:
    """Log-odds that a hypothesis of this margin is right rather than a stranger's."""
    return config.slope * margin + config.intercept


def probabilities(margins: Sequence[float], config: ConfidenceConfig) -> tuple[list[float], float]:
    """Of each of one object's meshes, in their order, and that it is none of them; together 1."""
    odds = np.array([0.0, *(log_odds(m, config) for m in margins)])
    share = np.exp(odds - odds.max())
    share /= share.sum()
    return share[1:].tolist(), float(share[0])


def is_ambiguous(scores: Sequence[float], config: ConfidenceConfig) -> bool:
    """Whether a second hypothesis is nearly as probable as the best of scores, best first."""
    return len(scores) > 1 and scores[1] >= config.ambiguity * scores[0]
