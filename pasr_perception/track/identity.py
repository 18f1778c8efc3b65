"""Which mesh a track is: log-evidence summed over frames, against the hypothesis that it is none of the library's.

A first search gives every mesh that it lists its calibrated log-odds of being right rather than a stranger's (`confidence.py`).
Those hold what is to be thought of any one of many meshes beforehand, which counts once: what later looks add is the ratio of
likelihoods of their margin alone. It is 0 at `EVEN`: a stranger exceeds that with some mesh in most looks, but seldom twice with
the same one. Looks in short order are much alike: the n-th counts an n-th, where what is some seconds old is half forgotten, so
that it is time that brings evidence, not the number of looks. One that fits no mesh says little: the object may be hidden.
What one look may add is bounded, and so is the sum: no single frame overturns many, and a mistake can be corrected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from pasr_perception.confidence import log_odds
from pasr_perception.config import ConfidenceConfig, TrackConfig

EVEN = 2.0  # margin at which a mesh that was named before is as likely a stranger's as right
UNSEEN = 1.0  # margin below that of the weakest mesh that a search listed, for those that it did not
UNLIKE = 0.35  # likeness of renderings up to which two meshes are compared at full weight; chairs reach it with chairs
NEW_VIEW = 0.35  # rad: turned by this much, an object shows another side, where look-alikes may differ
ALIKE_S = 2.0  # looks that are this far apart have hardly a box, and often neither a side nor an obstacle in common
HIDDEN = 0.3  # what a look counts that fits no mesh: something may stand in front, for longer than `ALIKE_S`
UNKNOWN: Mapping[str, float] = {}


@dataclass(frozen=True)
class Identity:
    """What is known of a track's mesh."""

    evidence: Mapping[str, float] = field(default_factory=dict)  # log-evidence over "none of the library"
    looks: int = 0  # searches, and looks that spoke for it
    unlisted: float = 0.0  # log-evidence of the meshes that no search has listed yet

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


@dataclass(frozen=True)
class Recent:
    """How often an object was looked at in the last seconds."""

    looks: float = 0.0  # older ones count less
    stamp_ns: int = 0


def looked_again(recent: Recent, stamp_ns: int) -> tuple[Recent, float]:
    """The same with one more look, and what that look counts."""
    looks = 1 + recent.looks * math.exp(-max(stamp_ns - recent.stamp_ns, 0) * 1e-9 / ALIKE_S)
    return Recent(looks, stamp_ns), 1 / looks


def angle_between(a: np.ndarray, b: np.ndarray) -> float:
    """Radians between unit vectors [3]."""
    return math.acos(float(np.clip(a @ b, -1, 1)))


def searched(
    identity: Identity,
    margins: Mapping[str, float],
    confidence: ConfidenceConfig,
    config: TrackConfig,
    weight: float = 1.0,
    likeness: Mapping[str, float] = UNKNOWN,
) -> Identity:
    """After a search that listed these meshes with these margins; the others were below the weakest of them."""
    if not margins:
        return identity

    def worth(margin: float) -> float:
        return weight * _ratio(margin, confidence) if identity.looks else log_odds(margin, confidence)

    weight = _shown(margins, weight)
    gain, rest = {m: worth(v) for m, v in margins.items()}, worth(min(margins.values()) - UNSEEN)
    gain = told_apart(gain, likeness)
    known = dict.fromkeys(margins, identity.unlisted) | dict(identity.evidence)
    unlisted = max(identity.unlisted + max(rest, -config.identity_step), -config.identity_limit)
    return Identity(_added(known, {m: gain.get(m, rest) for m in known}, config), identity.looks + 1, unlisted)


def looked(
    identity: Identity,
    margins: Mapping[str, float],
    confidence: ConfidenceConfig,
    config: TrackConfig,
    weight: float = 1.0,
    likeness: Mapping[str, float] = UNKNOWN,
) -> Identity:
    """After a look at some meshes from predicted poses. One mesh looked at alone can only be spoken against."""
    weight = _shown(margins, weight)
    gain = told_apart({mesh: weight * _ratio(margin, confidence) for mesh, margin in margins.items()}, likeness)
    supported = max(gain.values(), default=0.0) > 0
    if len(gain) == 1:
        gain = {mesh: min(value, 0.0) for mesh, value in gain.items()}
    return replace(identity, evidence=_added(identity.evidence, gain, config), looks=identity.looks + supported)


def spoken_against(identity: Identity, mesh_id: str, evidence: float, config: TrackConfig) -> Identity:
    """With so much log-evidence against one mesh, from what is no margin."""
    return replace(identity, evidence=_added(identity.evidence, {mesh_id: -evidence}, config))


def _shown(margins: Mapping[str, float], weight: float) -> float:
    """What a look counts by how well anything fits it: one that fits another mesh says more than one that fits none."""
    return weight if max(margins.values(), default=EVEN) >= EVEN else HIDDEN * weight


def _ratio(margin: float, confidence: ConfidenceConfig) -> float:
    """Log-ratio of a margin's likelihoods under "this mesh" and "a stranger"."""
    return confidence.slope * (margin - EVEN)


def told_apart(gain: Mapping[str, float], likeness: Mapping[str, float]) -> dict[str, float]:
    """Gains in which meshes that look like the best of them from here stay nearer to it.

    Where two renderings are nearly the same, the photo hardly says which mesh it shows: what their margins differ by is how well
    each mesh's features were made. `likeness` is that of each mesh's rendering to one mesh's, whose own is 1; those that it
    does not name are unlike all.
    """
    if not gain:
        return {}
    best = max(gain, key=lambda mesh: gain[mesh])

    def kept(mesh: str) -> float:
        pair = min(likeness.get(mesh, 0.0), likeness.get(best, 0.0))
        return float(min((1 - pair) / (1 - UNLIKE), 1.0) ** 2)

    return {m: value if m == best else gain[best] - kept(m) * (gain[best] - value) for m, value in gain.items()}


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
