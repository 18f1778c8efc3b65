"""Where things stand in a synthetic photo: the object, the camera that looks at it, what hides it, what is behind.

The object's base is z = 0 of the world and the middle of its bounds above the origin; +z is up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from pasr_perception.data.scene_layout import PlacedMesh, SceneMesh, footprint, gap, standing
from pasr_perception.data.scene_path import look_from
from pasr_perception.data.scene_render import Shape
from pasr_perception.data.synthetic.spec import OcclusionLevel, PhotoSpec
from pasr_perception.geometry.camera import project
from pasr_perception.geometry.se3 import invert_T, make_T
from pasr_perception.geometry.viewpoints import random_rotations
from pasr_perception.types import Camera

ROLL = math.radians(4)  # standard deviation of the camera's tilt about its axis
LYING_ELEVATION = (math.radians(5), math.radians(75))  # of the camera over things that lie anyhow
CUT = (0.1, 0.35)  # share of the outline's bounds that a border cuts away
MARGIN = 3.0  # px between the outline and the border where it is not cut
NEAREST = 0.05  # of the camera's distance: nothing may come nearer to it
SCAN_STEPS = 24  # places tried on an occluder's way into the view
BISECTIONS = 8
CLUTTER_ATTEMPTS = 6


class PhotoError(ValueError):
    """No arrangement was found that shows the object as asked."""


@dataclass(frozen=True)
class Prop:
    """A mesh, in metres, that may appear in photos, ready to be rendered."""

    item: SceneMesh
    shape: Shape
    upright: bool = True  # it stands; otherwise it may lie anyhow

    @property
    def radius(self) -> float:
        return self.item.diameter / 2

    @property
    def outline(self) -> np.ndarray:
        """Points [N, 3] with the same bounds in every view."""
        return self.shape.hull

    def resized(self, factor: float) -> Prop:
        """The same thing `factor` times as large."""
        shape = self.shape.resized(factor)
        return Prop(SceneMesh(self.item.id, shape.mesh, self.item.up), shape, self.upright)


@dataclass(frozen=True)
class Viewpoint:
    """A camera and where it is."""

    camera: Camera
    T_world_cam: np.ndarray  # [4, 4]

    @property
    def eye(self) -> np.ndarray:
        return self.T_world_cam[:3, 3]

    def bounds(self, points: np.ndarray, T_world_obj: np.ndarray) -> np.ndarray:
        """xyxy [4] pixels of points [N, 3] of an object, not cut at the image border; NaN where one is behind."""
        T = invert_T(self.T_world_cam) @ T_world_obj
        uv = project(points @ T[:3, :3].T + T[:3, 3], self.camera.K)
        return np.concatenate([uv.min(0), uv.max(0)])


def put_down(prop: Prop, rng: np.random.Generator) -> np.ndarray:
    """T_world_obj [4, 4] of an object that stands, or lies anyhow, on z = 0 over the origin."""
    if prop.upright:
        return standing(prop.item, float(rng.uniform(0, 2 * math.pi)))
    R = random_rotations(1, rng)[0]
    turned = prop.outline @ R.T
    low, high = turned.min(0), turned.max(0)
    return make_T(R, -np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]]))


def random_camera(spec: PhotoSpec, rng: np.random.Generator) -> Camera:
    """A pinhole camera with a principal point near the middle."""
    focal = spec.width / 2 / math.tan(math.radians(rng.uniform(*spec.field_of_view_deg)) / 2)
    middle = np.array([spec.width, spec.height]) * rng.uniform(0.48, 0.52, 2)
    return Camera(spec.width, spec.height, np.array([[focal, 0, middle[0]], [0, focal, middle[1]], [0, 0, 1.0]]))


def aim(prop: Prop, T_world_obj: np.ndarray, spec: PhotoSpec, rng: np.random.Generator) -> Viewpoint:
    """A camera that sees the object at a random size, place and elevation; now and then the border cuts it."""
    camera = random_camera(spec, rng)
    low, high = np.radians(spec.elevation_deg) if prop.upright else LYING_ELEVATION
    elevation, azimuth, roll = rng.uniform(low, high), rng.uniform(0, 2 * math.pi), rng.normal(0, ROLL)
    ce = math.cos(elevation)
    towards = np.array([ce * math.cos(azimuth), ce * math.sin(azimuth), math.sin(elevation)])
    wanted = rng.uniform(*spec.object_size) * spec.height
    image = np.array([spec.width, spec.height])
    middle = T_world_obj[:3, :3] @ prop.item.mesh.bounds.mean(0) + T_world_obj[:3, 3]
    distance, pixel = 4 * prop.radius, image / 2
    where, cut = rng.uniform(0, 1, 2), float(rng.uniform(*CUT)) if rng.random() < spec.truncated else 0.0
    view = Viewpoint(camera, np.eye(4))
    for _ in range(4):  # size and place in the image depend on each other a little
        level = look_from(middle + distance * towards, middle, roll)
        view = Viewpoint(camera, make_T(level[:3, :3] @ _turn_to(pixel, camera.K), level[:3, 3]))
        bounds = view.bounds(prop.outline, T_world_obj)
        if not np.isfinite(bounds).all():
            distance *= 2
            continue
        size, centre = bounds[2:] - bounds[:2], (bounds[:2] + bounds[2:]) / 2
        distance = max(distance * float(size.max()) / wanted, 1.2 * prop.radius)
        room = np.maximum(image - size - 2 * MARGIN, 0)
        pixel = pixel + (MARGIN + size / 2 + where * room) - centre
        if cut:
            pixel = pixel + _over_border(size, where, image, cut)
    return view


def _over_border(size: np.ndarray, where: np.ndarray, image: np.ndarray, share: float) -> np.ndarray:
    """How to move bounds of `size` placed at `where` in 0..1 of the free room so that the nearest border cuts `share`."""
    axis = int(np.abs(where - 0.5).argmax())
    room = max(float(image[axis] - size[axis]), 0.0)
    shift = np.zeros(2)
    if where[axis] < 0.5:
        shift[axis] = -where[axis] * room - share * size[axis]
    else:
        shift[axis] = (1 - where[axis]) * room + share * size[axis]
    return shift


def _turn_to(pixel: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Rotation [3, 3] that takes the ray through a pixel [2] to the optical axis, on the shortest way."""
    ray = np.linalg.solve(K, np.array([pixel[0], pixel[1], 1.0]))
    ray /= np.linalg.norm(ray)
    axis = np.cross(ray, [0.0, 0.0, 1.0])
    sine = np.linalg.norm(axis)
    if sine < 1e-9:
        return np.eye(3)
    return Rotation.from_rotvec(axis / sine * math.atan2(sine, ray[2])).as_matrix()


