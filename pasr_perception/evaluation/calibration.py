"""Calibration of confidence: two coefficients fitted on simulated scenes some of whose objects the library does not hold.

Each searched object gives the margins of its hypotheses and which of them, if any, is right. Slope and intercept are those under
which that is likeliest (Platt 1999, with several classes and an outside option); ECE is that of Guo et al. (2017).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

from pasr_perception.confidence import probabilities
from pasr_perception.config import ConfidenceConfig
from pasr_perception.data.records import BagFrame
from pasr_perception.pipeline import Pipeline

BINS = 10
MIN_VISIBLE = 0.4  # objects more hidden than this are no examples
MIN_EXAMPLES = 10
RIDGE = 1e-3  # keeps the slope finite where examples separate


@dataclass(frozen=True)
class Example:
    """One searched object."""

    margins: tuple[float, ...]  # of its hypotheses, best first
    right: int | None  # index of the right hypothesis; None: none of them is
    known: bool  # the library holds its mesh


@dataclass(frozen=True)
class Calibration:
    """What was fitted, and how good it is on examples; those that it was fitted on, unless said otherwise."""

    config: ConfidenceConfig
    examples: int
    ece: float  # expected calibration error of the best hypothesis' probability
    reliability: tuple[tuple[float, float, int], ...]  # mean probability, share right, count, bin by bin
    thresholds: tuple[tuple[float, float, float], ...]  # threshold, false accepts, false rejects


def collect(pipeline: Pipeline, frames: Iterable[BagFrame]) -> list[Example]:
    """Search every detected object of the frames, whose detections carry their objects' ids."""
    ids = {entry.id for entry in pipeline.library.entries}
    found = []
    for item in frames:
        truths = {t.id: t for t in item.truths if t.visible_fraction >= MIN_VISIBLE}
        wanted = [d for d in item.detections if d.id in truths]
        for estimate in pipeline.detect(item.frame, wanted).objects:
            true_id = truths[estimate.detection.id].mesh_id
            named = [h.mesh_id for h in estimate.hypotheses]
            right = named.index(true_id) if true_id in named else None
            found.append(Example(tuple(h.margin for h in estimate.hypotheses), right, true_id in ids))
    return found


def fit(examples: Sequence[Example], start: ConfidenceConfig) -> ConfidenceConfig:
    """The slope and intercept under which the examples are likeliest. Raises ValueError for fewer than ten examples."""
    if len(examples) < MIN_EXAMPLES:
        raise ValueError(f"examples: expected at least {MIN_EXAMPLES} searched objects, got {len(examples)}")

    def cost(x: np.ndarray) -> float:
        config = replace(start, slope=float(np.exp(x[0])), intercept=float(x[1]))
        total = 0.0
        for example in examples:
            shares, unknown = probabilities(example.margins, config)
            total -= float(np.log(max(unknown if example.right is None else shares[example.right], 1e-12)))
        return total / len(examples) + RIDGE * float(x @ x)

    best = minimize(cost, np.array([np.log(start.slope), start.intercept]), method="Nelder-Mead").x
    return replace(start, slope=round(float(np.exp(best[0])), 3), intercept=round(float(best[1]), 3))


def judge(examples: Sequence[Example], config: ConfidenceConfig) -> Calibration:
    """How well a configuration's probabilities hold on examples."""
    best = np.array([probabilities(e.margins, config)[0][0] if e.margins else 0.0 for e in examples])
    right = np.array([e.right == 0 for e in examples])
    known = np.array([e.known for e in examples])
    bins = np.minimum((best * BINS).astype(int), BINS - 1)
    filled = [b for b in range(BINS) if (bins == b).any()]
    reliability = tuple(
        (float(best[bins == b].mean()), float(right[bins == b].mean()), int((bins == b).sum())) for b in filled
    )
    ece = sum(n * abs(p - share) for p, share, n in reliability) / max(len(examples), 1)
    thresholds = tuple(
        (float(t), _share((best >= t)[~known]), _share(((best < t) | ~right)[known]))
        for t in np.arange(0.05, 1.0, 0.05)
    )
    return Calibration(config, len(examples), float(ece), reliability, thresholds)


def calibrate(examples: Sequence[Example], start: ConfidenceConfig) -> Calibration:
    """Fit on all examples; only the ECE is that of fits on every other example, judged on the rest."""
    if len(examples) < 2 * MIN_EXAMPLES:
        raise ValueError(f"examples: expected at least {2 * MIN_EXAMPLES} searched objects, got {len(examples)}")
    halves = (examples[::2], examples[1::2])
    judged = [judge(test, fit(train, start)) for train, test in (halves, halves[::-1])]
    whole = judge(examples, fit(examples, start))
    return replace(whole, ece=float(np.mean([j.ece for j in judged])))


def _share(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
