"""Mesh files in, one clean coloured mesh in metres out (trimesh does the parsing).

What comes out has either vertex colours or one texture: scenes are flattened with their transforms, and several
materials are packed into one picture (`atlas.py`; trimesh's own packing breaks tiled textures). Of a material only its
colour is kept.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image
from trimesh.visual.color import linear_to_srgb, to_float
from trimesh.visual.material import PBRMaterial, SimpleMaterial

from pasr_perception.library.atlas import Patch, colour_patch, pack

log = logging.getLogger(__name__)

MESH_SUFFIXES = (".obj", ".ply", ".stl", ".off", ".glb", ".gltf")
MAX_FILE_BYTES = 512 * 2**20
MAX_FACES = 2_000_000
MAX_TEXTURE = 2048  # pixels per side of a single texture
MIN_DIAGONAL, MAX_DIAGONAL = 1e-3, 100.0  # metres; outside of this the unit is probably wrong
INVISIBLE = 0.02  # opacity below which a material is not there at all
GREY = np.array([102, 102, 102], np.uint8)  # what a mesh without any colour shows
NEAR_GREY = 12  # of 255: spread of channels or of colours below which nothing is said about the real appearance
DARK = 90  # of 255: a uniform grey darker than this was chosen by someone (a black screen), brighter is a default


class MeshError(ValueError):
    """A mesh file that cannot be used; the message names the file and the reason."""


@dataclass(frozen=True)
class _Part:
    """One material's share of the mesh. Either `colours` or `image` + `uv`."""

    vertices: np.ndarray  # [V, 3] float64
    normals: np.ndarray  # [V, 3] float64
    faces: np.ndarray  # [F, 3] int64
    colours: np.ndarray  # [V, 3] uint8; unused where there is an image
    image: np.ndarray | None  # [h, w, 3] uint8
    uv: np.ndarray  # [V, 2] float64; unused where there is no image


def load_mesh(path: str | Path, unit: float = 1.0) -> trimesh.Trimesh:
    """Read `path` as one mesh in its own axes, scaled by `unit` (metres per file unit).

    Texture coordinates may leave [0, 1], where the texture repeats. Raises MeshError, naming the file and the reason.
    """
    path = Path(path)
    if not (math.isfinite(unit) and unit > 0):
        raise ValueError(f"load_mesh: unit: expected metres per file unit, more than 0, got {unit!r}")
    _check_file(path)
    try:
        scene = trimesh.load_scene(path, process=False)
        loaded = [g for g in scene.dump() if isinstance(g, trimesh.Trimesh)]
        parts = [p for g in loaded if (p := _part(g)) is not None]
    except Exception as e:  # parsers of foreign formats raise anything at all
        raise MeshError(f"{path}: cannot be read as {path.suffix} ({type(e).__name__}: {e})") from e
    parts = _checked(path, parts)
    mesh = _merge(parts)
    mesh.apply_scale(unit)
    diagonal = float(np.linalg.norm(mesh.extents))
    if not MIN_DIAGONAL <= diagonal <= MAX_DIAGONAL:
        log.warning("%s: is %.3g m across; is its unit right?", path, diagonal)
    return mesh


def has_colour(mesh: trimesh.Trimesh) -> bool:
    """Does the mesh say what the real object looks like? False for bare CAD: no colour, or one uniform bright grey."""
    visual = mesh.visual
    if isinstance(visual, trimesh.visual.TextureVisuals):
        image = getattr(visual.material, "image", None) or getattr(visual.material, "baseColorTexture", None)
        colours = _rgb(visual.material.main_color)[None] if image is None else _pixels(image).reshape(-1, 3)
    elif visual.kind is None:
        return False
    else:
        colours = np.asarray(visual.face_colors if visual.kind == "face" else visual.vertex_colors)[:, :3]
    colours = colours.astype(int)
    if np.ptp(colours, axis=0).max() > NEAR_GREY:
        return True
    mean = colours.mean(axis=0)
    return bool(np.ptp(mean) > NEAR_GREY or mean.max() < DARK)


def export_glb(mesh: trimesh.Trimesh, path: str | Path) -> None:
    """Write the mesh as GLB; `load_mesh` of it gives the same vertices, faces and colours."""
    Path(path).write_bytes(trimesh.Scene(mesh).export(file_type="glb"))


