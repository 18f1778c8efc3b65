from __future__ import annotations

from collections import Counter

import pytest

from pasr_perception.data.split import (
    TEST,
    known_look_alikes,
    meshes_of,
    read_look_alikes,
    split_meshes,
    split_of,
)
from pasr_perception.library.demo_selection import SELECTION

IDS = [f"mesh{'abcdefghij'[i % 10]}{i}x" for i in range(2000)]


def test_shares_are_those_promised_and_ids_alone_decide():
    counts = Counter(split_meshes(IDS, []).values())
    assert counts["train"] / 2000 == pytest.approx(0.75, abs=0.03)
    assert counts["validation"] / 2000 == pytest.approx(0.08, abs=0.02)
    assert split_meshes(reversed(IDS[:50]), []) == {i: split_of(i) for i in IDS[:50]}


@pytest.mark.parametrize(("mesh_id", "split"), [("aquarium", "train"), ("fridge", "train"), ("violin", "test")])
def test_the_split_is_pinned_since_another_would_mix_up_what_was_trained_on_already(mesh_id, split):
    assert split_of(mesh_id) == split


def test_siblings_of_a_catalogue_stay_together():
    assert {split_of(f"fridge{n}") for n in ("", 2, 3, "_4", "-17")} == {split_of("fridge")}
    assert split_of("2024") == split_of("2024")


def test_look_alikes_are_whole_and_for_test():
    groups = [tuple(IDS[:2]), tuple(IDS[2:5])]
    found = split_meshes(IDS, groups)
    assert {found[i] for group in groups for i in group} == {TEST}
    assert [found[i] for i in IDS[5:]] == [split_of(i) for i in IDS[5:]]


def test_the_demo_is_never_trained_on():
    assert set(split_meshes(SELECTION, []).values()) == {TEST}


def test_ids_of_one_split_keep_their_order():
    parts = {name: meshes_of(name, IDS, []) for name in ("train", "validation", "test")}
    assert sorted(i for part in parts.values() for i in part) == sorted(IDS)
    assert parts["test"] == sorted(parts["test"], key=IDS.index)
    with pytest.raises(ValueError, match=r"expected one of train, validation, test, got 'dev'"):
        meshes_of("dev", IDS)


def test_the_shipped_groups_are_disjoint():
    ids = [i for group in known_look_alikes() for i in group]
    assert len(ids) == len(set(ids)) > 10
    assert set(split_meshes(ids).values()) == {TEST}


@pytest.mark.parametrize("text", ["", "groups: {}", "groups: [[one]]", "[]"])
def test_a_file_without_groups_is_named(tmp_path, text):
    path = tmp_path / "groups.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"groups.yaml: expected groups"):
        read_look_alikes(path)
