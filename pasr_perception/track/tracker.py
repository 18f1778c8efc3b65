"""The tracker: one `step` per frame. Known objects are followed from their predicted poses, unknown ones are searched.

    predict ─ associate ─ look at what is known, search what is not, within the budget ─ judge ─ tell

Stamps are all it knows of time: any rate will do, a gap makes poses unsure, and a stamp that jumps back begins anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from pasr_perception.config import TrackConfig
from pasr_perception.crop import CropError, check_frame, visible_part
from pasr_perception.depth import usable_depth
from pasr_perception.geometry.boxes import expected_box, iou
from pasr_perception.geometry.se3 import is_rotation
from pasr_perception.pipeline import Pipeline
from pasr_perception.track import motion
from pasr_perception.track.association import Expected, Oddity, associate, colours_of
from pasr_perception.track.bearings import latest, sighting
from pasr_perception.track.duplicates import merge_duplicates
from pasr_perception.track.identity import NEW_VIEW, angle_between
from pasr_perception.track.lifecycle import verdict
from pasr_perception.track.looking import STRIKES, Looker
from pasr_perception.track.schedule import Budget
from pasr_perception.track.state import Track, distance_to, is_doubtful, told, view_of
from pasr_perception.types import Detection, Frame, TrackedResult, TrackState, TrackTimings

SURE_ANGLE = 0.35  # rad: standard deviation of a predicted rotation beyond which a look from it would be a guess
COLOUR_GAIN = 0.1  # of a new look at an object's colours
JUST_SEEN = 0.5  # s: a box that was detected this long ago is still near its object
CALMING, LONGEST = 0.5, 4.0  # of `look_again_s`: what each calm look adds to the time until the next, and its most
WAITING = 1.0  # the same for an object that is not settled
GLANCE_IOU = (
    0.5  # of detected and expected box, from which a glance is enough; loose boxes of the right object reach 0.6
)
SAME_PLACE = 0.85  # the same of the boxes expected before and after a look that did not move the object
GLANCE_COLOURS = 0.8  # the same for colours, by Bhattacharyya's coefficient


class Tracker:
    """Follows the objects of one camera.

    >>> tracker = Tracker(Pipeline.open("lib/"))
    >>> for frame, detections in stream:
    ...     for thing in tracker.step(frame, detections).objects:
    ...         print(thing.track_id, thing.state, thing.hypotheses[:1])
    """

    def __init__(
        self, pipeline: Pipeline, config: TrackConfig | None = None, clock: Callable[[], float] | None = None
    ) -> None:
        """`clock` replaces the wall clock that the time budget is kept by."""
        self.pipeline, self._clock = pipeline, clock or time.perf_counter
        self._entries = {entry.id: entry for entry in pipeline.library.entries}
        self._next_id = 1
        self.reconfigure(config or pipeline.config.track)
        self.reset()

    def reconfigure(self, config: TrackConfig) -> None:
        """Go on with other settings, and with what the pipeline's have become; tracks are kept."""
        self.config, self._confidence = config, self.pipeline.config.confidence
        self._looker = Looker(self.pipeline, config)
        self._budget = Budget(config.budget_s, config.search_share, self._clock)

    def reset(self) -> None:
        """Forget all tracks. Their numbers are not used again."""
        self._tracks: list[Track] = []
        self._last_ns: int | None = None
        self._fixed: bool | None = None

    def step(
        self, frame: Frame, detections: Sequence[Detection], T_fixed_cam: np.ndarray | None = None
    ) -> TrackedResult:
        """Take one frame with its detections; T_fixed_cam [4, 4] is where the camera was then, if the caller knows.

        Raises ValueError for an unusable frame or transform, LibraryError for a damaged library. Detections that cannot
        be used come back in `rejected`.
        """
        check_frame(frame)
        self.pipeline.check()
        T_ref_cam = _checked(T_fixed_cam)
        self._budget.begin_frame()
        self._glances = 0
        notes, ended = self._new_time(frame.stamp_ns, T_fixed_cam is not None)
        unused = usable_depth(frame, self.pipeline.config.depth)[1]
        notes += [unused] if unused else []
        usable, rejected = _usable(detections, frame)
        matched = self._associate(frame, usable, T_ref_cam)
        associate_s = self._budget.elapsed
        deferred = self._work(frame, matched, T_ref_cam)
        ended += self._judge(frame.stamp_ns, T_ref_cam)
        spent, count = self._budget.spent, self._budget.count
        return TrackedResult(
            stamp_ns=frame.stamp_ns,
            objects=tuple(told(t, self._entries, T_ref_cam, self._confidence) for t in self._tracks),
            ended=tuple(ended),
            deferred=tuple(deferred),
            rejected=tuple(rejected),
            notes=tuple(notes),
            timings=TrackTimings(
                associate_s,
                spent.get("look", 0.0),
                spent.get("search", 0.0),
                self._budget.elapsed,
                count.get("look", 0),
                count.get("search", 0),
                self._glances,
            ),
        )

    # --- time and association ---

    def _new_time(self, stamp_ns: int, fixed: bool) -> tuple[list[str], list[tuple[int, str]]]:
        """Begin anew where stamps or the reference frame no longer go on from the last frame's."""
        notes: list[str] = []
        ended: list[tuple[int, str]] = []
        if self._last_ns is not None and stamp_ns < self._last_ns:
            back = (self._last_ns - stamp_ns) * 1e-9
            notes.append(f"stamps jumped back by {back:.3f} s: all tracks begin anew")
        elif self._fixed is not None and fixed != self._fixed:
            notes.append("the camera's place became " + ("known" if fixed else "unknown") + ": all tracks begin anew")
        if notes:
            ended = [(t.track_id, notes[0]) for t in self._tracks]
            self._tracks = []
        gap = 0.0 if self._last_ns is None or notes else (stamp_ns - self._last_ns) * 1e-9
        if gap > self.config.max_gap_s:
            notes.append(f"no frame for {gap:.1f} s: objects are searched again")
            for track in self._tracks:
                if track.state is not TrackState.TENTATIVE:
                    track.state, track.strikes = TrackState.LOST, STRIKES
        self._last_ns, self._fixed = stamp_ns, fixed
        return notes, ended

    def _associate(
        self, frame: Frame, detections: Sequence[Detection], T_ref_cam: np.ndarray
    ) -> list[tuple[Track, Detection]]:
        for track in self._tracks:
            track.detection, track.measured = None, False
            if track.motion is not None:
                distance = distance_to(track, T_ref_cam)
                if track.state is TrackState.LOST:  # where it went meanwhile nobody knows
                    track.motion = motion.at_rest(track.motion)
                track.motion = motion.predict(track.motion, frame.stamp_ns, distance, self.config)
        expected = [self._expected(t, frame, T_ref_cam) for t in self._tracks]
        colours = [colours_of(frame.image, visible_part(d.box, frame.camera)) for d in detections]
        found = associate(expected, detections, colours, self.config)
        matched = []
        for detection, index, seen in zip(detections, found, colours, strict=True):
            if index is None:
                box = np.asarray(detection.box, dtype=np.float64)
                track = Track(self._next_id, frame.stamp_ns, frame.stamp_ns, box, seen, detection.id)
                self._next_id += 1
                self._tracks.append(track)
            else:
                track = self._tracks[index]
                track.hits += 1
                track.agrees = expected[index].agrees(detection, seen, GLANCE_IOU, GLANCE_COLOURS)
                track.box, track.seen_ns = np.asarray(detection.box, dtype=np.float64), frame.stamp_ns
                track.expected = None if track.motion is None else expected[index].box
                track.differs = Oddity.of(track.box, expected[index].box, seen)
                track.colours = (1 - COLOUR_GAIN) * track.colours + COLOUR_GAIN * seen
                track.name = detection.id or track.name
            track.detection = detection
            seen_at = sighting(track.box, frame, T_ref_cam)
            track.sightings = latest((*track.sightings, seen_at)) if seen_at else track.sightings
            matched.append((track, detection))
        return matched

    def _expected(self, track: Track, frame: Frame, T_ref_cam: np.ndarray) -> Expected:
        just_seen = (frame.stamp_ns - track.seen_ns) * 1e-9 < JUST_SEEN
        last = track.box if just_seen else None
        return Expected(self._expected_box(track, frame, T_ref_cam), track.colours, track.name, last, track.odd)

    def _expected_box(self, track: Track, frame: Frame, T_ref_cam: np.ndarray) -> np.ndarray:
        if track.motion is None or self._is_unknown(track):
            return track.box
        mesh = self.pipeline.library.index_of(track.mesh_id)
        pose = track.pose(self._entries[track.mesh_id], T_ref_cam)
        box = expected_box(self.pipeline.placing.outer_points(mesh), pose, frame.camera)
        return track.box if box is None else box

    # --- work within the budget ---

    def _work(self, frame: Frame, matched: Sequence[tuple[Track, Detection]], T_ref_cam: np.ndarray) -> list[Detection]:
        """Look at or search what was detected, most needed first; returns what the budget did not reach."""
        looks, searches, checks = [], [], []
        for pair in matched:
            track, due = pair[0], self._search_is_due(pair[0], frame.stamp_ns)
            anew = due and seen_anew(track, T_ref_cam)
            if not self._can_look(track) or (due and track.state is TrackState.TENTATIVE):
                searches += [pair] if due else []
            elif not self._glance_is_enough(track, frame.stamp_ns):
                looks.append(pair)
                checks += [track] if anew or (due and is_doubtful(track, self.config)) else []
            elif anew:
                searches.append(pair)
        looks.sort(key=lambda pair: -pair[0].waited)
        searches.sort(key=lambda pair: (-min(pair[0].hits, 2), -pair[0].waited, pair[0].searched_ns))
        done: set[int] = set()
        while looks or searches:
            urgent = bool(searches) and searches[0][0].hits > 1 and self._budget.affords_search(bool(looks))
            if looks and not urgent:
                if not self._budget.fits("look"):
                    break
                track, detection = looks.pop(0)
                look = partial(self._looker.look, frame, track, detection, T_ref_cam)
                fitted = self._budget.clock("look", look)
                if not fitted or track in checks:
                    searches.append((track, detection))
            elif searches and (urgent or self._budget.affords_search(waiting=False)):
                track, detection = searches.pop(0)
                self._budget.clock("search", partial(self._looker.search, frame, track, detection, T_ref_cam))
            else:
                break
            done.add(track.track_id)
            self._compare(track, frame, T_ref_cam)
        for track, _ in matched:
            track.waited = 0 if track.measured or track.track_id in done else track.waited + 1
        return [d for t, d in (*looks, *searches) if t.track_id not in done and not t.measured]

    def _glance_is_enough(self, track: Track, stamp_ns: int) -> bool:
        """Whether an object at rest is so clearly where it is expected that it is not looked at; then it counts as measured."""
        assert track.motion is not None
        # more looks from one side do not settle it either
        calm = WAITING if track.state is TrackState.TENTATIVE else CALMING * track.calm
        patience = self.config.look_again_s * min(1 + calm, LONGEST)
        fresh = track.looked_ns >= 0 and (stamp_ns - track.looked_ns) * 1e-9 < patience
        resting = track.state is not TrackState.LOST and not track.motion.moving
        track.measured = resting and fresh and track.agrees
        self._glances += track.measured
        return track.measured

    def _compare(self, track: Track, frame: Frame, T_ref_cam: np.ndarray) -> None:
        """After a look or a search: whether the object is where it was expected, though its detection may have been odd."""
        track.odd = None
        if track.motion is None or track.motion.moving or track.expected is None or not track.measured:
            return
        found = self._expected_box(track, frame, T_ref_cam)
        stayed = iou(found[None], track.expected[None])[0, 0] >= SAME_PLACE
        if stayed:
            track.odd = None if track.agrees else track.differs
        else:  # it may have gone farther: the next frame is looked at too
            track.calm, track.looked_ns = 0, -1

    def _can_look(self, track: Track) -> bool:
        """Whether a predicted pose is good enough to start from."""
        if track.motion is None or track.strikes >= STRIKES:
            return False
        if track.state is TrackState.TENTATIVE and self._is_unknown(track):
            return False
        return bool(np.sqrt(np.diag(track.motion.P)[3:6]).max() < SURE_ANGLE)

    def _is_unknown(self, track: Track) -> bool:
        return track.identity.probabilities()[1] > self._confidence.accept

    def _search_is_due(self, track: Track, stamp_ns: int) -> bool:
        patience = track.patience_s
        if track.state is not TrackState.TENTATIVE and not self._can_look(track):
            patience = min(patience, self.config.search_again_s)
        return track.searched_ns < 0 or (stamp_ns - track.searched_ns) * 1e-9 >= patience

    def _judge(self, stamp_ns: int, T_ref_cam: np.ndarray) -> list[tuple[int, str]]:
        """Every track's state after this frame; returns those that are given up, with the reason."""
        double = merge_duplicates(self._tracks, self._entries, T_ref_cam, self._confidence)
        ended = [(track.track_id, reason) for track, reason in double]
        for track, _ in double:
            self._tracks.remove(track)
        for track in list(self._tracks):
            reason = verdict(track, (stamp_ns - track.seen_ns) * 1e-9, self.config, self._confidence)
            if reason:
                ended.append((track.track_id, reason))
                self._tracks.remove(track)
        return ended


def seen_anew(track: Track, T_ref_cam: np.ndarray) -> bool:
    """Whether a track is seen from another side than when all meshes were last compared: look-alikes may differ there."""
    view = view_of(track, T_ref_cam)
    return view is not None and track.searched_view is not None and angle_between(view, track.searched_view) > NEW_VIEW


def _checked(T_fixed_cam: np.ndarray | None) -> np.ndarray:
    if T_fixed_cam is None:
        return np.eye(4)
    T = np.asarray(T_fixed_cam, dtype=np.float64)
    if T.shape != (4, 4) or not np.isfinite(T).all() or not is_rotation(T[:3, :3], 1e-4):
        raise ValueError(f"T_fixed_cam: expected a rigid transform [4, 4], got {T.tolist()}")
    return T


def _usable(detections: Sequence[Detection], frame: Frame) -> tuple[list[Detection], list[tuple[Detection, str]]]:
    usable: list[Detection] = []
    rejected: list[tuple[Detection, str]] = []
    for detection in detections:
        try:
            visible_part(detection.box, frame.camera)
            usable.append(detection)
        except CropError as error:
            rejected.append((detection, str(error)))
    return usable, rejected
