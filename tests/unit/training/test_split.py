"""The split: fixed by ids, siblings together, the demo's meshes never trained on."""

from __future__ import annotations

from collections import Counter

import pytest

from pasr_perception.library.demo_selection import SELECTION
from pasr_perception.training.split import PARTS, family, part_of, sources_of


def test_shares_are_about_as_meant() -> None:
    counts = Counter(part_of(f"mesh{a}{b}x") for a in "abcdefghij" for b in range(300))
    assert counts["test"] / 3000 == pytest.approx(0.17, abs=0.025)
    assert counts["validation"] / 3000 == pytest.approx(0.08, abs=0.02)


def test_the_split_never_moves() -> None:
    assert [part_of(i) for i in ("bed1", "choppingBoard", "rock2", "comb")] == ["train", "train", "validation", "train"]


def test_siblings_stay_together() -> None:
    assert family("Chair2") == family("chair") == family("chair_12") == "chair"
    assert family("007") == "007"
    for name in ("sofa", "rock", "vase", "window-"):
        assert len({part_of(f"{name}{i}") for i in range(9)}) == 1


def test_the_demos_meshes_and_their_siblings_are_test_meshes() -> None:
    assert {part_of(i) for i in SELECTION} == {"test"}
    assert part_of("chair7") == "test"


def test_parts_share_out_all_sources(bench) -> None:
    found = [source.id for part in PARTS for source in sources_of(part, bench.sources)]
    assert sorted(found) == ["block", "can", "truck"]
    with pytest.raises(ValueError, match="part: expected one of train, validation, test, got 'dev'"):
        sources_of("dev", bench.sources)
