"""Renders a simulated scene: object colours, sun with soft shadows, sky light, and who is seen where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import trimesh
from scipy import sparse
from scipy.spatial import ConvexHull, QhullError

from pasr_perception.data.look import PLAIN, Look
from pasr_perception.data.scene_layout import PlacedMesh
from pasr_perception.data.scene_room import Room
from pasr_perception.geometry.se3 import invert_T
from pasr_perception.render.mesh import Hits, Raycaster, camera_rays
from pasr_perception.types import Camera

CREASE = np.cos(np.radians(40))  # faces that meet at less than this angle are shaded as one smooth surface
SUPERSAMPLE = 2
NOTHING = -1
OUTLINE_RAYS = 20_000  # per object, for counting the pixels of its whole outline
FLOOR_SHADOW_RAYS = 2  # per pixel; what remains of their noise is smoothed by FLOOR_SHADOW_BLUR
FLOOR_SHADOW_BLUR = 1.5  # px


@dataclass(frozen=True)
class Light:
    """A sun of some width, and light from the sky."""

    direction: np.ndarray  # [3] unit, towards the sun
    softness: float  # standard deviation of the direction of shadow rays, radians
    sun: np.ndarray  # [3] linear
    sky: np.ndarray  # [3] linear, from above; from below a third of it comes back

    def arriving(self, sunlit: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """Light [N, 3] float32 on surfaces with world normals [N, 3], given how much sun [N] they get."""
        sky = 0.65 + 0.35 * normals[:, 2]
        return (sunlit[:, None] * self.sun + sky[:, None] * self.sky).astype(np.float32)


@dataclass(frozen=True)
class SceneView:
    """One rendered picture, before any photo effect."""

    radiance: np.ndarray  # [H, W, 3] float32, linear light
    depth: np.ndarray  # [H, W] float32, metres along the optical axis, of the upper left quarter of the pixel
    instance: np.ndarray  # [H * 2, W * 2] int32, index of the object per quarter pixel, NOTHING where there is none


class Shape:
    """What rendering needs to know of one mesh, whatever scene it is in."""

    def __init__(self, mesh: trimesh.Trimesh, normals: np.ndarray | None = None) -> None:
        self.mesh = mesh
        self.caster = Raycaster(mesh)
        self.normals = corner_normals(mesh) if normals is None else normals  # [F, 3, 3]

    @cached_property
    def hull(self) -> np.ndarray:
        """Vertices [N, 3] that have the mesh's bounds in every view."""
        vertices = np.asarray(self.mesh.vertices)
        try:
            return vertices[ConvexHull(vertices).vertices]
        except QhullError:  # flat as a sheet
            return vertices

    def resized(self, factor: float) -> Shape:
        """The same shape `factor` times as large about its file's origin."""
        mesh = self.mesh.copy()
        mesh.apply_scale(factor)
        return Shape(mesh, self.normals)


