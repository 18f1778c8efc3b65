"""Wall time of every stage of the pipeline over library sizes and numbers of crops."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

from pasr_perception.benchmark.figures import Figure, median_figure
from pasr_perception.benchmark.measure import seconds
from pasr_perception.benchmark.queries import EncodedQueries, Query, encode
from pasr_perception.pipeline import Pipeline
from pasr_perception.track.warm import WarmStart
from pasr_perception.types import Detection, Frame, FrameResult, StageTimings

BEFORE_THE_SEARCH = ("tighten", "crop", "encode")
ROS = ("rclpy", "tf2_msgs", "vision_msgs", "visualization_msgs")  # what messages are made of and serialised with


@dataclass(frozen=True)
class StageTime:
    """One stage of one row."""

    stage: str
    seconds: Figure  # of the whole frame, all its crops


@dataclass(frozen=True)
class StageRow:
    """Stage times at one library size, for frames of one number of crops."""

    meshes: int
    real: int  # of the meshes; the others are jittered copies
    crops: int
    stages: tuple[StageTime, ...]  # in the order of the data flow
    total: Figure
    after_encoder_over_encoder: Figure


@dataclass(frozen=True)
class Samples:
    """The repeats of one row, still apart, so that rows can be paired."""

    timings: tuple[StageTimings, ...]
    publish: tuple[float, ...] = ()  # seconds; empty where ROS is not importable
    track: tuple[float, ...] = ()  # seconds; empty where nothing was found that could be followed
    shortlist: tuple[float, ...] = ()  # seconds, part of coarse; empty where every pose is compared


Publish = Callable[[FrameResult], float | None]


def sample(
    pipelines: Mapping[int, Pipeline], frames: Sequence[tuple[Frame, Sequence[Detection]]], repeats: int
) -> dict[int, Samples]:
    """Stage times of frames in turn, at every library size in turn: the i-th repeats of two sizes may be paired.

    Every frame is asked about once before it counts, as a robot sees the same objects again.
    """
    timings: dict[int, list[StageTimings]] = {n: [] for n in pipelines}
    listed: dict[int, list[float]] = {n: [] for n in pipelines}
    published: dict[int, list[float]] = {n: [] for n in pipelines}
    tracked: dict[int, list[float]] = {n: [] for n in pipelines}
    warming = min(repeats, len(frames))
    one = next(iter(pipelines.values()))  # they share the encoder
    asked = [encode(one, [Query(frame, d, None) for d in detections]) for frame, detections in frames]
    for i in range(-warming, repeats):
        frame, detections = frames[i % len(frames)]
        for n, pipeline in pipelines.items():
            result = pipeline.detect(frame, detections)
            narrowed = shortlist_seconds(asked[i % len(frames)], pipeline)
            spent = publish_seconds(result, pipeline)
            followed = track_seconds(result, frame, pipeline)
            if i >= 0:
                timings[n].append(result.timings)
                listed[n] += [] if narrowed is None else [narrowed]
                published[n] += [] if spent is None else [spent]
                tracked[n] += [] if followed is None else [followed]
    lists = published, tracked, listed
    return {n: Samples(tuple(timings[n]), *(tuple(each[n]) for each in lists)) for n in pipelines}


def stage_row(samples: Samples, meshes: int, real: int, crops: int) -> StageRow:
    """Median and range of every stage."""
    note = f"{len(samples.timings)} repeats, median and range"
    stages = [
        StageTime(f.name, median_figure([getattr(t, f.name) for t in samples.timings], "s", note))
        for f in fields(StageTimings)
    ]
    if samples.shortlist:
        stages.append(StageTime("shortlist", median_figure(samples.shortlist, "s", f"part of coarse; {note}")))
    if samples.track:
        stages.append(StageTime("track", median_figure(samples.track, "s", f"a look at each found object; {note}")))
    if samples.publish:
        stages.append(StageTime("publish", median_figure(samples.publish, "s", f"messages made, serialised; {note}")))
    total = median_figure([t.total for t in samples.timings], "s", note)
    ratio = median_figure([after_encoder(t) / t.encode for t in samples.timings], "x", note)
    return StageRow(meshes, min(real, meshes), crops, tuple(stages), total, ratio)


def after_encoder(timings: StageTimings) -> float:
    """Seconds of everything that comes after the encoder."""
    return timings.total - sum(getattr(timings, name) for name in BEFORE_THE_SEARCH)


def shortlist_seconds(asked: EncodedQueries, pipeline: Pipeline) -> float | None:
    """Seconds until it is known which poses of which meshes are compared exactly; None where all are."""
    shortlist = pipeline.shortlist
    if shortlist is None:
        return None
    return seconds(lambda: shortlist(asked.maps, asked.box_size, [None] * len(asked.maps)), at_least=0)


def track_seconds(result: FrameResult, frame: Frame, pipeline: Pipeline) -> float | None:
    """Seconds to look at every found object again from where it was found, as the tracker does; None without objects.

    Cropping and encoding are in them.
    """
    if not result.objects:
        return None
    look = WarmStart(pipeline, pipeline.config.track)
    found = [(o.detection, {o.best.mesh_id: o.best.T_cam_obj}) for o in result.objects if o.hypotheses]
    return seconds(lambda: [look(frame, detection, pose) for detection, pose in found], at_least=0)


def publish_seconds(result: FrameResult, pipeline: Pipeline) -> float | None:
    """Seconds to turn a result into objects, transforms and markers and serialise them; None without ROS.

    The transport is not in it: that is DDS' work and depends on who listens.
    """
    if not result.objects or any(importlib.util.find_spec(name) is None for name in ROS):
        return None
    from pasr_perception.ros.serialise import serialise_result

    return seconds(lambda: serialise_result(result, pipeline.library))
