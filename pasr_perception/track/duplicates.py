"""Two tracks of one thing become one again, under the older number.

A second track begins where a thing is detected away from where its track expects it: after an occlusion, or while its pose was
wrong. Once both are known to be of the same mesh in the same direction they are the same thing: two things of one mesh hide each
other before they are so near.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from pasr_perception.config import ConfidenceConfig
from pasr_perception.library.format import MeshEntry
from pasr_perception.track.identity import angle_between
from pasr_perception.track.state import Track
from pasr_perception.types import TrackState

REACH = 0.5  # of half a mesh's angular size: directions nearer than this are one


def merge_duplicates(
    tracks: Sequence[Track], entries: Mapping[str, MeshEntry], T_ref_cam: np.ndarray, confidence: ConfidenceConfig
) -> list[tuple[Track, str]]:
    """Hand what younger tracks know over to older ones of the same thing; returns the younger ones, which end, and why."""
    ended: list[tuple[Track, str]] = []
    for older, younger in itertools.combinations(sorted(tracks, key=lambda t: t.track_id), 2):
        gone = {id(track) for track, _ in ended}
        if {id(older), id(younger)} & gone or not _same(older, younger, entries, T_ref_cam, confidence):
            continue
        if older.detection is None and younger.detection is not None:
            older.detection, older.box, older.seen_ns = younger.detection, younger.box, younger.seen_ns
            # a pose that is settled is not given up for one that is not: the next look says whether it still fits
            if older.state is TrackState.TENTATIVE or younger.state is not TrackState.TENTATIVE:
                older.motion, older.others, older.identity = younger.motion, younger.others, younger.identity
                older.measured, older.strikes, older.looked_ns = younger.measured, younger.strikes, younger.looked_ns
        ended.append((younger, f"the same thing as track {older.track_id}"))
    return ended


def _same(
    a: Track, b: Track, entries: Mapping[str, MeshEntry], T_ref_cam: np.ndarray, confidence: ConfidenceConfig
) -> bool:
    if a.motion is None or b.motion is None or a.mesh_id != b.mesh_id or (a.name and b.name and a.name != b.name):
        return False
    if min(t.identity.probabilities()[0].get(t.mesh_id, 0.0) for t in (a, b)) < confidence.accept:
        return False
    rays = [motion.T_ref_mid[:3, 3] - T_ref_cam[:3, 3] for motion in (a.motion, b.motion)]
    lengths = [max(float(np.linalg.norm(ray)), 1e-9) for ray in rays]
    turned = angle_between(rays[0] / lengths[0], rays[1] / lengths[1])
    return turned < REACH * float(np.linalg.norm(entries[a.mesh_id].extent)) / 2 / max(lengths)
