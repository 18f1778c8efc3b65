"""The meshes of the test benchmark: of the test split only, look-alike groups whole, categories as even as they can be."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from pasr_perception.data.split import TEST, known_look_alikes, split_meshes
from pasr_perception.library.manifest import MeshSource

LARGEST_GROUP = 4  # look-alikes; larger groups (a tap in ten sizes) would fill the library with one thing
UNNAMED = "object"  # the category of models whose names say nothing: taken only where the others run out
OTHERS_SHARE = 0.6  # of the meshes, that are in no group


def choose_test_meshes(
    sources: Sequence[MeshSource], count: int, groups: Iterable[Collection[str]] | None = None
) -> list[MeshSource]:
    """About `count` meshes of the test split, in the order of the sources; the same for the same sources everywhere.

    Up to 40 % come as whole look-alike groups of at most LARGEST_GROUP, the rest category by category in turn. Raises
    ValueError where the test split holds fewer.
    """
    known = [tuple(group) for group in (known_look_alikes() if groups is None else groups)]
    splits = split_meshes((s.id for s in sources), known)
    allowed = {i for i, split in splits.items() if split == TEST}
    if len(allowed) < count:
        raise ValueError(f"count: expected at most {len(allowed)}, the meshes of the test split, got {count}")
    chosen: set[str] = set()
    for group in sorted(known, key=lambda g: _lot(min(g))):
        fits = len(group) <= LARGEST_GROUP and set(group) <= allowed
        if fits and len(chosen) + len(group) <= (1 - OTHERS_SHARE) * count:
            chosen.update(group)
    grouped = {i for group in known for i in group}
    by_category: dict[str, list[str]] = defaultdict(list)
    for source in sorted(sources, key=lambda s: _lot(s.id)):
        if source.id in allowed - grouped:
            by_category[source.category].append(source.id)
    unnamed = by_category.pop(UNNAMED, [])
    while len(chosen) < count and any(by_category.values()):
        for category in sorted(by_category):
            if by_category[category] and len(chosen) < count:
                chosen.add(by_category[category].pop(0))
    chosen.update(unnamed[: count - len(chosen)])
    return [source for source in sources if source.id in chosen]


def _lot(mesh_id: str) -> str:
    """What orders meshes as if by chance, the same way everywhere."""
    return hashlib.sha256(f"test bench {mesh_id}".encode()).hexdigest()
