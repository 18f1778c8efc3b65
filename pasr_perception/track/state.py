"""One track as the tracker keeps it between frames, and as it tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from pasr_perception.config import ConfidenceConfig, TrackConfig
from pasr_perception.geometry.covariance import covariance_of_origin
from pasr_perception.geometry.se3 import invert_T, make_T
from pasr_perception.geometry.symmetry import closest_symmetry
from pasr_perception.library.format import MeshEntry
from pasr_perception.track.association import Oddity
from pasr_perception.track.bearings import Sighting
from pasr_perception.track.identity import Identity, Recent, is_ambiguous
from pasr_perception.track.motion import Motion, rotated_covariance
from pasr_perception.types import Detection, Hypothesis, TrackedObject, TrackState

HYPOTHESES = 5  # told of each track
DOUBT = 0.7  # share of the most evidence there can be, below which all meshes are compared again now and then


@dataclass(eq=False)
class Track:
    """What changes from frame to frame. Poses are of meshes' middles, in the reference frame."""

    track_id: int
    first_ns: int
    seen_ns: int
    box: np.ndarray  # [4] where it was last detected
    colours: np.ndarray
    name: str  # the detector's id for it
    state: TrackState = TrackState.TENTATIVE
    reason: str = "new"
    identity: Identity = field(default_factory=Identity)
    motion: Motion | None = None  # of the best mesh; None before the first search
    mesh_id: str = ""  # that the motion is of
    others: Mapping[str, np.ndarray] = field(
        default_factory=dict
    )  # {mesh id: T_mid_other}, from the best mesh's middle
    likeness: Mapping[str, float] = field(
        default_factory=dict
    )  # of meshes to the best one, from where it was last searched
    similarity: float = 0.0
    detection: Detection | None = None  # of this frame
    sightings: tuple[Sighting, ...] = ()  # the last ones, while its box was whole
    measured: bool = False
    metric: str = "box"
    agreed: int = 0  # searches in a row that found it where it is held to be
    hits: int = 1  # frames in which it was detected
    strikes: int = 0  # looks in a row that did not fit
    looks: int = 0  # from predicted poses
    looked_ns: int = -1  # last look or search that fitted
    recent: Recent = field(default_factory=Recent)  # looks that its mesh was judged by
    searched_view: np.ndarray | None = None  # [3] towards the camera, object axes, when it was last searched
    calm: int = 0  # looks in a row that found it at rest where it was expected
    agrees: bool = False  # this frame's box and colours are those that are expected
    expected: np.ndarray | None = None  # [4] where it was expected in this frame
    differs: Oddity | None = None  # how this frame's detection differs from that
    odd: Oddity | None = None  # the same at its last look, where that found it at rest all the same
    waited: int = 0  # frames in a row that the budget did not reach it
    searched_ns: int = -1  # last search
    patience_s: float = 0.0  # until the next search of what no mesh explains, or whose mesh is doubtful

    def pose(self, entry: MeshEntry, T_ref_cam: np.ndarray) -> np.ndarray:
        """T_cam_obj [4, 4] of the mesh that the motion is of."""
        assert self.motion is not None
        return invert_T(T_ref_cam) @ self.motion.T_ref_mid @ to_middle(entry)


def is_doubtful(track: Track, config: TrackConfig) -> bool:
    """Whether a track's mesh rests on so little that all meshes should be compared once more."""
    return track.identity.evidence.get(track.mesh_id, 0.0) < DOUBT * config.identity_limit


def distance_to(track: Track, T_ref_cam: np.ndarray) -> float:
    """Metres from the camera to a track's object, which must have been found."""
    assert track.motion is not None
    return max(float(np.linalg.norm(track.motion.T_ref_mid[:3, 3] - T_ref_cam[:3, 3])), 1e-3)


def view_of(track: Track, T_ref_cam: np.ndarray) -> np.ndarray | None:
    """Unit vector [3] from a track's object towards the camera, object axes; None before the object was found."""
    if track.motion is None:
        return None
    view: np.ndarray = track.motion.T_ref_mid[:3, :3].T @ (T_ref_cam[:3, 3] - track.motion.T_ref_mid[:3, 3])
    return view / max(float(np.linalg.norm(view)), 1e-9)


def reoriented(track: Track, R_old: np.ndarray) -> None:
    """Keep where a track was searched from, its object's axes having been R_old [3, 3] in the reference frame until now."""
    assert track.motion is not None
    R_new_old = track.motion.T_ref_mid[:3, :3].T @ R_old
    if track.searched_view is not None:
        track.searched_view = R_new_old @ track.searched_view


def to_middle(entry: MeshEntry) -> np.ndarray:
    """T_mid_obj [4, 4]: from a mesh's own frame to that of its middle, with the same axes."""
    return make_T(np.eye(3), -np.asarray(entry.center))


def told(
    track: Track, entries: Mapping[str, MeshEntry], T_ref_cam: np.ndarray, confidence: ConfidenceConfig
) -> TrackedObject:
    """What others are told of a track."""
    shares, unknown = track.identity.probabilities()
    hypotheses = []
    R_cam_ref = T_ref_cam[:3, :3].T
    for mesh_id in track.identity.order[:HYPOTHESES] if track.motion is not None else ():
        entry, mine = entries[mesh_id], mesh_id == track.mesh_id
        assert track.motion is not None
        T_ref_mid = track.motion.T_ref_mid
        if not mine:
            if mesh_id not in track.others:
                continue
            T_ref_mid = T_ref_mid @ track.others[mesh_id]
        T = invert_T(T_ref_cam) @ T_ref_mid @ to_middle(entry)
        covariance = None
        if mine:
            C = rotated_covariance(track.motion.P[:6, :6], R_cam_ref)
            covariance = covariance_of_origin(C, T[:3, :3], np.asarray(entry.center))
        similarity = track.similarity if mine else 0.0
        hypotheses.append(Hypothesis(mesh_id, entry.category, shares[mesh_id], similarity, T, covariance=covariance))
    if hypotheses and track.state is TrackState.TENTATIVE and unknown > confidence.accept:
        hypotheses = []
    return TrackedObject(
        track_id=track.track_id,
        state=track.state,
        reason=track.reason,
        hypotheses=tuple(hypotheses),
        unknown=unknown,
        ambiguous=bool(hypotheses) and is_ambiguous(track.identity, confidence),
        detection=track.detection,
        measured=track.measured,
        velocity=np.zeros(6) if track.motion is None else track.motion.twist.copy(),
        first_ns=track.first_ns,
        seen_ns=track.seen_ns,
        box=track.box.copy(),
        name=track.name,
        metric=track.metric,
    )


def nearest_equivalent(T_ref_mid: np.ndarray, near: np.ndarray, entry: MeshEntry) -> np.ndarray:
    """The pose [4, 4] that looks the same as T_ref_mid and is turned nearest to `near`: no flips, no spinning."""
    symmetry = entry.symmetry
    if not symmetry.continuous_axes and not symmetry.folds:
        return T_ref_mid
    S = closest_symmetry(T_ref_mid[:3, :3], near[:3, :3], symmetry)[1]
    center = np.asarray(symmetry.center) - np.asarray(entry.center)
    return T_ref_mid @ make_T(S, center - S @ center)
