"""Calibration of confidence: two coefficients fitted on simulated scenes some of whose objects the library does not hold.

Each searched object gives the margins of its hypotheses and which of them, if any, is right. Slope and intercept are those under
which that is likeliest (Platt 1999, with several classes and an outside option); ECE is that of Guo et al. (2017). How good they
are is measured on meshes that the fit did not see.
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
FOLDS = 5
RIDGE = 1e-3  # keeps the slope finite where examples separate


@dataclass(frozen=True)
class Example:
    """One searched object."""

    margins: tuple[float, ...]  # of its hypotheses, best first
    right: int | None  # index of the right hypothesis; None: none of them is
    known: bool  # the library holds its mesh
    mesh_id: str = ""  # what it is


@dataclass(frozen=True)
class Calibration:
    """A configuration, and how well its probabilities hold on examples."""

    config: ConfidenceConfig
    examples: int
    ece: float  # expected calibration error of the best hypothesis' probability
    reliability: tuple[tuple[float, float, int], ...]  # mean probability, share right, count, bin by bin
    thresholds: tuple[tuple[float, float, float], ...]  # threshold, false accepts, false rejects

    def nearest(self, threshold: float) -> tuple[float, float, float]:
        """Of `thresholds` the one nearest to this."""
        return min(self.thresholds, key=lambda row: abs(row[0] - threshold))


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
            found.append(Example(tuple(h.margin for h in estimate.hypotheses), right, true_id in ids, true_id))
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
    return _judged(examples, [config] * len(examples), config)


def calibrate(examples: Sequence[Example], start: ConfidenceConfig) -> Calibration:
    """Fit on all examples; every figure is of fits that saw no example of the same mesh (`FOLDS` parts of the meshes).

    So photos of one object, which are alike, never stand on both sides. Raises ValueError for too few examples or meshes.
    """
    if len(examples) < 2 * MIN_EXAMPLES:
        raise ValueError(f"examples: expected at least {2 * MIN_EXAMPLES} searched objects, got {len(examples)}")
    meshes = sorted({e.mesh_id for e in examples})
    if len(meshes) < FOLDS:
        raise ValueError(f"examples: expected objects of at least {FOLDS} meshes, got {len(meshes)}")
    fold = {mesh_id: i % FOLDS for i, mesh_id in enumerate(meshes)}
    fits = [fit([e for e in examples if fold[e.mesh_id] != k], start) for k in range(FOLDS)]
    return _judged(examples, [fits[fold[e.mesh_id]] for e in examples], fit(examples, start))


def _judged(examples: Sequence[Example], configs: Sequence[ConfidenceConfig], config: ConfidenceConfig) -> Calibration:
    """How well each example's probabilities hold by a configuration of its own."""
    shares = [probabilities(e.margins, c)[0] for e, c in zip(examples, configs, strict=True)]
    best = np.array([s[0] if len(s) else 0.0 for s in shares])
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


def _share(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
