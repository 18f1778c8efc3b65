"""A measured number with its spread, and the three ways in which a spread comes about here.

Times are compared as *paired ratios*: both subjects run in turn, in the same process, and every repeat gives one ratio, so a
machine that slows down slows both. Shares carry Wilson's 95 % interval (Wilson 1927). Ratios of statistics over queries carry
the 95 % interval of a bootstrap over the queries (Efron 1979).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Z_95 = 1.959964  # of the normal distribution
BOOTSTRAPS = 1000


@dataclass(frozen=True)
class Figure:
    """One result; all None where it could not be measured, which `note` then explains."""

    value: float | None
    low: float | None
    high: float | None
    unit: str  # "x" for ratios, "share", "s", "bytes", "MB"
    note: str  # what was measured, and what the spread is

    def __post_init__(self) -> None:
        if (self.value is None) != (self.low is None) or (self.value is None) != (self.high is None):
            raise ValueError(f"figure: expected value, low and high or none of them, got {self}")


def missing(unit: str, why: str) -> Figure:
    """A figure that could not be measured."""
    return Figure(None, None, None, unit, why)


def median_figure(values: Sequence[float], unit: str, note: str) -> Figure:
    """Median, least and largest of the values; ValueError for none."""
    if not len(values):
        raise ValueError("values: expected at least one, got none")
    return Figure(float(np.median(values)), float(np.min(values)), float(np.max(values)), unit, note)


def paired_ratio(above: Sequence[float], below: Sequence[float], note: str) -> Figure:
    """Median and range of above[i] / below[i], the i-th repeat of both; ValueError for unequal lengths."""
    if len(above) != len(below):
        raise ValueError(f"above, below: expected equal lengths, got {len(above)} and {len(below)}")
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    return median_figure(ratios, "x", f"{note}; median and range of {len(ratios)} paired repeats")


def share(hits: Sequence[bool], note: str) -> Figure:
    """Share of hits with Wilson's 95 % interval; ValueError for none."""
    n = len(hits)
    if not n:
        raise ValueError("hits: expected at least one, got none")
    p = sum(map(bool, hits)) / n
    middle = (p + Z_95**2 / (2 * n)) / (1 + Z_95**2 / n)
    half = Z_95 / (1 + Z_95**2 / n) * math.sqrt(p * (1 - p) / n + Z_95**2 / (4 * n * n))
    return Figure(
        p,
        min(p, max(0.0, middle - half)),
        max(p, min(1.0, middle + half)),
        "share",
        f"{note}; of {n} queries, Wilson's 95 % interval",
    )


def bootstrap_ratio(
    above: Sequence[float], below: Sequence[float], statistic: Callable[[np.ndarray], float], note: str, seed: int = 0
) -> Figure:
    """statistic(above) / statistic(below) over the same queries, with the 95 % interval of resampled queries.

    ValueError for unequal lengths, no queries, or a denominator that is 0.
    """
    a, b = np.asarray(above, float), np.asarray(below, float)
    if a.shape != b.shape or not len(a):
        raise ValueError(f"above, below: expected equal lengths of at least 1, got {len(a)} and {len(b)}")
    if statistic(b) == 0:
        raise ValueError("below: expected a statistic other than 0, got 0")
    drawn = np.random.default_rng(seed).integers(len(a), size=(BOOTSTRAPS, len(a)))
    pairs = [(statistic(a[i]), statistic(b[i])) for i in drawn]
    low, high = np.percentile([x / y for x, y in pairs if y != 0], [2.5, 97.5])
    value = float(statistic(a) / statistic(b))
    return Figure(
        value, min(value, float(low)), max(value, float(high)), "x", f"{note}; {len(a)} queries, bootstrap 95 %"
    )
