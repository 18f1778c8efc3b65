"""Which mesh a track is: log-evidence summed over frames, against the hypothesis that it is none of the library's.

A look gives every mesh that it compared a margin, and the calibration (`confidence.py`) its log-odds of being right rather than a
stranger's. Looks of one object are much alike, so what one of them may add is bounded, and so is the sum: no single frame
overturns many, and a mistake can be corrected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from pasr_perception.confidence import log_odds
from pasr_perception.config import ConfidenceConfig, TrackConfig

UNSEEN = 1.0  # log-evidence below the weakest mesh that a search listed, for those that it did not
NEVER_SEEN = -3.0  # where a mesh starts that appears late, per look before


@dataclass(frozen=True)
class Identity:
    """What is known of a track's mesh."""

    evidence: Mapping[str, float] = field(default_factory=dict)  # log-evidence over "none of the library"
    looks: int = 0  # searches, and looks that spoke for it

    @property
    def order(self) -> tuple[str, ...]:
        """Meshes, best first."""
        return tuple(sorted(self.evidence, key=lambda mesh: -self.evidence[mesh]))

    @property
    def best(self) -> str:
        return self.order[0] if self.evidence else ""

    def probabilities(self) -> tuple[dict[str, float], float]:
        """Of every mesh, and that it is none of them; together 1."""
        values = np.array([0.0, *self.evidence.values()])
        share = np.exp(values - values.max())
        share /= share.sum()
        return dict(zip(self.evidence, share[1:].tolist(), strict=True)), float(share[0])


def searched(
    identity: Identity, margins: Mapping[str, float], confidence: ConfidenceConfig, config: TrackConfig
) -> Identity:
    """After a search that listed these meshes with these margins; the others were below the weakest of them."""
    if not margins:
        return identity
    odds = {mesh: log_odds(margin, confidence) for mesh, margin in margins.items()}
    floor = min(odds.values()) - UNSEEN
    start = max(NEVER_SEEN * identity.looks, -config.identity_limit)
    known = dict.fromkeys(odds, start) | dict(identity.evidence)
    return Identity(_added(known, {m: odds.get(m, floor) for m in known}, config), identity.looks + 1)


def looked(
    identity: Identity, margins: Mapping[str, float], confidence: ConfidenceConfig, config: TrackConfig
) -> Identity:
    """After a look at some meshes from predicted poses. One mesh looked at alone can only be spoken against."""
    odds = {mesh: log_odds(margin, confidence) for mesh, margin in margins.items()}
    supported = max(odds.values(), default=0.0) > 0
    if len(odds) == 1:
        odds = {mesh: min(value, 0.0) for mesh, value in odds.items()}
    return Identity(_added(identity.evidence, odds, config), identity.looks + supported)


def is_ambiguous(identity: Identity, confidence: ConfidenceConfig) -> bool:
    """Whether a second mesh is nearly as likely as the best."""
    order = identity.order
    if len(order) < 2:
        return False
    return float(np.exp(identity.evidence[order[1]] - identity.evidence[order[0]])) >= confidence.ambiguity


def _added(evidence: Mapping[str, float], odds: Mapping[str, float], config: TrackConfig) -> dict[str, float]:
    """Evidence with a look's log-odds, bounded so that differences between look-alikes at the bound are kept."""
    step = _bounded(odds, config.identity_step)
    return _bounded({m: e + step.get(m, 0.0) for m, e in evidence.items()}, config.identity_limit)


def _bounded(values: Mapping[str, float], limit: float) -> dict[str, float]:
    """Values shifted down together until the largest is at most `limit`, then none below -limit."""
    above = max(max(values.values(), default=0.0) - limit, 0.0)
    return {name: max(value - above, -limit) for name, value in values.items()}
