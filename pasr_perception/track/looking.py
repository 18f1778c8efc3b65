"""What one look at an object, or one search for it, does to its track: identity, motion, rivals.

Every pose that is measured is first replaced by the equivalent one, by the mesh's symmetry, that is nearest to the track's: no
flips, and no spinning about continuous axes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pasr_perception.config import TrackConfig
from pasr_perception.crop import CropError
from pasr_perception.geometry.se3 import invert_T
from pasr_perception.pipeline import Pipeline
from pasr_perception.track import identity, motion
from pasr_perception.track.bearings import moves, steadied
from pasr_perception.track.state import (
    Track,
    distance_to,
    is_doubtful,
    nearest_equivalent,
    reoriented,
    to_middle,
    view_of,
)
from pasr_perception.track.warm import WarmStart
from pasr_perception.types import Detection, Frame, TrackState

LOOK_NOISE = np.array([0.015, 0.015, 0.05, 0.1, 0.1, 0.1])  # of a look: m at 1 m (x, y, along the ray), rad
DEPTH_NOISE = np.array([0.008, 0.008, 0.008, 0.1, 0.1, 0.1])  # of a look whose distance depth settled
SEARCH_NOISE = np.array([0.02, 0.02, 0.07, 0.15, 0.15, 0.15])  # of a search, which has but one box to go by
VOTES = {
    TrackState.TENTATIVE: 1,
    TrackState.LOST: 2,
}  # measurements that put a track elsewhere; of others `motion.VOTES`
STRIKES = 3  # looks in a row that do not fit until the object is searched again
RIVAL_EVIDENCE = 5.0  # log-evidence behind the best within which a mesh is looked at as a rival
RIVALS = 1
LONGEST_WAIT = 5.0  # of `search_again_s`: by then a camera that moves sees another side
JUMP = 0.15  # of the distance: a thing found so far from where its mesh was found before is hardly of that mesh's size,
JUMP_EVIDENCE = 1.5  # which counts so much against the mesh


class Looker:
    """Looks at tracks from their predicted poses, and searches for those that have none."""

    def __init__(self, pipeline: Pipeline, config: TrackConfig) -> None:
        self._pipeline, self._config = pipeline, config
        self._confidence = pipeline.config.confidence
        self._entries = {entry.id: entry for entry in pipeline.library.entries}
        self._warm = WarmStart(pipeline, config)
        single = pipeline.config.refine
        refined = min(single.top_k, config.refined)
        self._refine = replace(single, top_k=refined, window=0.0, contour_weight=config.contour_weight)

    def look(self, frame: Frame, track: Track, detection: Detection, T_ref_cam: np.ndarray) -> bool:
        """A warm start; False where it did not fit and the object had better be searched now."""
        assert track.motion is not None
        T_cam_ref = invert_T(T_ref_cam)
        starts = {track.mesh_id: track.pose(self._entries[track.mesh_id], T_ref_cam)}
        track.looks += 1
        if track.looks % self._config.rival_every == 0:
            for rival in self._rivals(track):
                T_ref_mid = track.motion.T_ref_mid @ track.others[rival]
                starts[rival] = T_cam_ref @ T_ref_mid @ to_middle(self._entries[rival])
        try:
            steady = self._steadied(frame, track, detection, T_ref_cam)
            looks = {look.mesh_id: look for look in self._warm(frame, steady, starts)}
        except CropError:  # the predicted box left the image though the detected one did not
            looks = {}
        mine = looks.get(track.mesh_id)
        if mine is None:
            track.strikes += 1
            return False
        margins = {mesh: look.margin for mesh, look in looks.items()}
        track.recent, weight = identity.looked_again(track.recent, frame.stamp_ns)
        track.identity = identity.looked(
            track.identity, margins, self._confidence, self._config, weight, track.likeness
        )
        self._against_jumps(track, {mine.mesh_id: mine.T_cam_obj}, weight, T_ref_cam)
        for mesh, look in looks.items():
            if mesh != track.mesh_id:
                track.others = {**track.others, mesh: self._relative(track, mesh, look.T_cam_obj, T_ref_cam)}
        track.metric = "depth" if mine.by_depth else "box"
        noise = DEPTH_NOISE if mine.by_depth else LOOK_NOISE
        fitted = self._measure(track, mine.T_cam_obj, noise, T_ref_cam).accepted
        track.similarity = mine.similarity
        track.measured = fitted
        track.strikes = 0 if fitted else track.strikes + 1
        track.looked_ns = frame.stamp_ns if fitted else -1
        track.calm = track.calm + 1 if fitted and not track.motion.moving else 0
        self._follow_best(track)
        was_lost = track.state is TrackState.LOST
        if was_lost and identity.log_odds(mine.margin, self._confidence) < 0:
            return False
        return track.strikes < STRIKES

    def _rivals(self, track: Track) -> list[str]:
        evidence = track.identity.evidence
        near = [m for m in track.identity.order if m != track.mesh_id and m in track.others]
        return [m for m in near if evidence[track.mesh_id] - evidence[m] < RIVAL_EVIDENCE][:RIVALS]

    def _relative(self, track: Track, mesh_id: str, T_cam_obj: np.ndarray, T_ref_cam: np.ndarray) -> np.ndarray:
        """T_mid_other of a mesh found at T_cam_obj, from where the track's own mesh is held to be."""
        assert track.motion is not None
        T_ref_mid = T_ref_cam @ T_cam_obj @ invert_T(to_middle(self._entries[mesh_id]))
        return invert_T(track.motion.T_ref_mid) @ T_ref_mid

    def search(self, frame: Frame, track: Track, detection: Detection, T_ref_cam: np.ndarray) -> None:
        detection = self._steadied(frame, track, detection, T_ref_cam)
        # a box that many sightings make together is not looked through again
        result = self._pipeline.detect(frame, [detection], covariances=False, loose=False, refine=self._refine)
        track.searched_ns, track.strikes = frame.stamp_ns, 0
        if not result.objects:
            track.reason = result.rejected[0][1] if result.rejected else "no pose explains its box"
            track.patience_s = self._config.search_again_s
            return
        estimate = result.objects[0]
        margins = {h.mesh_id: h.margin for h in estimate.hypotheses}
        track.likeness = self._pipeline.likeness(estimate.hypotheses)
        track.recent, weight = identity.looked_again(track.recent, frame.stamp_ns)
        track.identity = identity.searched(
            track.identity, margins, self._confidence, self._config, weight, track.likeness
        )
        poses = {h.mesh_id: h.T_cam_obj for h in estimate.hypotheses}
        self._against_jumps(track, poses, weight, T_ref_cam)
        similarity = {h.mesh_id: h.similarity for h in estimate.hypotheses}
        best = track.identity.best
        if track.state is not TrackState.TENTATIVE:
            self._follow_best(track)
        if best in poses:
            if track.mesh_id != best or track.motion is None:
                track.mesh_id, track.motion = best, None
            fit = self._measure(track, poses[best], SEARCH_NOISE, T_ref_cam)
            track.agreed = 1 if fit.begun else track.agreed + fit.accepted
            track.others = {m: self._relative(track, m, T, T_ref_cam) for m, T in poses.items() if m != best}
            track.similarity, track.measured = similarity[best], track.measured or fit.accepted
            track.looked_ns = frame.stamp_ns if fit.accepted else -1
        track.searched_view = view_of(track, T_ref_cam)
        shares, unknown = track.identity.probabilities()
        sure = bool(shares) and shares[best] >= self._config.confirm
        settled = sure or unknown > self._config.confirm
        settled = settled and min(track.identity.looks, track.agreed) >= self._config.confirm_looks
        look_alikes = not sure and not is_doubtful(track, self._config)  # more searches hardly tell them apart
        if settled or look_alikes:
            again = self._config.search_again_s
            track.patience_s = min(max(again, 2 * track.patience_s), LONGEST_WAIT * again)
        else:
            track.patience_s = 0.0

    def _steadied(self, frame: Frame, track: Track, detection: Detection, T_ref_cam: np.ndarray) -> Detection:
        """The detection with the box that all of a resting object's last boxes make together."""
        if track.motion is None or track.motion.moving:
            return detection
        box = steadied(
            np.asarray(detection.box, float), track.sightings, track.motion.T_ref_mid[:3, 3], frame, T_ref_cam
        )
        return replace(detection, box=box)

    def _against_jumps(
        self, track: Track, poses: Mapping[str, np.ndarray], weight: float, T_ref_cam: np.ndarray
    ) -> None:
        """A camera that moves by known ways shows how far off things are: with a mesh of a wrong size they seem to jump."""
        if track.motion is None or track.motion.moving or track.mesh_id not in poses:
            return
        T_ref_mid = T_ref_cam @ poses[track.mesh_id] @ invert_T(to_middle(self._entries[track.mesh_id]))
        jump = np.linalg.norm(T_ref_mid[:3, 3] - track.motion.T_ref_mid[:3, 3]) / distance_to(track, T_ref_cam)
        if jump > JUMP:
            track.identity = identity.spoken_against(
                track.identity, track.mesh_id, weight * JUMP_EVIDENCE, self._config
            )

    def _measure(self, track: Track, T_cam_obj: np.ndarray, noise: np.ndarray, T_ref_cam: np.ndarray) -> motion.Fit:
        """Take a measured pose of the track's mesh into its motion."""
        entry = self._entries[track.mesh_id]
        T_ref_mid = T_ref_cam @ T_cam_obj @ invert_T(to_middle(entry))
        R = _noise(T_cam_obj @ invert_T(to_middle(entry)), noise, T_ref_cam)
        if track.motion is None:
            track.motion = motion.begin(T_ref_mid, R, track.seen_ns)
            return motion.Fit(0.0, True, begun=True)
        T_ref_mid = nearest_equivalent(T_ref_mid, track.motion.T_ref_mid, entry)
        distance = distance_to(track, T_ref_cam)
        votes = VOTES.get(track.state, motion.VOTES)
        displaced = moves(track.sightings, track.motion.T_ref_mid[:3, 3])
        measured = motion.Measured(T_ref_mid, R, distance, displaced, votes)
        R_before = track.motion.T_ref_mid[:3, :3]
        track.motion, fit = motion.update(track.motion, measured, self._config)
        if fit.begun:
            reoriented(track, R_before)
        return fit

    def _follow_best(self, track: Track) -> None:
        """The track becomes its best mesh's where another one has overtaken."""
        best = track.identity.best
        if best == track.mesh_id or best not in track.others or track.motion is None:
            return
        T = track.others[best]
        track.others = {m: invert_T(T) @ o for m, o in track.others.items() if m != best} | {track.mesh_id: invert_T(T)}
        R_before = track.motion.T_ref_mid[:3, :3]
        track.motion = replace(track.motion, T_ref_mid=track.motion.T_ref_mid @ T)
        track.mesh_id = best
        reoriented(track, R_before)


def _noise(T_cam_mid: np.ndarray, noise: np.ndarray, T_ref_cam: np.ndarray) -> np.ndarray:
    """Covariance [6, 6] in the reference frame's axes of a measured pose; `noise` is along (x, y, ray) and of rotations."""
    ray = T_cam_mid[:3, 3]
    distance = float(np.linalg.norm(ray))
    ray = ray / max(distance, 1e-9)
    lateral = (noise[0] * distance) ** 2
    C = np.zeros((6, 6))
    C[:3, :3] = lateral * np.eye(3) + ((noise[2] * distance) ** 2 - lateral) * np.outer(ray, ray)
    C[3:, 3:] = np.diag(noise[3:] ** 2)
    return motion.rotated_covariance(C, T_ref_cam[:3, :3])
