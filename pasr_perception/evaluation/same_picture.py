"""Wrong answers that nobody could tell from the right one: another mesh that gives the same picture in some pose. Own.

A wall plate seen from behind is the plate of its sibling, a shut door the leaf of an open one. The true mesh is rendered as the
photo shows it. The answered one is moved from those poses that a cube's rotations make of it until the pictures differ least. They
are the same if outlines, the slopes of surfaces and, where the photo shows the mesh's own colours, those differ over next to no
pixels. Nothing is hidden for that: what tells two meshes apart counts even where the photo's occluder covers it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from pasr_perception.crop import look_through
from pasr_perception.data.synthetic.photo_set import PhotoRecord
from pasr_perception.library.sample import normalisation, normalised
from pasr_perception.library.store import MeshLibrary
from pasr_perception.render.mesh import Raycaster, camera_rays, surface_colour, surface_normals

SIDE = 64  # pixels of the pictures that are compared
NEAREST = 1.2  # radii from the camera to the object's middle, at least
SLOPE = math.cos(math.radians(20))  # surfaces whose normals differ by more differ
SHADE = 0.1  # colours that differ by more in red, green or blue, of 1, differ
SAME_OUTLINE, SAME_INSIDE = 0.01, 0.005  # shares of the pixels of both that may differ: in outline, in slope or colour
STARTS = 3  # of the cube's rotations, those that are moved
LOOKS = 80  # while one of them is moved
HOPELESS = 0.15  # share of pixels that still differ in outline then, from which on the best one is not moved further
LAST_LOOKS = 250  # while it is
TURN, MOVE = 0.12, 0.06  # first steps: radians; radii, and the logarithm of the distance


@dataclass(frozen=True)
class Seen:
    """A mesh in a picture of P pixels."""

    mask: np.ndarray  # [P] bool
    normal: np.ndarray  # [P, 3] towards the camera
    colour: np.ndarray  # [P, 3] albedo, 0..1


@dataclass(frozen=True)
class Difference:
    """Between two pictures, in shares of the pixels that either mesh covers."""

    outline: float
    slope: float
    colour: float
    turned: float  # mean of 1 - cos of the angle between normals, which changes smoothly where the others jump

    @classmethod
    def of(cls, a: Seen, b: Seen) -> Difference:
        either, both = int((a.mask | b.mask).sum()), a.mask & b.mask
        if either == 0:
            return cls(1.0, 1.0, 1.0, 1.0)
        cosine = np.einsum("md,md->m", a.normal[both], b.normal[both])
        shade = np.abs(a.colour[both] - b.colour[both]).max(1, initial=0)
        return cls(
            float(1 - both.sum() / either),
            float((cosine < SLOPE).sum() / either),
            float((shade > SHADE).sum() / either),
            float((1 - cosine).sum() / either),
        )

    def same(self, coloured: bool) -> bool:
        """Whether nobody could tell the two apart, with or without their colours."""
        inside = max(self.slope, self.colour) if coloured else self.slope
        return self.outline <= SAME_OUTLINE and inside <= SAME_INSIDE

    @property
    def cost(self) -> float:
        """What is made small."""
        return self.outline + 2 * self.turned + self.slope / 2


class Viewer:
    """Shows one mesh to a camera that looks at its middle from a number of radii."""

    def __init__(self, library: MeshLibrary, mesh_id: str) -> None:
        mesh = library.load_mesh(mesh_id)
        self.frame, self._mesh = normalisation(mesh), normalised(mesh)
        self._caster = Raycaster(self._mesh)

    def see(self, rotation: np.ndarray, middle: np.ndarray, rays: np.ndarray) -> Seen:
        """At `rotation` [3, 3] with its middle [3], in radii, in the camera's frame; rays [P, 3] of the pixels."""
        hits = self._caster.cast(-middle @ rotation, rays @ rotation)
        mask = np.zeros(len(rays), bool)
        normal, colour = np.zeros((len(rays), 3)), np.zeros((len(rays), 3), np.float32)
        mask[hits.ray] = True
        found = surface_normals(self._mesh, hits) @ rotation.T
        away = np.einsum("md,md->m", found, rays[hits.ray]) > 0
        normal[hits.ray] = np.where(away[:, None], -found, found)
        colour[hits.ray] = surface_colour(self._mesh, hits.triangle, hits.barycentric)
        return Seen(mask, normal, colour)


class SamePicture:
    """Asks of a library's meshes whether they give the same picture; a pair is looked at once per photo."""

    def __init__(self, library: MeshLibrary) -> None:
        self._library = library
        self._viewers: dict[str, Viewer] = {}
        self._said: dict[tuple[str, str], bool] = {}

    def __call__(self, photo: PhotoRecord, answered: str) -> bool:
        """Whether `answered`, in some pose, gives the picture that the photo's own mesh gives."""
        if answered == photo.mesh_id:
            return True
        key = photo.name, answered
        if key not in self._said:
            self._said[key] = self.difference(photo, answered).same(coloured=photo.look == "own")
        return self._said[key]

    def difference(self, photo: PhotoRecord, answered: str) -> Difference:
        """Between the picture of the photo's mesh and the most similar one of `answered` that was found."""
        true, other = self._viewer(photo.mesh_id), self._viewer(answered)
        middle = photo.pose[:3, :3] @ true.frame.center + photo.pose[:3, 3]
        distance = max(float(np.linalg.norm(middle)) / true.frame.scale, NEAREST)
        ahead = look_through(middle).T @ photo.pose[:3, :3]
        focal = SIDE / 2 * math.sqrt(distance**2 - 1)  # the sphere about the mesh fills the picture
        rays = camera_rays(np.array([[focal, 0, SIDE / 2], [0, focal, SIDE / 2], [0, 0, 1]]), SIDE, SIDE, 1)
        wanted = true.see(ahead, np.array([0, 0, distance]), rays)

        def at(start: np.ndarray, moved: np.ndarray) -> Difference:
            rotation = Rotation.from_rotvec(moved[:3]).as_matrix() @ start
            away = distance * math.exp(moved[5])
            return Difference.of(other.see(rotation, np.array([moved[3], moved[4], away]), rays), wanted)

        def moved(start: np.ndarray, first: np.ndarray, step: float, looks: int) -> np.ndarray:
            simplex = first + step * np.vstack([np.zeros(6), np.diag([TURN] * 3 + [MOVE] * 3)])
            options = {"initial_simplex": simplex, "maxfev": looks}
            found: np.ndarray = minimize(lambda x: at(start, x).cost, first, method="Nelder-Mead", options=options).x
            return found

        starts = [ahead @ turn for turn in Rotation.create_group("O").as_matrix()]
        starts.sort(key=lambda start: at(start, np.zeros(6)).cost)
        ends = [(start, moved(start, np.zeros(6), 1.0, LOOKS)) for start in starts[:STARTS]]
        start, end = min(ends, key=lambda one: at(*one).cost)
        if at(start, end).outline < HOPELESS:
            end = moved(start, end, 0.3, LAST_LOOKS)
        return at(start, end)

    def _viewer(self, mesh_id: str) -> Viewer:
        if mesh_id not in self._viewers:
            self._viewers[mesh_id] = Viewer(self._library, mesh_id)
        return self._viewers[mesh_id]