def _check_file(path: Path) -> None:
    if path.suffix.lower() not in MESH_SUFFIXES:
        raise MeshError(f"{path}: is not a mesh format this reads ({', '.join(MESH_SUFFIXES)})")
    if not path.is_file():
        raise MeshError(f"{path}: no such file")
    size = path.stat().st_size
    if size == 0:
        raise MeshError(f"{path}: the file is empty")
    if size > MAX_FILE_BYTES:
        raise MeshError(f"{path}: {size / 2**20:.0f} MiB is more than the {MAX_FILE_BYTES / 2**20:.0f} MiB allowed")


def _checked(path: Path, parts: list[_Part]) -> list[_Part]:
    """Drop faces without area; raise MeshError if the mesh is not finite, has nothing left, or is too large."""
    faces = sum(len(p.faces) for p in parts)
    if faces == 0:
        raise MeshError(f"{path}: holds no triangles (a point cloud, or an empty scene)")
    if faces > MAX_FACES:
        raise MeshError(f"{path}: {faces} triangles are more than the {MAX_FACES} allowed; simplify the mesh")
    used = np.concatenate([p.vertices[p.faces.reshape(-1)] for p in parts])  # [3F, 3]
    if not np.isfinite(used).all():
        raise MeshError(f"{path}: has vertices that are not finite (NaN or infinite)")
    size = float(np.linalg.norm(np.ptp(used, axis=0)))
    if size > 0 and math.isfinite(size):
        parts = [p for part in parts if len((p := _without_slivers(part, size)).faces)]
    if size <= 0 or not math.isfinite(size) or not parts:
        raise MeshError(f"{path}: has no surface (every triangle's area is zero)")
    return parts


def _without_slivers(part: _Part, size: float) -> _Part:
    """Only the faces with an area, measured against the mesh's size, and the vertices they use."""
    corners = part.vertices[part.faces] / size
    area2 = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    faces = part.faces[area2 > 1e-14]
    used, inverse = np.unique(faces, return_inverse=True)
    return _subset(part, used, inverse.reshape(-1, 3))


def _subset(part: _Part, vertex: np.ndarray, faces: np.ndarray) -> _Part:
    """The part with vertices picked by index and new faces into them."""
    return _Part(part.vertices[vertex], part.normals[vertex], faces, part.colours[vertex], part.image, part.uv[vertex])


def _part(mesh: trimesh.Trimesh) -> _Part | None:
    """Geometry and colour of one loaded mesh; None if it is empty or wholly transparent."""
    count = len(mesh.vertices)
    if count == 0 or len(mesh.faces) == 0:
        return None
    colours, image, uv = np.tile(GREY, (count, 1)), None, np.full((count, 2), 0.5)
    visual = mesh.visual
    normals = np.nan_to_num(np.asarray(mesh.vertex_normals, dtype=np.float64))
    if isinstance(visual, trimesh.visual.TextureVisuals):
        if _opacity(visual.material) < INVISIBLE:
            return None
        colours[:], image = _material(visual.material)
        vertex_colours = visual.vertex_attributes.get("color")
        if image is not None and visual.uv is not None and len(visual.uv) == count:
            uv = np.asarray(visual.uv, dtype=np.float64)[:, :2]
        elif image is not None:
            colours[:], image = image.reshape(-1, 3).mean(axis=0), None
        elif vertex_colours is not None and len(vertex_colours) == count:
            colours = np.round(to_float(vertex_colours)[:, :3] * 255).astype(np.uint8)
    elif visual.kind == "vertex":
        colours = np.asarray(visual.vertex_colors)[:, :3]
    part = _Part(np.asarray(mesh.vertices, np.float64), normals, np.asarray(mesh.faces, np.int64), colours, image, uv)
    if visual.kind == "face":
        corner = part.faces.reshape(-1)  # a vertex cannot carry two faces' colours, so each face gets its own three
        part = _subset(part, corner, np.arange(len(corner)).reshape(-1, 3))
        part = _Part(part.vertices, part.normals, part.faces, np.repeat(visual.face_colors[:, :3], 3, 0), None, part.uv)
    return part


