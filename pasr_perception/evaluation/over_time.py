"""Tracks against the truth over time: identity (CLEAR MOT, Bernardin 2008; IDF1, Ristani 2016), steadiness, reaction.

An answer belongs to the true object whose direction from the camera is nearest, within half of that object's angular size;
an object keeps the track that it had for as long as that one is near enough. Only confirmed answers count.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from pasr_perception.data.records import BagFrame, PublishedFrame, Truth
from pasr_perception.evaluation.truth import MeshFacts
from pasr_perception.geometry.se3 import rotation_angle
from pasr_perception.geometry.symmetry import closest_symmetric_rotation_error

SEEN = 0.3  # visible share from which an object has to be answered
FLIP = np.radians(40)  # a jump between two equivalent poses, or over to a wrong one
GAP_S = 0.8  # out of sight for longer than this is an occlusion
APART = 1e6


@dataclass(frozen=True)
class Answer:
    """One confirmed track in one frame."""

    track: str
    mesh_id: str
    T_cam_obj: np.ndarray  # [4, 4]
    center: np.ndarray  # [3] middle of the object, camera frame


@dataclass(frozen=True)
class Moment:
    """One frame: what was there and what was said."""

    stamp_ns: int
    truths: tuple[Truth, ...]
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Point:
    """One true object in one frame, as it was answered."""

    seconds: float
    visible: float
    track: str = ""  # empty: not answered
    mesh_id: str = ""
    rotation: float = float("nan")  # radians, by symmetry
    translation: float = float("nan")  # of the distance
    E: np.ndarray | None = None  # [4, 4] error of the middle's pose, true axes; None unless the mesh is right
    distance: float = float("nan")


@dataclass(frozen=True)
class OverTime:
    """The numbers; None where nothing was there to measure."""

    frames: int
    mota: float | None
    idf1: float | None
    identity_switches: int
    mesh_changes: int
    mesh_correct_share: float | None
    symmetric_flips: int
    jitter_deg: float | None  # rms change of the pose error from frame to frame
    jitter_m: float | None  # at 1 m
    jitter_deg_median: float | None
    jitter_m_median: float | None
    rotation_error_deg: float | None  # median, by symmetry
    translation_error_share: float | None  # median, of the distance
    unknown_confirmed: int  # answers to objects that the library does not hold
    invented_confirmed: int  # answers to nothing at all
    first_correct_s: float | None  # median over objects, from when it could first be seen
    first_correct_worst_s: float | None
    never_correct: int  # objects of the library that were never called by their mesh; not among those above
    reacquire_s: float | None  # median over occlusions, from when it could be seen again
    reacquire_worst_s: float | None
    occlusions: int


def evaluate(moments: Iterable[Moment], facts: Mapping[str, MeshFacts]) -> tuple[OverTime, dict[str, list[Point]]]:
    """Numbers over all frames, and every true object's course."""
    courses: dict[str, list[Point]] = defaultdict(list)
    names: dict[str, str] = {}
    last: dict[str, str] = {}
    counts: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    start: int | None = None
    for moment in moments:
        start = moment.stamp_ns if start is None else start
        seconds = (moment.stamp_ns - start) * 1e-9
        counts["frames"] += 1
        matched = match(moment, last)
        for truth in moment.truths:
            names[truth.id] = truth.mesh_id
            answer = matched.get(truth.id)
            inside = truth.mesh_id in facts
            if inside:
                courses[truth.id].append(_point(truth, answer, facts[truth.mesh_id], seconds))
                counts["due"] += truth.visible_fraction >= SEEN
                counts["missed"] += truth.visible_fraction >= SEEN and answer is None
            elif answer is not None:
                counts["unknown"] += 1
            if answer is not None:
                counts["switches"] += last.get(truth.id, answer.track) != answer.track
                last[truth.id] = answer.track
                pairs[truth.id, answer.track] += inside
        counts["answers"] += len(moment.answers)
        counts["invented"] += len(moment.answers) - len(matched)
    return _numbers(counts, pairs, courses, names, facts), dict(courses)


def recorded(frame: BagFrame, answer: PublishedFrame, accept: float) -> Moment:
    """A recorded answer with the truth of its image; answers whose best score is at least `accept` are the confirmed ones."""
    best = [(o, o.hypotheses[0]) for o in answer.objects if o.hypotheses and o.hypotheses[0].score >= accept]
    said = tuple(Answer(o.id, h.mesh_id, h.T_cam_obj, o.center) for o, h in best)
    return Moment(frame.frame.stamp_ns, frame.truths, said)


def can_be_followed(frame: BagFrame, answer: PublishedFrame) -> bool:
    """Whether ids can mean the same object from frame to frame, and how large true objects look is known.

    A detection without an id is called by its place in the array, which says nothing of the frame before.
    """
    places = {str(i) for i, d in enumerate(frame.detections) if not d.id}
    return not any(o.id in places for o in answer.objects) and all(t.size.any() for t in frame.truths)


def match(moment: Moment, last: Mapping[str, str]) -> dict[str, Answer]:
    """Answers by the id of the true object that they belong to."""
    truths, answers = moment.truths, moment.answers
    if not truths or not answers:
        return {}
    cost = np.full((len(truths), len(answers)), APART)
    for i, truth in enumerate(truths):
        middle = truth.T_cam_obj[:3, :3] @ truth.center + truth.T_cam_obj[:3, 3]
        reach = np.linalg.norm(truth.size) / 2 / np.linalg.norm(middle)
        for j, answer in enumerate(answers):
            cosine = middle @ answer.center / np.linalg.norm(middle) / max(float(np.linalg.norm(answer.center)), 1e-9)
            off = float(np.arccos(np.clip(cosine, -1, 1)))
            if off < reach:
                cost[i, j] = off / reach - (1 if last.get(truth.id) == answer.track else 0)
    rows, columns = linear_sum_assignment(cost)
    return {truths[i].id: answers[j] for i, j in zip(rows, columns, strict=True) if cost[i, j] < APART}