def target_points(prop: Prop, T_world_obj: np.ndarray, view: Viewpoint, count: int = 2500) -> np.ndarray:
    """World points [N, 3] of the object that the camera sees, about `count` evenly over its image."""
    low, high = np.split(view.bounds(prop.outline, T_world_obj), 2)
    low, high = np.maximum(low, 0), np.minimum(high, [view.camera.width, view.camera.height])
    step = math.sqrt(max(float(np.prod(high - low)), 1.0) / count)
    u, v = np.meshgrid(np.arange(low[0], high[0], step) + step / 2, np.arange(low[1], high[1], step) + step / 2)
    rays = np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3) @ np.linalg.inv(view.camera.K).T
    T_obj_cam = invert_T(T_world_obj) @ view.T_world_cam
    directions = rays @ T_obj_cam[:3, :3].T
    hits = prop.shape.caster.cast(T_obj_cam[:3, 3], directions)
    points = T_obj_cam[:3, 3] + directions[hits.ray] * hits.distance[:, None]
    return points @ T_world_obj[:3, :3].T + T_world_obj[:3, 3]


def hidden_share(points: np.ndarray, eye: np.ndarray, occluder: Prop, T_world_obj: np.ndarray) -> float:
    """Share of world points [N, 3] that the occluder keeps from the eye."""
    T = invert_T(T_world_obj)
    start = T[:3, :3] @ eye + T[:3, 3]
    hits = occluder.shape.caster.cast(start, points @ T[:3, :3].T + T[:3, 3] - start)
    return float((hits.distance < 1).sum()) / len(points)


