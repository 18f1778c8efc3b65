"""One synthetic photo: an arrangement with exactly as much of the object hidden as asked, rendered and photographed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pasr_perception.data.look import random_look
from pasr_perception.data.photo import photograph, random_effects
from pasr_perception.data.scene_layout import PlacedMesh
from pasr_perception.data.scene_render import SUPERSAMPLE, Light, SceneRenderer
from pasr_perception.data.scene_room import Room
from pasr_perception.data.synthetic.spec import OcclusionLevel, PhotoSpec
from pasr_perception.data.synthetic.stage import (
    PhotoError,
    Prop,
    Viewpoint,
    aim,
    lane,
    place_clutter,
    put_down,
    slide_in,
    target_points,
)
from pasr_perception.geometry.se3 import invert_T
from pasr_perception.types import Camera

ATTEMPTS = 40  # arrangements tried for one photo
GROUNDED_ATTEMPTS = 15  # of them with the occluder on the object's floor; later ones may stand higher
OCCLUDER_SIZE = (0.5, 1.2)  # diameters of the object
EASY_HIDDEN = 0.7  # aim at this share of the level's width: scan and final image differ by a few rays
TARGET = 0  # index of the object in a scene
FAMILIAR_LOOKS = {"own": 0.7, "recoloured": 0.2, "textured": 0.1}  # of what stands around
DIMMEST = 1e-6


@dataclass(frozen=True)
class SyntheticPhoto:
    """A photo of one object with everything that is known of it."""

    image: np.ndarray  # [H, W, 3] uint8 RGB
    camera: Camera
    T_cam_obj: np.ndarray  # [4, 4] metres
    visible: np.ndarray  # [H, W] bool, pixels that show the object
    whole: np.ndarray  # [H, W] bool, pixels that would without anything in front
    depth: np.ndarray  # [H, W] float32 metres along the optical axis at (u + 0.25, v + 0.25), of whatever is seen
    hidden: float  # share of the object's area in the image that others hide
    truncated: float  # share of the object's area beyond the image border
    look: str  # kind of look the object has
    occluders: tuple[str, ...]  # mesh ids of what stands in front


@dataclass(frozen=True)
class _Arrangement:
    """Things in their places; the object is the first."""

    props: tuple[Prop, ...]
    placed: tuple[PlacedMesh, ...]
    view: Viewpoint
    occluders: tuple[str, ...]


def compose_photo(
    target: Prop, companions: Sequence[Prop], level: OcclusionLevel, spec: PhotoSpec, rng: np.random.Generator
) -> SyntheticPhoto:
    """A photo of `target` of which `companions` hide as much as the level says. Raises PhotoError where none succeeds."""
    if level.high > 0 and not companions:
        raise ValueError(f"companions: expected at least one to hide something for level {level.name}, got none")
    look = random_look(spec.looks, rng)
    for attempt in range(ATTEMPTS):
        arrangement = _arrange(target, companions, level, spec, (attempt, rng))
        if arrangement is None:
            continue
        looks = [look, *(random_look(FAMILIAR_LOOKS, rng) for _ in arrangement.placed[1:])]
        room, light = _surroundings(arrangement, rng)
        shapes = [p.shape for p in arrangement.props]
        renderer = SceneRenderer(arrangement.placed, shapes, room, light, looks)
        alone = SceneRenderer(arrangement.placed[:1], shapes[:1], room, light)
        view = arrangement.view
        whole = alone.instances(view.T_world_cam, view.camera) == TARGET
        seen = renderer.instances(view.T_world_cam, view.camera) == TARGET
        if not whole.any() or not seen.any():
            continue
        hidden = 1 - float(seen.sum()) / float(whole.sum())
        if not level.holds(hidden):
            continue
        outline = alone.outline_pixels(TARGET, view.T_world_cam, view.camera)
        rendered = renderer.render(view.T_world_cam, view.camera, rng)
        s = SUPERSAMPLE
        return SyntheticPhoto(
            image=photograph(rendered.radiance, random_effects(rng), rng),
            camera=view.camera,
            T_cam_obj=invert_T(view.T_world_cam) @ arrangement.placed[TARGET].T_world_obj,
            visible=seen[::s, ::s],
            whole=whole[::s, ::s],
            depth=rendered.depth,
            hidden=hidden,
            truncated=max(0.0, 1 - float(whole.sum()) / s**2 / max(outline, DIMMEST)) if _cut(whole) else 0.0,
            look=look.kind,
            occluders=arrangement.occluders,
        )
    raise PhotoError(
        f"{target.item.id}: no arrangement with {level.name} of it hidden was found in {ATTEMPTS} attempts"
    )


def _cut(whole: np.ndarray) -> bool:
    """Whether the mask [2H, 2W] touches the image border."""
    return bool(whole[0].any() or whole[-1].any() or whole[:, 0].any() or whole[:, -1].any())


def _arrange(
    target: Prop,
    companions: Sequence[Prop],
    level: OcclusionLevel,
    spec: PhotoSpec,
    attempt: tuple[int, np.random.Generator],
) -> _Arrangement | None:
    number, rng = attempt
    T_target = put_down(target, rng)
    view = aim(target, T_target, spec, rng)
    if not np.isfinite(view.bounds(target.outline, T_target)).all():
        return None
    props, placed = [target], [PlacedMesh("target", target.item, T_target)]
    hiding: list[str] = []
    if level.high > 0:
        found = _occluder(target, T_target, companions, level, (view, number), rng)
        if found is None:
            return None
        props.append(found[0])
        placed.append(PlacedMesh("occluder", found[0].item, found[1]))
        hiding.append(found[0].item.id)
    count = int(rng.integers(0, spec.clutter + 1)) if companions else 0
    chosen = [companions[int(i)] for i in rng.integers(0, len(companions), count)] if count else []
    for prop, where in place_clutter(chosen, placed, target, view, rng):
        props.append(prop)
        placed.append(where)
    return _Arrangement(tuple(props), tuple(placed), view, tuple(hiding))


def _occluder(
    target: Prop,
    T_target: np.ndarray,
    companions: Sequence[Prop],
    level: OcclusionLevel,
    seen: tuple[Viewpoint, int],
    rng: np.random.Generator,
) -> tuple[Prop, np.ndarray] | None:
    view, attempt = seen
    prop = companions[int(rng.integers(len(companions)))]
    sized = prop.resized(2 * target.radius * float(rng.uniform(*OCCLUDER_SIZE)) / (2 * prop.radius))
    height = float((target.outline @ T_target[2, :3]).max() + T_target[2, 3])
    lift = float(rng.uniform(0, 0.8)) * height if attempt >= GROUNDED_ATTEMPTS else 0.0
    way = lane(target, T_target, sized, view, lift, rng)
    points = target_points(target, T_target, view)
    if way is None or not len(points):
        return None
    aimed = level.low + float(rng.uniform(1 - EASY_HIDDEN, EASY_HIDDEN)) * (level.high - level.low)
    T = slide_in(way, points, view.eye, level, aimed)
    return None if T is None else (sized, T)


def _surroundings(arrangement: _Arrangement, rng: np.random.Generator) -> tuple[Room, Light]:
    """A room around camera and things, its floor under the things unless the camera is lower, and a light."""
    eye, radius = arrangement.view.eye, arrangement.props[TARGET].radius
    reach = 1.6 * float(np.linalg.norm(eye)) + 4 * radius
    low, high = -reach * rng.uniform(1.0, 1.6, 3), reach * rng.uniform(1.0, 1.6, 3)
    low[2] = min(0.0, eye[2] - 0.3 * float(np.linalg.norm(eye)))  # things seen from below stand on nothing that shows
    room = Room(low, high, radius * float(np.exp(rng.uniform(math.log(0.5), math.log(3)))), rng)
    azimuth, elevation = rng.uniform(0, 2 * math.pi), math.radians(rng.uniform(25, 75))
    flat, warmth = math.cos(elevation), rng.normal(0, 0.1)
    light = Light(
        np.array([flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)]),
        softness=float(rng.uniform(0.03, 0.2)),
        sun=float(rng.uniform(0.3, 2.0)) * np.array([1 + warmth, 1.0, 1 - warmth]),
        sky=np.array([1 - warmth / 2, 1.0, 1 + warmth / 2]) * rng.uniform(0.25, 0.7),
    )
    return room, light
