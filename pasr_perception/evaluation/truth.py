"""Joins what a node published with the ground truth of the same image: by stamp, then by the detection's id."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pasr_perception.data.records import BagFrame, PublishedFrame, PublishedHypothesis, PublishedObject, Truth
from pasr_perception.evaluation.metrics import Surface
from pasr_perception.evaluation.shape_classes import shape_classes
from pasr_perception.geometry.symmetry import Symmetry
from pasr_perception.library.store import MeshLibrary
from pasr_perception.types import Detection

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MeshFacts:
    """What the metrics need to know of one mesh of the library. Object frame, metres."""

    id: str
    category: str
    appearance: str  # known | unknown
    shape_class: int  # see shape_classes.py
    surface: Surface
    symmetry: Symmetry


@dataclass(frozen=True)
class Case:
    """One object that the node was asked about: the truth and the ranked answers (empty: it gave none)."""

    stamp_ns: int
    truth: Truth
    detection: Detection
    after: tuple[PublishedHypothesis, ...] = ()
    before: tuple[PublishedHypothesis, ...] = ()  # refinement


def mesh_facts(library: MeshLibrary) -> dict[str, MeshFacts]:
    """Facts of every mesh of a library by id; reads each mesh's points once."""
    points = {e.id: library.data(i).points.double().numpy() * e.scale + e.center for i, e in enumerate(library.entries)}
    classes = shape_classes(points)
    return {
        e.id: MeshFacts(e.id, e.category, e.appearance, classes[e.id], Surface.of(points[e.id]), e.symmetry)
        for e in library.entries
    }


def published_by_stamp(frames: Sequence[PublishedFrame]) -> dict[int, PublishedFrame]:
    """The answers by the stamp of their image; of several answers to one image the first counts."""
    found: dict[int, PublishedFrame] = {}
    for frame in frames:
        if frame.stamp_ns in found:
            logger.warning("stamp %d was answered more than once; the first answer counts", frame.stamp_ns)
        found.setdefault(frame.stamp_ns, frame)
    return found


def cases_of_frame(frame: BagFrame, after: PublishedFrame, before: PublishedFrame | None) -> list[Case]:
    """The cases of one answered image, one per true object that has a detection of the same id.

    True objects without a detection were never asked for and are left out; a detection that was not answered is a case
    without hypotheses.
    """
    truths = {truth.id: truth for truth in frame.truths}
    final, coarse = _by_id(after), _by_id(before)
    cases = []
    for index, detection in enumerate(frame.detections):
        truth = truths.get(detection.id)
        if truth is None:
            continue
        published = detection.id or str(index)  # what the node calls a detection that has no id
        cases.append(
            Case(
                frame.frame.stamp_ns,
                truth,
                detection,
                after=_hypotheses(final, published),
                before=_hypotheses(coarse, published),
            )
        )
    return cases


def _by_id(frame: PublishedFrame | None) -> dict[str, PublishedObject]:
    objects = () if frame is None else frame.objects
    return {published.id: published for published in reversed(objects)}  # reversed: the first of equal ids counts


def _hypotheses(objects: Mapping[str, PublishedObject], name: str) -> tuple[PublishedHypothesis, ...]:
    return objects[name].hypotheses if name in objects else ()
