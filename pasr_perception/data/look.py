"""How objects look in synthetic photos: the colours a mesh has, recoloured ones, a random texture, or bare; matt or glossy.

The real thing seldom has the colours of its CAD file (InexactCAD 3.1.1), so photos show meshes in other ones too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import trimesh

from pasr_perception.library.views import RandomTexture
from pasr_perception.render.mesh import surface_colour, surface_points

OWN, RECOLOURED, TEXTURED, BARE = KINDS = ("own", "recoloured", "textured", "bare")
GREY_AXIS = np.ones(3) / np.sqrt(3)
GLOSSY_SHARE = 0.5  # of surfaces
TILES = 4  # the texture's patterns per normalised unit are those of `RandomTexture`, made finer by up to this


@dataclass(frozen=True)
class Tint:
    """Turns colours into others of the same pattern: hue turned, contrast and brightness changed."""

    turn: np.ndarray = field(default_factory=lambda: np.eye(3))  # [3, 3] about the grey axis, saturation included
    gain: float = 1.0
    contrast: float = 1.0

    def __call__(self, colour: np.ndarray) -> np.ndarray:
        """Colours [M, 3] in 0..1 for colours [M, 3] in 0..1."""
        turned = colour @ self.turn.T
        return np.clip((turned - 0.5) * self.contrast + 0.5, 0, 1) * self.gain


@dataclass(frozen=True)
class Look:
    """What the surface of one object shows. Shared by nothing: every object of every photo has its own."""

    kind: str = OWN
    tint: Tint = field(default_factory=Tint)
    texture: RandomTexture | None = None  # as a function of the point in the mesh's normalised frame
    fineness: float = 1.0
    gloss: float = 0.0  # share of the sun that a mirror-like layer throws back
    sharpness: float = 20.0  # exponent of the highlight; large is polished

    def colour(self, mesh: trimesh.Trimesh, triangle: np.ndarray, barycentric: np.ndarray) -> np.ndarray:
        """Display colours [M, 3] float32 in 0..1 at surface points given by triangle [M] and barycentric [M, 3]."""
        if self.texture is None:
            return self.tint(surface_colour(mesh, triangle, barycentric)).astype(np.float32)
        points = surface_points(mesh, triangle, barycentric)
        radius = float(np.linalg.norm(mesh.extents)) / 2
        return self.texture((points - mesh.bounds.mean(0)) / radius * self.fineness)


PLAIN = Look()


def random_tint(rng: np.random.Generator) -> Tint:
    """Another hue, paler or stronger, darker or brighter."""
    angle, saturation = rng.uniform(0.25 * np.pi, 1.75 * np.pi), rng.uniform(0.5, 1.4)
    x, y, z = GREY_AXIS
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    along = np.outer(GREY_AXIS, GREY_AXIS)
    turn = along + saturation * (np.cos(angle) * (np.eye(3) - along) + np.sin(angle) * cross)
    return Tint(turn, float(rng.uniform(0.6, 1.0)), float(rng.uniform(0.7, 1.3)))


def random_look(shares: Mapping[str, float], rng: np.random.Generator) -> Look:
    """A look drawn from kinds with these shares, with a random finish. Raises ValueError for shares that are none."""
    unknown = sorted(set(shares) - set(KINDS))
    total = sum(shares.values())
    if unknown or not total > 0 or min(shares.values()) < 0:
        raise ValueError(f"look shares: expected 0 or more of {', '.join(KINDS)}, some above 0, got {dict(shares)}")
    kind = str(rng.choice(list(shares), p=np.array(list(shares.values())) / total))
    gloss = float(rng.uniform(0.05, 0.6)) if rng.random() < GLOSSY_SHARE else 0.0
    finish = Look(kind, gloss=gloss, sharpness=float(np.exp(rng.uniform(np.log(5), np.log(120)))))
    if kind == TEXTURED:
        return replace(finish, texture=RandomTexture(rng), fineness=float(rng.uniform(1, TILES)))
    if kind == BARE:
        grey = Tint(np.zeros((3, 3)), 2 * float(rng.uniform(0.25, 0.5)), 0.0)  # without contrast all is 0.5
        return replace(finish, tint=grey)
    return replace(finish, tint=random_tint(rng) if kind == RECOLOURED else Tint())