def _point(truth: Truth, answer: Answer | None, facts: MeshFacts, seconds: float) -> Point:
    if answer is None:
        return Point(seconds, truth.visible_fraction)
    center = np.eye(4)
    center[:3, 3] = truth.center
    T_true = truth.T_cam_obj @ center
    distance = float(np.linalg.norm(T_true[:3, 3]))
    if answer.mesh_id != truth.mesh_id:
        return Point(seconds, truth.visible_fraction, answer.track, answer.mesh_id, distance=distance)
    T = answer.T_cam_obj @ center
    E = np.eye(4)
    E[:3, :3] = T_true[:3, :3].T @ T[:3, :3]
    E[:3, 3] = T_true[:3, :3].T @ (T[:3, 3] - T_true[:3, 3])
    turn = closest_symmetric_rotation_error(T_true[:3, :3], T[:3, :3], facts.symmetry)
    off = float(np.linalg.norm(E[:3, 3])) / distance
    return Point(seconds, truth.visible_fraction, answer.track, answer.mesh_id, turn, off, E, distance)


def _numbers(
    counts: Counter[str],
    pairs: Counter[tuple[str, str]],
    courses: Mapping[str, Sequence[Point]],
    names: Mapping[str, str],
    facts: Mapping[str, MeshFacts],
) -> OverTime:
    answered = [(names[i], p) for i, course in courses.items() for p in course if p.track]
    right = [p for name, p in answered if p.mesh_id == name]
    steps = [s for course in courses.values() for s in _steps(course)]
    turns, shifts = np.array([s[0] for s in steps]), np.array([s[1] for s in steps])
    calm = turns < FLIP
    false = counts["invented"] + counts["unknown"]
    due, switches = counts["due"], counts["switches"]
    first = [t for i, course in courses.items() if (t := first_correct(course, names[i])) is not None]
    again = [t for i, course in courses.items() for t in reacquired(course, names[i])]
    return OverTime(
        frames=counts["frames"],
        mota=1 - (counts["missed"] + false + switches) / due if due else None,
        idf1=_idf1(pairs, sum(map(len, courses.values())), counts["answers"]),
        identity_switches=switches,
        mesh_changes=sum(_changes(course) for course in courses.values()),
        mesh_correct_share=len(right) / len(answered) if answered else None,
        symmetric_flips=int((~calm).sum()),
        jitter_deg=_rms(np.degrees(turns[calm])),
        jitter_m=_rms(shifts[calm]),
        jitter_deg_median=_median(np.degrees(turns[calm])),
        jitter_m_median=_median(shifts[calm]),
        rotation_error_deg=_median(np.degrees([p.rotation for p in right])),
        translation_error_share=_median([p.translation for p in right]),
        unknown_confirmed=counts["unknown"],
        invented_confirmed=counts["invented"],
        first_correct_s=_median(first),
        first_correct_worst_s=max(first, default=None),
        never_correct=len(courses) - len(first),
        reacquire_s=_median(again),
        reacquire_worst_s=max(again, default=None),
        occlusions=len(again),
    )


def _steps(course: Sequence[Point]) -> list[tuple[float, float]]:
    """Changes of the pose error between frames that follow each other: radians, and metres at 1 m."""
    found = []
    for a, b in itertools.pairwise(course):
        if a.E is not None and b.E is not None and a.track == b.track:
            shift = float(np.linalg.norm(b.E[:3, 3] / b.distance - a.E[:3, 3] / a.distance))
            found.append((rotation_angle(a.E[:3, :3], b.E[:3, :3]), shift))
    return found


def _changes(course: Sequence[Point]) -> int:
    meshes = [(p.track, p.mesh_id) for p in course if p.track]
    return sum(a[0] == b[0] and a[1] != b[1] for a, b in itertools.pairwise(meshes))


def first_correct(course: Sequence[Point], mesh_id: str) -> float | None:
    """Seconds from when an object could first be seen until it was first answered rightly; None: never."""
    began = next((p.seconds for p in course if p.visible >= SEEN), None)
    right = next((p.seconds for p in course if p.mesh_id == mesh_id), None)
    return None if began is None or right is None else max(right - began, 0.0)


def reacquired(course: Sequence[Point], mesh_id: str) -> list[float]:
    """After each occlusion of an object that had been right: seconds from when it could be seen until it was again."""
    found = []
    seen = [p for p in course if p.visible >= SEEN]
    for a, b in itertools.pairwise(seen):
        gone = b.seconds - a.seconds
        if gone > GAP_S and a.mesh_id == mesh_id:
            back = next((p.seconds for p in course if p.seconds >= b.seconds and p.mesh_id == mesh_id), None)
            found.append(course[-1].seconds - b.seconds if back is None else back - b.seconds)
    return found


def _idf1(pairs: Counter[tuple[str, str]], truths: int, answers: int) -> float | None:
    if not truths + answers:
        return None
    rows, columns = sorted({t for t, _ in pairs}), sorted({a for _, a in pairs})
    table = np.array([[pairs[t, a] for a in columns] for t in rows]) if pairs else np.zeros((0, 0))
    assigned = linear_sum_assignment(-table)
    return float(2 * table[assigned].sum() / (truths + answers))


def _rms(values: np.ndarray) -> float | None:
    return float(np.sqrt(np.mean(np.square(values)))) if len(values) else None


def _median(values: Sequence[float] | np.ndarray) -> float | None:
    return float(np.median(values)) if len(values) else None
