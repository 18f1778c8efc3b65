"""Figures: medians, ranges and intervals of hand-made numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pasr_perception.benchmark.figures import (
    Figure,
    bootstrap_ratio,
    median_figure,
    missing,
    paired_ratio,
    share,
)


def test_paired_ratio_pairs_the_repeats() -> None:
    figure = paired_ratio([10.0, 30.0, 20.0], [1.0, 2.0, 5.0], "a / b")
    assert (figure.value, figure.low, figure.high, figure.unit) == (10.0, 4.0, 15.0, "x")
    assert "a / b" in figure.note
    assert "3 paired repeats" in figure.note


def test_median_figure_is_median_and_range() -> None:
    figure = median_figure([4.0, 1.0, 2.0, 9.0], "s", "of what")
    assert (figure.value, figure.low, figure.high, figure.unit, figure.note) == (3.0, 1.0, 9.0, "s", "of what")


def test_share_has_wilsons_interval() -> None:
    figure = share([True] * 9 + [False], "hits")
    # (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n) with p = 0.9, n = 10, z = 1.96
    assert figure.value == 0.9
    assert figure.low == pytest.approx(0.5958, abs=1e-4)
    assert figure.high == pytest.approx(0.9821, abs=1e-4)


def test_share_of_all_reaches_one_and_has_a_lower_end() -> None:
    figure = share([True] * 100, "hits")
    assert (figure.value, figure.high) == (1.0, 1.0)
    assert figure.low == pytest.approx(0.9630, abs=1e-4)


def test_bootstrap_of_equal_ratios_has_no_spread() -> None:
    below = [1.0, 2.0, 3.0, 4.0]
    figure = bootstrap_ratio([0.5 * b for b in below], below, lambda x: float(np.mean(x)), "half")
    assert (figure.value, figure.low, figure.high) == pytest.approx((0.5, 0.5, 0.5))


def test_bootstrap_resamples_queries_together_and_repeats_with_its_seed() -> None:
    rng = np.random.default_rng(0)
    below = rng.uniform(1, 2, 200)
    above = below * rng.uniform(0.5, 1.5, 200)
    first = bootstrap_ratio(above.tolist(), below.tolist(), lambda x: float(np.mean(x)), "ratio")
    again = bootstrap_ratio(above.tolist(), below.tolist(), lambda x: float(np.mean(x)), "ratio")
    assert first == again
    assert first.low is not None
    assert first.high is not None
    expected = 2 * 1.96 * np.std(above / below) / math.sqrt(200)  # of the mean, were the weights equal
    assert first.high - first.low == pytest.approx(expected, rel=0.25)


@pytest.mark.parametrize(
    "make",
    [
        lambda: paired_ratio([1.0], [1.0, 2.0], ""),
        lambda: median_figure([], "s", ""),
        lambda: share([], ""),
        lambda: bootstrap_ratio([], [], lambda x: float(np.mean(x)), ""),
        lambda: bootstrap_ratio([1.0], [0.0], lambda x: float(np.mean(x)), ""),
        lambda: Figure(1.0, None, 2.0, "s", ""),
    ],
)
def test_what_cannot_be_computed_is_refused(make) -> None:
    with pytest.raises(ValueError, match="expected"):
        make()


def test_missing_says_why() -> None:
    assert missing("x", "no PyTorch3D") == Figure(None, None, None, "x", "no PyTorch3D")
