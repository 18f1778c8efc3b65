from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pasr_perception.data.split import split_of
from pasr_perception.data.test_bench import choose_test_meshes
from pasr_perception.library.manifest import MeshSource


def source(mesh_id: str, category: str) -> MeshSource:
    return MeshSource(mesh_id, category, Path(f"{mesh_id}.obj"), 1.0, "CC0-1.0", "the tests", "auto", "upright", "+y")


SOURCES = [source(f"m{i}x", "abcd"[i % 4] if i % 5 else "object") for i in range(600)]
TESTED = [s.id for s in SOURCES if split_of(s.id) == "test"]
TRAINED = [s.id for s in SOURCES if split_of(s.id) == "train"]


def test_groups_whole_categories_even_and_nothing_trained_on():
    groups = [tuple(TESTED[:3]), tuple(TESTED[3:5]), (TESTED[5], TRAINED[0])]
    chosen = choose_test_meshes(SOURCES, 40, groups)
    ids = [s.id for s in chosen]
    assert len(ids) == 40
    assert ids == [s.id for s in SOURCES if s.id in set(ids)]
    together = {i for group in groups for i in group}
    assert together <= set(ids) <= set(TESTED) | together  # look-alikes are for test, whatever the hash says of one
    others = Counter(s.category for s in chosen if s.id not in together)
    assert others["object"] == 0
    assert max(others.values()) - min(others[c] for c in "abcd") <= 1


def test_models_without_a_name_fill_up_and_too_many_are_refused():
    named = [i for i in TESTED if next(s for s in SOURCES if s.id == i).category != "object"]
    chosen = choose_test_meshes(SOURCES, len(named) + 2, [])
    assert sum(s.category == "object" for s in chosen) == 2
    with pytest.raises(ValueError, match=f"expected at most {len(TESTED)}"):
        choose_test_meshes(SOURCES, 599, [])