def corner_normals(mesh: trimesh.Trimesh) -> np.ndarray:
    """Normals [F, 3, 3] of the triangles' corners: the mean over those faces around that turn away less than CREASE."""
    faces = len(mesh.faces)
    _, position = np.unique(np.round(mesh.vertices, 7), axis=0, return_inverse=True)
    vertex = position.reshape(-1)[mesh.faces].reshape(-1)  # [3F] corners -> merged vertices
    ones, corner = np.ones(3 * faces, bool), np.arange(3 * faces)
    shape = (3 * faces, int(vertex.max()) + 1)
    touches = sparse.csr_array((ones, (corner, vertex)), shape)
    around = sparse.csr_array((ones, (vertex, corner // 3)), (shape[1], faces))
    pairs = (touches @ around).tocoo()
    normal, area = np.asarray(mesh.face_normals), np.asarray(mesh.area_faces)
    alike = np.einsum("pd,pd->p", normal[pairs.row // 3], normal[pairs.col]) > CREASE
    weight = sparse.csr_array((area[pairs.col][alike], (pairs.row[alike], pairs.col[alike])), (3 * faces, faces))
    summed = weight @ normal
    length = np.linalg.norm(summed, axis=1, keepdims=True)
    fallback = np.repeat(normal, 3, axis=0)
    return np.where(length > 1e-12, summed / np.maximum(length, 1e-12), fallback).reshape(faces, 3, 3)


class SceneRenderer:
    """Objects at fixed places in a room; `render` looks at them from anywhere in front of them.

    `shapes`, and `looks` unless all are plain, belong to `objects`, one each.
    """

    def __init__(
        self,
        objects: Sequence[PlacedMesh],
        shapes: Sequence[Shape],
        room: Room,
        light: Light,
        looks: Sequence[Look] | None = None,
    ) -> None:
        self._objects, self._shapes, self._room, self._light = objects, shapes, room, light
        self._looks = [PLAIN] * len(objects) if looks is None else looks
        self._first_face = np.cumsum([0] + [len(shape.mesh.faces) for shape in shapes])
        vertices, faces, normals, count = [], [], [], 0
        for placed, shape in zip(objects, shapes, strict=True):
            T = placed.T_world_obj
            vertices.append(np.asarray(shape.mesh.vertices) @ T[:3, :3].T + T[:3, 3])
            faces.append(np.asarray(shape.mesh.faces) + count)
            normals.append(shape.normals @ T[:3, :3].T)
            count += len(vertices[-1])
        self._world = trimesh.Trimesh(np.concatenate(vertices), np.concatenate(faces), process=False)
        self._normals = np.concatenate(normals)
        self._caster = Raycaster(self._world)
        self._size = float(np.linalg.norm(self._world.extents))

    def instances(self, T_world_cam: np.ndarray, camera: Camera) -> np.ndarray:
        """Index of the object seen in every quarter pixel, [2H, 2W] int32, NOTHING where there is none."""
        window = self._window(T_world_cam, camera)
        rays = window.rays(camera) @ T_world_cam[:3, :3].T
        hits = self._caster.cast(T_world_cam[:3, 3], rays)
        instance = np.full((camera.height * SUPERSAMPLE, camera.width * SUPERSAMPLE), NOTHING, np.int32)
        window.of(instance)[np.unravel_index(hits.ray, window.shape)] = self._owner(hits)
        return instance

    def outline_pixels(self, index: int, T_world_cam: np.ndarray, camera: Camera) -> float:
        """How many pixels object `index` would cover were nothing in front of it and the image without borders."""
        shape = self._shapes[index]
        T_obj_cam = invert_T(self._objects[index].T_world_obj) @ T_world_cam
        corners = (trimesh.bounds.corners(shape.mesh.bounds) - T_obj_cam[:3, 3]) @ T_obj_cam[:3, :3]
        if corners[:, 2].min() <= 0:
            name, depth = self._objects[index].id, corners[:, 2].min()
            raise ValueError(f"object {name}: expected to be in front of the camera, got depth {depth:.3f} m")
        uv = corners @ camera.K.T
        (u0, v0), (u1, v1) = (uv[:, :2] / uv[:, 2:]).min(0), (uv[:, :2] / uv[:, 2:]).max(0)
        step = max(0.5, float(np.sqrt((u1 - u0) * (v1 - v0) / OUTLINE_RAYS)))
        u, v = np.meshgrid(np.arange(u0, u1, step) + step / 2, np.arange(v0, v1, step) + step / 2)
        turn = T_obj_cam[:3, :3] @ np.linalg.inv(camera.K)
        rays = np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3) @ turn.T
        return len(shape.caster.cast(T_obj_cam[:3, 3], rays).ray) * step**2

    def render(self, T_world_cam: np.ndarray, camera: Camera, rng: np.random.Generator) -> SceneView:
        """The scene from one camera pose; `rng` only jitters the shadow rays."""
        s, height, width = SUPERSAMPLE, camera.height, camera.width
        eye, window = T_world_cam[:3, 3], self._window(T_world_cam, camera)
        room, behind = self._render_room(T_world_cam, camera, rng)
        radiance = room.repeat(s, 0).repeat(s, 1)
        depth = behind.repeat(s, 0).repeat(s, 1)
        instance = np.full(depth.shape, NOTHING, np.int32)

        rays = window.rays(camera) @ T_world_cam[:3, :3].T
        hits = self._caster.cast(eye, rays)
        towards = rays[hits.ray]
        normal = np.einsum("mk,mkd->md", hits.barycentric, self._normals[hits.triangle])
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
        # CAD faces are often wound either way: shade the side that is seen
        normal *= np.where(np.einsum("md,md->m", normal, towards) > 0, -1.0, 1.0)[:, None]
        lit = self._sunlit(eye + towards * hits.distance[:, None], normal, rng)
        owner, at = self._owner(hits), np.unravel_index(hits.ray, window.shape)
        light = self._albedo(hits, owner) * self._light.arriving(lit, normal)
        window.of(radiance)[at] = light + self._highlights(owner, lit, normal, towards)
        window.of(depth)[at] = hits.distance
        window.of(instance)[at] = owner
        radiance = radiance.reshape(height, s, width, s, 3).mean((1, 3))
        return SceneView(radiance, depth[::s, ::s], instance)

    def _render_room(
        self, T_world_cam: np.ndarray, camera: Camera, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Linear light [H, W, 3] and depth [H, W] of the empty room, with the objects' shadows on its floor."""
        rays = camera_rays(camera.K, camera.width, camera.height, 1) @ T_world_cam[:3, :3].T
        hits = self._room.cast(T_world_cam[:3, 3], rays)
        low, high = self._world.bounds
        # a shadow lies between the objects and where the sun throws the top of the highest one, softness aside
        thrown = -self._light.direction[:2] / max(float(self._light.direction[2]), 0.2) * high[2]
        pad = 0.05 * self._size + 4 * self._light.softness * high[2]
        first = np.minimum(low[:2], low[:2] + thrown) - pad
        last = np.maximum(high[:2], high[:2] + thrown) + pad
        near = ((hits.point[:, :2] > first) & (hits.point[:, :2] < last)).all(1) & hits.is_floor
        lit = np.maximum(hits.normal @ self._light.direction, 0)
        rounds = [self._sunlit(hits.point[near], hits.normal[near], rng) for _ in range(FLOOR_SHADOW_RAYS)]
        lit[near] = np.mean(rounds, axis=0)
        smooth = cv2.GaussianBlur(lit.reshape(camera.height, camera.width), (0, 0), FLOOR_SHADOW_BLUR).reshape(-1)
        lit = np.where(hits.is_floor, smooth, lit)
        albedo = self._room.albedo(hits, 1 / float(camera.K[0, 0]), rays)
        light = albedo * self._light.arriving(lit, hits.normal)
        shape = (camera.height, camera.width)
        return light.reshape(*shape, 3), hits.distance.reshape(shape).astype(np.float32)

    def _window(self, T_world_cam: np.ndarray, camera: Camera) -> _Window:
        """The part of the image that the objects can be in."""
        points = (np.asarray(self._world.vertices) - T_world_cam[:3, 3]) @ T_world_cam[:3, :3]
        uv = points @ camera.K.T
        uv = uv[:, :2] / np.maximum(uv[:, 2:], 1e-6)
        limit = np.array([camera.width, camera.height])
        low = np.clip(np.floor(uv.min(0)), 0, limit - 1).astype(int)
        high = np.clip(np.ceil(uv.max(0)), low + 1, limit).astype(int)
        return _Window(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))

    def _owner(self, hits: Hits) -> np.ndarray:
        return (np.searchsorted(self._first_face, hits.triangle, side="right") - 1).astype(np.int32)

    def _albedo(self, hits: Hits, owner: np.ndarray) -> np.ndarray:
        colour = np.empty((len(owner), 3), np.float32)
        for index in np.unique(owner):
            chosen = owner == index
            triangle = hits.triangle[chosen] - self._first_face[index]
            colour[chosen] = self._looks[index].colour(self._shapes[index].mesh, triangle, hits.barycentric[chosen])
        return colour**2.2  # colours in files are display values; light adds up linearly

    def _highlights(self, owner: np.ndarray, lit: np.ndarray, normal: np.ndarray, towards: np.ndarray) -> np.ndarray:
        """The sun's reflection [N, 3] in glossy surfaces, after Blinn and Phong; `towards` [N, 3] is from the eye."""
        gloss = np.array([look.gloss for look in self._looks])[owner]
        shining = np.flatnonzero((gloss > 0) & (lit > 0))
        shine = np.zeros((len(owner), 3), np.float32)
        back = -towards[shining] / np.linalg.norm(towards[shining], axis=1, keepdims=True)
        halfway = back + self._light.direction
        halfway /= np.maximum(np.linalg.norm(halfway, axis=1, keepdims=True), 1e-9)
        sharpness = np.array([look.sharpness for look in self._looks])[owner[shining]]
        peak = np.maximum(np.einsum("nd,nd->n", halfway, normal[shining]), 0) ** sharpness
        shine[shining] = (gloss[shining] * peak)[:, None] * self._light.sun
        return shine

    def _sunlit(self, points: np.ndarray, normals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """How much sun [N] arrives at points: the cosine of its slope, 0 in shadow; one jittered ray each."""
        slope = np.maximum(normals @ self._light.direction, 0)
        tested = np.flatnonzero(slope > 0)
        towards = self._light.direction + rng.normal(0, self._light.softness, (len(tested), 3))
        shadowed = self._caster.cast(points[tested] + normals[tested] * (3e-4 * self._size), towards)
        slope[tested[shadowed.ray]] = 0
        return slope


@dataclass(frozen=True)
class _Window:
    """A rectangle of whole pixels, and its quarter pixels."""

    left: int
    top: int
    width: int
    height: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.height * SUPERSAMPLE, self.width * SUPERSAMPLE

    def rays(self, camera: Camera) -> np.ndarray:
        """Directions [h * w, 3] in the camera of the window's quarter pixels."""
        K = camera.K - np.array([[0, 0, self.left], [0, 0, self.top], [0, 0, 0]])
        return camera_rays(K, self.width, self.height, SUPERSAMPLE)

    def of(self, fine: np.ndarray) -> np.ndarray:
        """The window's view of an image of quarter pixels."""
        s = SUPERSAMPLE
        return fine[self.top * s : (self.top + self.height) * s, self.left * s : (self.left + self.width) * s]
