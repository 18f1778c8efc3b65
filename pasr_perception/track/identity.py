"""Which mesh a track is: log-evidence summed over frames, against the hypothesis that it is none of the library's.

A first search gives every mesh that it lists its calibrated log-odds of being right rather than a stranger's (`confidence.py`).
Those hold what is to be thought of any one of many meshes beforehand, which counts once: what later looks add is the ratio of
likelihoods of their margin alone. It is 0 at `EVEN`: a stranger exceeds that with some mesh in most looks, but seldom twice with
the same one. Looks from one side are much alike (two cabinets that differ in their fronts, from behind): the n-th counts an n-th.
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
NEW_VIEW = 0.35  # rad: a view turned by this much is as good as an independent one
AGAINST = 0.3  # what a look counts at least that speaks against the mesh: the box may have become another object's
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
class View:
    """A side that an object was looked at from."""

    direction: np.ndarray  # [3] unit, towards the camera, object axes
    looks: int


def seen_from(views: tuple[View, ...], direction: np.ndarray) -> tuple[tuple[View, ...], float]:
    """The views with one more look from a direction [3], and what that look counts."""
    turned = [angle_between(v.direction, direction) for v in views]
    nearest = int(np.argmin(turned)) if turned else -1
    if nearest < 0 or turned[nearest] > NEW_VIEW:
        return (*views, View(direction, 1)), 1.0
    known = replace(views[nearest], looks=views[nearest].looks + 1)
    return (*views[:nearest], known, *views[nearest + 1 :]), 1 / known.looks


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
    gain = told_apart({mesh: weight * _ratio(margin, confidence) for mesh, margin in margins.items()}, likeness)
    supported = max(gain.values(), default=0.0) > 0
    if len(gain) == 1:
        against = max(weight, AGAINST) / weight
        gain = {mesh: min(against * value, 0.0) for mesh, value in gain.items()}
    return replace(identity, evidence=_added(identity.evidence, gain, config), looks=identity.looks + supported)


def spoken_against(identity: Identity, mesh_id: str, evidence: float, config: TrackConfig) -> Identity:
    """With so much log-evidence against one mesh, from what is no margin."""
    return replace(identity, evidence=_added(identity.evidence, {mesh_id: -evidence}, config))


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
