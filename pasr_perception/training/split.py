"""Which meshes are trained on, watched and tested: decided by a hash of the id alone, whatever else is in the collection.

Ids that differ in a trailing number only (`chair`, `chair2`) are siblings of one catalogue and stay together, so that no test
mesh has its twin in training. The demo's meshes are never trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pasr_perception.library.demo_selection import SELECTION
from pasr_perception.library.manifest import MeshSource

PARTS = ("train", "validation", "test")
VALIDATION_SHARE = 0.08
TEST_SHARE = 0.17


def family(mesh_id: str) -> str:
    """What ids of one catalogue's siblings have in common: the id in lower case without its trailing number."""
    return mesh_id.lower().rstrip("0123456789-_. ") or mesh_id.lower()


def part_of(mesh_id: str) -> str:
    """One of `PARTS`. The families of the demo's meshes are `test`."""
    if family(mesh_id) in _DEMO:
        return "test"
    place = int.from_bytes(hashlib.sha256(family(mesh_id).encode()).digest()[:8], "big") / 2**64
    if place < TEST_SHARE:
        return "test"
    return "validation" if place < TEST_SHARE + VALIDATION_SHARE else "train"


def sources_of(part: str, sources: Sequence[MeshSource]) -> list[MeshSource]:
    """The sources of one part, in their order. Raises ValueError for an unknown part."""
    if part not in PARTS:
        raise ValueError(f"part: expected one of {', '.join(PARTS)}, got {part!r}")
    return [source for source in sources if part_of(source.id) == part]


_DEMO = frozenset(map(family, SELECTION))
