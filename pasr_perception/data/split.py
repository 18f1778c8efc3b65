"""Which meshes are for training, validation and test: by their ids alone, so that it is the same on every machine.

Ids that differ in a trailing number only (`chair`, `chair2`) are siblings of one catalogue and stay together. Meshes that look
alike stay together too, in the test set: one of them in training would give the others away, and telling them apart is what the
test is about. The demo's meshes are never trained on. The groups of Sweet Home 3D's models ship with the package (`pasr data
look-alikes` makes such a file for other meshes).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path

import yaml

from pasr_perception.library.demo_selection import SELECTION

TRAIN, VALIDATION, TEST = SPLITS = ("train", "validation", "test")
TEST_SHARE, VALIDATION_SHARE = 0.17, 0.08  # the rest is for training
LOOK_ALIKES = Path(__file__).with_name("sweethome3d_look_alikes.yaml")

Groups = tuple[tuple[str, ...], ...]


def family(mesh_id: str) -> str:
    """What ids of one catalogue's siblings have in common: the id in lower case without its trailing number."""
    return mesh_id.lower().rstrip("0123456789-_. ") or mesh_id.lower()


def split_of(mesh_id: str) -> str:
    """`train`, `validation` or `test` of one mesh, by the hash of its family; the families of the demo's meshes are for test.

    Look-alikes are not known here: see `split_meshes`.
    """
    if family(mesh_id) in DEMO_FAMILIES:
        return TEST
    place = int.from_bytes(hashlib.sha256(family(mesh_id).encode()).digest()[:8], "big") / 2**64
    if place < TEST_SHARE:
        return TEST
    return VALIDATION if place < TEST_SHARE + VALIDATION_SHARE else TRAIN


def split_meshes(ids: Iterable[str], groups: Iterable[Collection[str]] | None = None) -> dict[str, str]:
    """Mesh id -> split, in the order of `ids`; whoever is in one of the look-alike `groups` is for test.

    Without groups those of Sweet Home 3D's models are taken; an empty list is none.
    """
    together = {i for group in (known_look_alikes() if groups is None else groups) for i in group}
    return {i: TEST if i in together else split_of(i) for i in ids}


def meshes_of(split: str, ids: Iterable[str], groups: Iterable[Collection[str]] | None = None) -> list[str]:
    """The ids of one split, in order. Raises ValueError for a split that there is not."""
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    return [i for i, name in split_meshes(ids, groups).items() if name == split]


@cache
def known_look_alikes() -> Groups:
    """The look-alike groups among Sweet Home 3D's models."""
    return read_look_alikes(LOOK_ALIKES)


def read_look_alikes(path: str | Path) -> Groups:
    """Groups of mesh ids from a file that `pasr data look-alikes` wrote. Raises ValueError naming the file."""
    data = yaml.safe_load(Path(path).read_text())
    groups = data.get("groups") if isinstance(data, dict) else None
    if not isinstance(groups, list) or not all(isinstance(g, list) and len(g) > 1 for g in groups):
        raise ValueError(f"{path}: expected groups: [[id, id, ...], ...] of two ids or more each")
    return tuple(tuple(str(i) for i in group) for group in groups)


DEMO_FAMILIES = frozenset(map(family, SELECTION))
