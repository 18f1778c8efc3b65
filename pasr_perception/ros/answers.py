"""The two ways in which the node answers a frame: by itself, or as the next one of objects that are followed.

Followed objects are called by the detector's id where it gives one, else `track_<number>`; a number is never used again. Only
objects whose mesh is settled are `settled`, which is what TF and RViz get.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from pasr_perception.config import PasrConfig, TrackConfig
from pasr_perception.memory import PartwiseWork, merged
from pasr_perception.types import (
    Detection,
    Frame,
    FrameResult,
    ObjectEstimate,
    StageTimings,
    TrackedObject,
    TrackedResult,
    TrackState,
    TrackTimings,
)

SETTLED = (TrackState.TRACKED, TrackState.COASTING)
NOTHING = FrameResult((), StageTimings())


class Detecting(Protocol):
    """What answering single frames asks of a pipeline."""

    config: PasrConfig

    def detect(self, frame: Frame, detections: Sequence[Detection]) -> FrameResult: ...


class Tracking(Protocol):
    """What following objects asks of a tracker."""

    def step(self, frame: Frame, detections: Sequence[Detection], T_fixed_cam: np.ndarray | None) -> TrackedResult: ...

    def reset(self) -> None: ...

    def reconfigure(self, config: TrackConfig) -> None: ...


@dataclass(frozen=True)
class Answer:
    """What is to be published of a frame."""

    settled: FrameResult
    timings: StageTimings | TrackTimings
    rejected: tuple[tuple[Detection, str], ...] = ()
    unsettled: FrameResult = NOTHING  # objects whose mesh is not settled yet
    notes: tuple[str, ...] = ()
    tracks: Mapping[str, str] = field(default_factory=dict)  # {name: state and reason} of all objects that are followed


Place = Callable[[Frame], tuple[np.ndarray | None, str]]


class Single:
    """Every frame by itself; in parts where memory does not hold all of its objects at once."""

    anonymous = False  # objects that the detector has no id for are called by their index

    def __init__(self, pipeline: Detecting) -> None:
        self._pipeline, self._parts = pipeline, PartwiseWork()

    def answer(self, frame: Frame, detections: Sequence[Detection]) -> Answer:
        result = merged(self._parts.run(lambda part: self._pipeline.detect(frame, part), detections))
        limit = self._parts.limit
        notes = () if limit is None else (f"short of memory: {limit} objects at a time",)
        return Answer(result, result.timings, result.rejected, notes=notes)

    def forget(self) -> None:
        """There is nothing that it would remember."""

    def reconfigure(self) -> None:
        """The pipeline knows its settings."""


class Following:
    """Frames as they come, by a tracker. `place` says where the camera is, in a frame that stands still."""

    anonymous = True

    def __init__(self, pipeline: Detecting, tracker: Tracking, place: Place | None = None) -> None:
        self._pipeline, self._tracker, self._place = pipeline, tracker, place

    def answer(self, frame: Frame, detections: Sequence[Detection]) -> Answer:
        T_fixed_cam, note = self._place(frame) if self._place else (None, "")
        result = self._tracker.step(frame, detections, T_fixed_cam)
        named = list(zip(names(result.objects), result.objects, strict=True))
        notes = [note] if note else []
        notes += result.notes
        if result.deferred:
            notes.append(f"the time budget did not reach {len(result.deferred)} of {len(detections)} detections")
        tracks = {name: f"{item.state}: {item.reason}" for name, item in named}
        tracks |= {f"track_{number} (ended)": reason for number, reason in result.ended}
        return Answer(
            _estimates(named, SETTLED),
            result.timings,
            result.rejected,
            _estimates(named, (TrackState.TENTATIVE,)),
            tuple(notes),
            tracks,
        )

    def forget(self) -> None:
        """All objects are new from the next frame on."""
        self._tracker.reset()

    def reconfigure(self) -> None:
        """Take over the pipeline's settings."""
        self._tracker.reconfigure(self._pipeline.config.track)


def names(objects: Sequence[TrackedObject]) -> list[str]:
    """What objects are called, each differently."""
    taken: set[str] = set()
    found = []
    for item in objects:
        name = item.name if item.name and item.name not in taken else f"track_{item.track_id}"
        while name in taken:  # a detector that calls another object so
            name += "_"
        taken.add(name)
        found.append(name)
    return found


def _estimates(named: Sequence[tuple[str, TrackedObject]], states: Sequence[TrackState]) -> FrameResult:
    objects = []
    for name, item in named:
        if item.state not in states or not item.hypotheses:
            continue
        detection = Detection(item.box) if item.detection is None else item.detection
        objects.append(ObjectEstimate(replace(detection, id=name), item.hypotheses, (), item.unknown, item.ambiguous))
    return FrameResult(tuple(objects), StageTimings())
