"""A world whose things are where they are said to be: searches and looks answer by it, and are written down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pasr_perception.config import ConfidenceConfig, PasrConfig, RefineConfig, TrackConfig
from pasr_perception.crop import CropError
from pasr_perception.geometry.camera import project
from pasr_perception.geometry.se3 import make_T
from pasr_perception.geometry.symmetry import Fold, Symmetry
from pasr_perception.library.format import MeshEntry
from pasr_perception.track import looking
from pasr_perception.track.tracker import Tracker
from pasr_perception.track.warm import Look
from pasr_perception.types import (
    Camera,
    Detection,
    Frame,
    FrameResult,
    Hypothesis,
    ObjectEstimate,
    StageTimings,
    TrackedResult,
)

CAMERA = Camera(320, 240, np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]]))
CORNERS = np.array([[x, y, z] for x in (-0.1, 0.1) for y in (-0.1, 0.1) for z in (-0.1, 0.1)])
SEARCH_S, LOOK_S = 0.4, 0.04  # that they take by the test's clock
HALF_TURN = Symmetry(folds=(Fold((0.0, 1.0, 0.0), 2),))
GOOD, STRANGE = 7.0, -2.0  # margins


def entry(mesh_id: str, symmetry: Symmetry) -> MeshEntry:
    words = {"category": "thing", "source_path": "", "licence": "CC0", "creator": "", "appearance": "known"}
    shape = {"center": (0.0, 0.0, 0.0), "scale": 0.2, "extent": (0.2, 0.2, 0.2), "faces": 12}
    more: dict[str, Any] = {**words, **shape}
    return MeshEntry(id=mesh_id, unit=1.0, pose_set="so3", up="+y", build_seconds=0.0, symmetry=symmetry, **more)


@dataclass
class Thing:
    """One object: where it is, and what a search or a look would find."""

    T_cam_obj: np.ndarray
    margins: Mapping[str, float]  # by mesh, best first
    poses: Mapping[str, np.ndarray] = field(default_factory=dict)  # where not T_cam_obj

    def pose(self, mesh_id: str) -> np.ndarray:
        return self.poses.get(mesh_id, self.T_cam_obj)


@dataclass
class World:
    """Stands for a pipeline, and turns the clock. A detection's class says which thing it shows; a tracker ignores that."""

    config: PasrConfig
    now: float = 0.0
    things: dict[str, Thing] = field(default_factory=dict)
    searched: list[str] = field(default_factory=list)
    refined: list[int] = field(default_factory=list)  # candidates that each search may refine
    contours: list[float] = field(default_factory=list)  # what they count in each
    looked: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    uncroppable: bool = False
    alike: float = 0.0  # of all renderings to the first one's
    checks: int = 0  # how often the library's files were looked at

    def __post_init__(self) -> None:
        entries = (entry("mug", Symmetry()), entry("box", HALF_TURN), entry("can", Symmetry()))
        index = {e.id: i for i, e in enumerate(entries)}
        self.library = SimpleNamespace(entries=entries, index_of=index.__getitem__)
        self.placing = SimpleNamespace(outer_points=lambda mesh: CORNERS)

    def check(self) -> None:
        self.checks += 1

    def clock(self) -> float:
        return self.now

    def put(self, name: str, mesh_id: str = "mug", x: float = 0.0, margin: float = GOOD, **others: float) -> Thing:
        margins = {mesh_id: margin, **others}
        thing = Thing(make_T(np.eye(3), np.array([x, 0, 1.5])), dict(sorted(margins.items(), key=lambda m: -m[1])))
        self.things[name] = thing
        return thing

    def detection(self, name: str, track: str = "") -> Detection:
        T = self.things[name].T_cam_obj
        uv = project(CORNERS @ T[:3, :3].T + T[:3, 3], CAMERA.K)
        return Detection(np.concatenate([uv.min(0), uv.max(0)]), class_id=name, id=track)

    def detect(
        self, frame: Frame, detections: Sequence[Detection], covariances: bool, loose: bool, refine: RefineConfig
    ) -> FrameResult:
        (detection,) = detections
        self.refined.append(refine.top_k)
        self.contours.append(refine.contour_weight)
        self.searched.append(detection.class_id)
        self.now += SEARCH_S
        thing = self.things[detection.class_id]
        if not thing.margins:
            return FrameResult((), StageTimings(), ((detection, "no pose explains its box"),))
        found = tuple(Hypothesis(m, "thing", 0.5, 0.8, thing.pose(m), margin) for m, margin in thing.margins.items())
        return FrameResult((ObjectEstimate(detection, found),), StageTimings())

    def likeness(self, hypotheses: Sequence[Hypothesis]) -> dict[str, float]:
        return {h.mesh_id: 1.0 if i == 0 else self.alike for i, h in enumerate(hypotheses)}

    def warm(self, frame: Frame, detection: Detection, predicted: Mapping[str, np.ndarray]) -> list[Look]:
        """Stands for `WarmStart.__call__`."""
        self.looked.append((detection.class_id, tuple(predicted)))
        self.now += LOOK_S
        if self.uncroppable:
            raise CropError("box lies outside the image")
        thing = self.things[detection.class_id]
        return [Look(m, thing.pose(m), 0.9, thing.margins.get(m, STRANGE)) for m in predicted]


@dataclass
class Film:
    """A tracker in a world, fed frame by frame."""

    world: World
    tracker: Tracker
    stamp_ns: int = 10**9

    def step(self, *detections: Detection, after_s: float = 0.1, T: np.ndarray | None = None) -> TrackedResult:
        """One frame `after_s` seconds after the last, with these detections."""
        self.stamp_ns += round(after_s * 1e9)
        frame = Frame(np.full((CAMERA.height, CAMERA.width, 3), 99, np.uint8), CAMERA, self.stamp_ns)
        return self.tracker.step(frame, detections, T)

    def settle(self, *names: str, frames: int = 6) -> TrackedResult:
        """Frames that show these things, until they are tracked."""
        assert frames > 0
        for _ in range(frames):
            result = self.step(*(self.world.detection(name) for name in names))
        return result


@pytest.fixture
def film(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Film]:
    """film(**track settings) begins a film in an empty world; objects are looked at in every frame unless `look_again_s` is set."""

    def begin(**settings: Any) -> Film:
        world = World(PasrConfig(confidence=ConfidenceConfig(slope=1.0, intercept=-3.0)))
        monkeypatch.setattr(looking, "WarmStart", lambda pipeline, config: pipeline.warm)
        pipeline: Any = world
        return Film(world, Tracker(pipeline, TrackConfig(**{"look_again_s": 0.0} | settings), world.clock))

    return begin