@dataclass(frozen=True)
class Lane:
    """An occluder's way into the view: sideways, at a fixed distance in front of the object, on its own base."""

    occluder: Prop
    T_world_obj: np.ndarray  # [4, 4] at the point of the lane that is straight in front
    side: np.ndarray  # [3] unit, where it comes from
    length: float

    def at(self, progress: float) -> np.ndarray:
        """T_world_obj [4, 4] at `progress` 0 (out of the way) .. 1 (straight in front)."""
        T = self.T_world_obj.copy()
        T[:3, 3] += self.side * self.length * (1 - progress)
        return T


def lane(
    target: Prop, T_target: np.ndarray, occluder: Prop, view: Viewpoint, lift: float, rng: np.random.Generator
) -> Lane | None:
    """A way in for `occluder`, standing `lift` metres over the object's base; None where camera and object leave no room."""
    ground = view.eye * [1.0, 1.0, 0.0]
    away = float(np.linalg.norm(ground))
    forward = ground / max(away, 1e-9)
    T = standing(occluder.item, float(rng.uniform(0, 2 * math.pi)))
    outline, mine = footprint(target.item, T_target), footprint(occluder.item, T)
    distance = 0.3 * (target.radius + occluder.radius)
    while gap(outline, mine + forward[:2] * distance) <= 0:
        distance += 0.1 * occluder.radius
    distance *= float(rng.uniform(1.0, 1.3))
    T[:3, 3] += forward * distance + np.array([0, 0, lift])
    if np.linalg.norm(view.eye - T[:3, 3]) < 1.5 * occluder.radius + NEAREST * away:
        return None
    side = np.cross(forward, [0.0, 0.0, 1.0]) * float(rng.choice([-1, 1]))
    return Lane(occluder, T, side, target.radius + occluder.radius)


def slide_in(way: Lane, points: np.ndarray, eye: np.ndarray, level: OcclusionLevel, aimed: float) -> np.ndarray | None:
    """Where on its way an occluder hides about the share `aimed` of the object's points; None where it never does."""

    def hides(progress: float) -> float:
        return hidden_share(points, eye, way.occluder, way.at(progress))

    before = 0.0
    for progress in np.linspace(0, 1, SCAN_STEPS + 1)[1:]:
        if hides(progress) >= aimed:
            low, high = before, float(progress)
            for _ in range(BISECTIONS):
                middle = (low + high) / 2
                low, high = (low, middle) if hides(middle) >= aimed else (middle, high)
            return way.at(high) if level.holds(hides(high)) else None
        before = float(progress)
    return None


def place_clutter(
    props: Sequence[Prop], placed: Sequence[PlacedMesh], target: Prop, view: Viewpoint, rng: np.random.Generator
) -> list[tuple[Prop, PlacedMesh]]:
    """Put things around the object on the side away from the camera, where they fit; sizes near the object's."""
    outlines = [footprint(p.source, p.T_world_obj) for p in placed]
    back = math.atan2(-view.eye[1], -view.eye[0])
    found = []
    for number, prop in enumerate(props):
        wanted = target.radius * float(rng.uniform(0.5, 1.4))
        natural = 0.4 < prop.radius / target.radius < 1.6
        sized = prop if natural else prop.resized(wanted / prop.radius)
        T = standing(sized.item, float(rng.uniform(0, 2 * math.pi)))
        mine = footprint(sized.item, T)
        for _ in range(CLUTTER_ATTEMPTS):
            angle = back + rng.uniform(-1.9, 1.9)
            offset = np.array([math.cos(angle), math.sin(angle)]) * (target.radius + sized.radius) * rng.uniform(0.7, 2)
            if all(gap(mine + offset, other) > 0 for other in outlines):
                T[:2, 3] += offset
                outlines.append(mine + offset)
                found.append((sized, PlacedMesh(f"clutter{number}", sized.item, T)))
                break
    return found
