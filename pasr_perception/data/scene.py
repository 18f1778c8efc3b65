"""Simulated camera bags: library meshes on a textured floor, seen by a camera on a smooth path, with ground truth.

Everything follows from the seed: which meshes, where they stand, the light, the room, the path, the camera's habits.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pasr_perception.data.detector import DetectorSpec, detect
from pasr_perception.data.occluders import cover, object_box, plan_boards
from pasr_perception.data.photo import photograph, random_effects
from pasr_perception.data.records import BagFrame, Truth
from pasr_perception.data.scene_layout import PlacedMesh, SceneMesh, arrange, choose_group
from pasr_perception.data.scene_path import OrbitPath
from pasr_perception.data.scene_render import SUPERSAMPLE, Light, SceneRenderer, Shape
from pasr_perception.data.scene_room import Room
from pasr_perception.geometry.se3 import invert_T
from pasr_perception.types import Camera, Frame

log = logging.getLogger(__name__)

START_NS = 1_700_000_000 * 10**9  # stamp of the first frame
ATTEMPTS = 8  # layouts tried, each more spread out, until enough objects are seen all along the path
PROBES = 6  # camera poses along the path at which a layout is judged
PROBE_SCALE = 4  # the image is this much smaller for that


@dataclass(frozen=True)
class SceneSpec:
    """What is simulated."""

    frames: int = 60
    scenes: int = 1  # the frames are shared out among so many scenes, one after the other
    objects: int = 9  # per scene
    min_detected: int = 6  # in every frame, where the meshes allow it
    rate_hz: float = 10.0
    width: int = 640
    height: int = 480
    detector: DetectorSpec = field(default_factory=DetectorSpec)
    occlusions: int = 0  # boards that pass in front of single objects, each hiding one for 1 to 3 s
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("frames", "scenes", "objects"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.occlusions < 0:
            raise ValueError(f"occlusions: expected 0 or more, got {self.occlusions}")
        if not self.rate_hz > 0:
            raise ValueError(f"rate_hz: expected more than 0, got {self.rate_hz}")
        if min(self.width, self.height) < 64:
            raise ValueError(f"image size: expected at least 64x64, got {self.width}x{self.height}")


@dataclass(frozen=True)
class Scene:
    """One arrangement of objects with its camera path."""

    objects: tuple[PlacedMesh, ...]
    renderer: SceneRenderer
    path: OrbitPath


def scene_camera(width: int, height: int) -> Camera:
    """A camera of about 55 degrees, with square-ish pixels and a principal point near the middle, as real ones have."""
    K = np.array([[0.96 * width, 0, 0.507 * width], [0, 0.957 * width, 0.491 * height], [0, 0, 1.0]])
    return Camera(width, height, K)


def simulate(meshes: Sequence[SceneMesh], spec: SceneSpec) -> Iterator[BagFrame]:
    """The frames of a bag, rendered as they are asked for. ValueError where there are no meshes."""
    if not meshes:
        raise ValueError("meshes: expected at least one, got none")
    camera = scene_camera(spec.width, spec.height)
    used: set[int] = set()
    done = 0
    for number in range(spec.scenes):
        rng = np.random.default_rng([spec.seed, number])
        chosen = choose_group([m.diameter for m in meshes], spec.objects, used, rng)
        used.update(chosen)
        count = spec.frames * (number + 1) // spec.scenes - done
        scene = build_scene([meshes[i] for i in chosen], number, spec, camera, rng)
        yield from _film(scene, range(done, done + count), spec, camera, rng)
        done += count


def build_scene(
    items: Sequence[SceneMesh], number: int, spec: SceneSpec, camera: Camera, rng: np.random.Generator
) -> Scene:
    """Arrange the meshes so that `spec.min_detected` of them can be detected all along the path, if possible."""
    shapes = [Shape(item.mesh) for item in items]
    best: tuple[int, Scene] | None = None
    for attempt in range(ATTEMPTS):
        placed = arrange(items, 1.0 + 0.1 * attempt, rng)
        named = tuple(replace(p, id=f"{number}_{p.id}") for p in placed)
        scene = _furnish(named, shapes, camera, rng)
        seen = min(_count_detected(scene, t, spec.detector, camera) for t in np.linspace(0, 1, PROBES))
        if best is None or seen > best[0]:
            best = (seen, scene)
        if seen >= spec.min_detected:
            break
    assert best is not None
    if best[0] < min(spec.min_detected, spec.objects):
        log.warning("scene %d: in some frames only %d objects are seen well enough to be detected", number, best[0])
    return best[1]


def _furnish(
    placed: tuple[PlacedMesh, ...], shapes: Sequence[Shape], camera: Camera, rng: np.random.Generator
) -> Scene:
    """Room, light and camera path to fit the objects."""
    corners = np.concatenate([_world_bounds(p) for p in placed])
    radius, height = float(np.linalg.norm(corners[:, :2], axis=1).max()), float(corners[:, 2].max())
    half_view = math.atan(0.5 * camera.height / float(camera.K[1, 1]))
    distance = max(0.7 * math.hypot(radius, 0.5 * height) / math.tan(half_view), 1.6 * radius)
    reach, tall = 1.5 * distance + radius, distance + 1.5 * height
    low = -reach * rng.uniform(1.0, 1.4, 3)
    high = reach * rng.uniform(1.0, 1.4, 3)
    low[2], high[2] = 0.0, tall
    room = Room(low, high, radius * float(rng.uniform(0.5, 1.2)), rng)
    azimuth, elevation = rng.uniform(0, 2 * math.pi), math.radians(rng.uniform(32, 68))
    flat = math.cos(elevation)
    direction = np.array([flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)])
    warmth = rng.normal(0, 0.06)
    strength = rng.uniform(0.8, 1.8)
    light = Light(
        direction,
        softness=float(rng.uniform(0.03, 0.12)),
        sun=strength * np.array([1 + warmth, 1.0, 1 - warmth]),
        sky=np.array([1 - warmth / 2, 1.0, 1 + warmth / 2]) * rng.uniform(0.25, 0.55),
    )
    return Scene(placed, SceneRenderer(placed, shapes, room, light), OrbitPath(radius, height, distance, rng))


def _world_bounds(placed: PlacedMesh) -> np.ndarray:
    vertices = np.asarray(placed.source.mesh.vertices) @ placed.T_world_obj[:3, :3].T + placed.T_world_obj[:3, 3]
    low, high = vertices.min(0), vertices.max(0)
    return np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])


def _count_detected(scene: Scene, time: float, detector: DetectorSpec, camera: Camera) -> int:
    K = camera.K / PROBE_SCALE
    K[2, 2] = 1.0
    small = Camera(camera.width // PROBE_SCALE, camera.height // PROBE_SCALE, K)
    T_world_cam = scene.path(time)
    truths = scene_truths(scene, scene.renderer.instances(T_world_cam, small), T_world_cam, small)
    loose = replace(detector, min_side=detector.min_side / PROBE_SCALE)
    return len(detect(truths, loose, small, np.random.default_rng(0)))


def scene_truths(scene: Scene, instance: np.ndarray, T_world_cam: np.ndarray, camera: Camera) -> tuple[Truth, ...]:
    """Pose, visible box and visible fraction of every object that shows at all in the instance map of `camera`."""
    truths = []
    for index, placed in enumerate(scene.objects):
        rows, columns = np.nonzero(instance == index)
        if not len(rows):
            continue
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / SUPERSAMPLE
        whole = scene.renderer.outline_pixels(index, T_world_cam, camera)
        visible = min(1.0, len(rows) / SUPERSAMPLE**2 / max(whole, 1e-9))
        T_cam_obj = invert_T(T_world_cam) @ placed.T_world_obj
        center, size = placed.source.mesh.bounds.mean(0), np.array(placed.source.mesh.extents)
        truths.append(Truth(placed.id, placed.source.id, T_cam_obj, box, visible, center, size))
    return tuple(truths)


def _film(
    scene: Scene, numbers: range, spec: SceneSpec, camera: Camera, rng: np.random.Generator
) -> Iterator[BagFrame]:
    effects = random_effects(rng)
    seconds = len(numbers) / spec.rate_hz
    boards = plan_boards(spec.occlusions, len(scene.objects), seconds, rng) if spec.occlusions else ()
    bounds = [_world_bounds(placed) for placed in scene.objects]
    for number in numbers:
        time = (number - numbers.start) / max(len(numbers) - 1, 1)
        T_world_cam = scene.path(time)
        view = scene.renderer.render(T_world_cam, camera, rng)
        if boards:
            T_cam_world = invert_T(T_world_cam)
            boxes = [object_box(b @ T_cam_world[:3, :3].T + T_cam_world[:3, 3], camera) for b in bounds]
            view = cover(view, boards, boxes, (number - numbers.start) / spec.rate_hz, camera)
        truths = scene_truths(scene, view.instance, T_world_cam, camera)
        image = photograph(view.radiance, effects, rng)
        stamp = START_NS + round(number * 1e9 / spec.rate_hz)
        frame = Frame(image, camera, stamp, "camera_optical_frame")
        yield BagFrame(frame, detect(truths, spec.detector, camera, rng), truths, T_world_cam)