def _material(material: object) -> tuple[np.ndarray, np.ndarray | None]:
    """Plain colour [3] uint8 and texture [h, w, 3] uint8 or None, both as they look (sRGB)."""
    if isinstance(material, PBRMaterial):
        factor = np.ones(3) if material.baseColorFactor is None else to_float(material.baseColorFactor)[:3]
        if material.baseColorTexture is None:
            return np.round(linear_to_srgb(factor) * 255).astype(np.uint8), None
        image = _pixels(material.baseColorTexture)
        return GREY, image if np.all(factor == 1) else np.round(image * linear_to_srgb(factor)).astype(np.uint8)
    assert isinstance(material, SimpleMaterial), f"trimesh gave a {type(material).__name__}"
    if material.image is not None:
        return GREY, _pixels(material.image)
    return _rgb(material.diffuse), None


def _rgb(colour: np.ndarray) -> np.ndarray:
    return np.asarray(colour, np.uint8).reshape(-1)[:3]


def _pixels(image: Image.Image) -> np.ndarray:
    """The picture as [h, w, 3] uint8, shrunk where it is larger than any view of it will be."""
    if max(image.size) > MAX_TEXTURE:
        image = image.copy()
        image.thumbnail((MAX_TEXTURE, MAX_TEXTURE))
    return np.asarray(image.convert("RGB"))


def _opacity(material: object) -> float:
    """The `d` (or 1 - `Tr`) of an OBJ material; 1 where nothing is said."""
    said = getattr(material, "kwargs", None) or {}
    try:
        if "d" in said:
            return float(said["d"][-1])
        return 1.0 - float(said["tr"][-1]) if "tr" in said else 1.0
    except (TypeError, ValueError):
        return 1.0


def _merge(parts: list[_Part]) -> trimesh.Trimesh:
    """All parts as one mesh: vertex colours if there is no texture, that texture if all share it, else an atlas."""
    textured = [p for p in parts if p.image is not None]
    if not textured:
        mesh, colours = _stack(parts), np.concatenate([p.colours for p in parts])
        opaque = None if (colours == GREY).all() else np.pad(colours, ((0, 0), (0, 1)), constant_values=255)
        mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=opaque)
        return mesh
    first = textured[0].image
    assert first is not None
    if len(textured) == len(parts) and all(np.array_equal(p.image, first) for p in parts):  # type: ignore[arg-type]
        mesh, image, uv = _stack(parts), first, np.concatenate([p.uv for p in parts])
    else:
        pieces = [q for p in parts for q in _pieces(p)]
        atlas = pack([_patch(p) for p in pieces])
        mesh = _stack([_subset(p, u.source, u.faces) for p, u in zip(pieces, atlas.patches, strict=True)])
        image, uv = atlas.image, np.concatenate([u.uv for u in atlas.patches])
    material = SimpleMaterial(image=Image.fromarray(image), diffuse=[255, 255, 255, 255])
    mesh.visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    return mesh


def _pieces(part: _Part) -> list[_Part]:
    """A part with vertex colours beside textured ones is split into one piece per colour of its faces (their mean)."""
    if part.image is not None or not np.ptp(part.colours, axis=0).any():
        return [part]
    face = part.colours[part.faces].mean(axis=1) // 16 * 16 + 8  # [F, 3]; 16 levels keep the number of pieces small
    shades, which = np.unique(face.astype(np.uint8), axis=0, return_inverse=True)
    pieces = []
    for i, shade in enumerate(shades):
        vertex, faces = np.unique(part.faces[which.reshape(-1) == i], return_inverse=True)
        piece = _subset(part, vertex, faces.reshape(-1, 3))
        piece.colours[:] = shade
        pieces.append(piece)
    return pieces


def _patch(part: _Part) -> Patch:
    if part.image is None:
        return colour_patch(part.colours[0], len(part.vertices), part.faces)
    return Patch(part.image, part.uv, part.faces)


def _stack(parts: list[_Part]) -> trimesh.Trimesh:
    """Geometry of the parts one after another, vertices in order."""
    start = np.cumsum([0] + [len(p.vertices) for p in parts])
    return trimesh.Trimesh(
        vertices=np.concatenate([p.vertices for p in parts]),
        faces=np.concatenate([p.faces + s for p, s in zip(parts, start, strict=False)]),
        vertex_normals=np.concatenate([p.normals for p in parts]),
        process=False,
    )
