"""Matching by stamp."""

from __future__ import annotations

import pytest

from pasr_perception.ros.sync import StampMatcher

MS = 1_000_000
pytestmark = pytest.mark.ros


def test_a_set_is_complete_when_the_last_input_arrives() -> None:
    matcher = StampMatcher(3, depth=5, slop_ns=10 * MS)
    assert matcher.add(0, 100 * MS, "image") is None
    assert matcher.add(2, 100 * MS, "boxes") is None
    assert matcher.add(1, 100 * MS, "info") == ("image", "info", "boxes")
    assert matcher.waiting() == (0, 0, 0)


def test_the_exact_stamp_wins_over_a_near_one() -> None:
    matcher = StampMatcher(2, depth=5, slop_ns=50 * MS)
    for stamp in (90, 100, 110):
        matcher.add(0, stamp * MS, stamp)
    assert matcher.add(1, 100 * MS, "boxes") == (100, "boxes")


def test_the_nearest_stamp_wins_without_an_exact_one() -> None:
    matcher = StampMatcher(2, depth=5, slop_ns=50 * MS)
    for stamp in (60, 97, 110):
        matcher.add(0, stamp * MS, stamp)
    assert matcher.add(1, 100 * MS, "boxes") == (97, "boxes")


@pytest.mark.parametrize(("apart_ms", "matches"), [(9, True), (10, False), (11, False)])
def test_the_slop_bounds_how_far_stamps_may_be_apart(apart_ms: int, matches: bool) -> None:
    matcher = StampMatcher(2, depth=5, slop_ns=10 * MS)
    matcher.add(0, 0, "image")
    assert (matcher.add(1, apart_ms * MS, "boxes") is not None) == matches


def test_the_slop_bounds_the_whole_set_not_only_pairs() -> None:
    matcher = StampMatcher(3, depth=5, slop_ns=10 * MS)
    matcher.add(0, 92 * MS, "early")
    matcher.add(2, 108 * MS, "late")
    assert matcher.add(1, 100 * MS, "middle") is None
    assert matcher.add(0, 101 * MS, "image") == ("image", "middle", "late")


def test_a_match_forgets_everything_older_and_keeps_what_is_newer() -> None:
    matcher = StampMatcher(2, depth=5, slop_ns=5 * MS)
    for stamp in (10, 20, 30, 40):
        matcher.add(0, stamp * MS, stamp)
    assert matcher.add(1, 30 * MS, "boxes") == (30, "boxes")
    assert matcher.waiting() == (1, 0)
    assert matcher.add(1, 10 * MS, "boxes that come too late") is None
    assert matcher.add(1, 40 * MS, "boxes") == (40, "boxes")


def test_buffers_are_bounded_and_keep_what_came_last_even_if_stamps_went_back() -> None:
    matcher = StampMatcher(2, depth=3, slop_ns=5 * MS)
    for stamp in (1000, 1010, 1020, 10, 20):
        matcher.add(0, stamp * MS, stamp)
    assert matcher.waiting() == (3, 0)
    assert matcher.add(1, 10 * MS, "boxes") == (10, "boxes")


def test_a_repeated_stamp_replaces_the_message() -> None:
    matcher = StampMatcher(2, depth=3, slop_ns=5 * MS)
    matcher.add(0, 10 * MS, "first")
    matcher.add(0, 10 * MS, "second")
    assert matcher.add(1, 10 * MS, "boxes") == ("second", "boxes")


@pytest.mark.parametrize(("arguments", "named"), [((1, 5, 5), "inputs"), ((2, 0, 5), "depth"), ((2, 5, 0), "slop_ns")])
def test_impossible_settings_are_named(arguments: tuple[int, int, int], named: str) -> None:
    with pytest.raises(ValueError, match=f"{named}: expected at least"):
        StampMatcher(*arguments)
