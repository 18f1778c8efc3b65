"""What a mesh library holds: header, one entry per mesh, the tensors of a mesh; and library.json, strictly checked."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from pasr_perception.geometry.placement import ViewSpec
from pasr_perception.geometry.symmetry import NO_SYMMETRY, Symmetry
from pasr_perception.geometry.viewpoints import POSE_SETS, UP_AXES
from pasr_perception.library.files import LibraryError
from pasr_perception.render.splat import SplatConfig

FORMAT, VERSION = "pasr-library", 1
MAX_ENTRIES = 1_000_000
ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
ID_RULE = "1 to 100 letters, digits, '.', '_' or '-', not beginning with '.'"
SHA256 = re.compile(r"[0-9a-f]{64}")
APPEARANCES = ("known", "unknown")

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class LibraryHeader:
    """What all meshes of a library share; queries must be made the same way."""

    encoder_name: str
    encoder_fingerprint: str
    encoder_dim: int  # D
    image_size: int  # pixels per side of a crop
    grid: int  # g: feature maps are g x g
    fill: float  # share of the crop that an object's longer side covers
    distance: float  # of the virtual camera, in object radii
    splat: SplatConfig

    @property
    def view(self) -> ViewSpec:
        return ViewSpec(self.fill, self.distance)


@dataclass(frozen=True)
class MeshEntry:
    """One mesh. Metres, in the mesh file's own axes ("obj" frame). The writer fills in the file fields."""

    id: str
    category: str
    source_path: str  # where it came from, for people
    unit: float  # metres per unit of the source file
    licence: str
    creator: str
    appearance: str  # known | unknown
    pose_set: str  # upright | so3
    up: str  # "+y" ...: which of its axes stands upright; only `upright` uses it
    center: Vector  # middle of the bounding box
    scale: float  # half the bounding box's diagonal: p_normalised = (p - center) / scale
    extent: Vector  # size of the bounding box
    faces: int
    build_seconds: float
    offset_mean: float = 0.0  # of this mesh's best score over crops that show something else
    offset_std: float = 0.0
    symmetry: Symmetry = field(default=NO_SYMMETRY, compare=False)  # in the obj frame
    mesh: str = ""  # meshes/<id>.glb, in metres
    mesh_bytes: int = 0
    mesh_sha256: str = ""
    data: str = ""  # data/<id>.safetensors
    data_bytes: int = 0
    data_sha256: str = ""

    def __post_init__(self) -> None:
        _need(bool(ID.fullmatch(self.id)), f"{self.id!r}.id", ID_RULE, self.id)
        _need(self.appearance in APPEARANCES, f"{self.id}.appearance", " or ".join(APPEARANCES), self.appearance)
        _need(self.pose_set in POSE_SETS, f"{self.id}.pose_set", " or ".join(POSE_SETS), self.pose_set)
        _need(self.up in UP_AXES, f"{self.id}.up", f"one of {', '.join(UP_AXES)}", self.up)
        for name in ("unit", "scale"):
            value = getattr(self, name)
            _need(math.isfinite(value) and value > 0, f"{self.id}.{name}", "a finite number above 0", value)
        numbers = (*self.center, *self.extent, self.offset_mean, self.offset_std, self.build_seconds)
        _need(all(map(math.isfinite, numbers)), f"{self.id}", "finite numbers", numbers)


@dataclass(frozen=True)
class MeshData:
    """The tensors of one mesh that queries are compared with. Points and rotations are in its normalised frame."""

    points: torch.Tensor  # [N, 3] float32
    features: torch.Tensor  # [N, D] float16, unit vectors
    weight: torch.Tensor  # [N] float32, how often a point was seen; 0 = never
    view_rotation: torch.Tensor  # [V, 3, 3] float32, R_crop_obj of the rendered views
    view_pooled: torch.Tensor  # [V, D] float16, each view's mean foreground feature

    def check(self, header: LibraryHeader, where: str) -> None:
        """Raise LibraryError, beginning with `where`, unless shapes, types and values fit."""
        n, v = len(self.points), len(self.view_rotation)
        d = header.encoder_dim
        expected = {
            "points": ((n, 3), torch.float32),
            "features": ((n, d), torch.float16),
            "weight": ((n,), torch.float32),
            "view_rotation": ((v, 3, 3), torch.float32),
            "view_pooled": ((v, d), torch.float16),
        }
        for name, (shape, dtype) in expected.items():
            tensor: torch.Tensor = getattr(self, name)
            if tuple(tensor.shape) != shape or tensor.dtype != dtype:
                raise LibraryError(
                    f"{where}: {name}: expected {list(shape)} {dtype}, got {list(tensor.shape)} {tensor.dtype}"
                )
            if not torch.isfinite(tensor).all():
                raise LibraryError(f"{where}: {name}: expected finite numbers, got NaN or infinity")
        if n == 0:
            raise LibraryError(f"{where}: points: expected at least one point")

    def to(self, device: torch.device | str) -> MeshData:
        return MeshData(**{name: tensor.to(device) for name, tensor in vars(self).items()})


def library_to_json(header: LibraryHeader, entries: tuple[MeshEntry, ...]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "encoder": {
            "name": header.encoder_name,
            "fingerprint": header.encoder_fingerprint,
            "dim": header.encoder_dim,
            "image_size": header.image_size,
            "grid": header.grid,
        },
        "view": {"fill": header.fill, "distance": header.distance},
        "render": dataclasses.asdict(header.splat),
        "entries": [
            {f.name: getattr(e, f.name) for f in fields(MeshEntry)} | {"symmetry": e.symmetry.to_dict()}
            for e in entries
        ],
    }


def library_from_json(raw: Any, where: str) -> tuple[LibraryHeader, tuple[MeshEntry, ...]]:
    """Check and convert the content of library.json; raises LibraryError beginning with `where` (the file's path)."""
    if not isinstance(raw, Mapping) or raw.get("format") != FORMAT:
        raise LibraryError(f'{where}: is not a mesh library (expected "format": "{FORMAT}")')
    if raw.get("version") != VERSION:
        raise LibraryError(
            f"{where}: has format version {raw.get('version')!r}; this program reads version {VERSION}. "
            "Build the library again with `pasr library build`, or use the program version that wrote it."
        )
    try:
        header = _header(raw)
        listed = raw["entries"]
        _need(isinstance(listed, list) and len(listed) <= MAX_ENTRIES, "entries", "a list of meshes", type(listed))
        entries = tuple(_entry(e, f"entries[{i}]") for i, e in enumerate(listed))
        seen: set[str] = set()
        for e in entries:  # not all file systems tell Cup from cup
            _need(e.id.lower() not in seen, "entries", "ids that differ in more than case", e.id)
            seen.add(e.id.lower())
    except (KeyError, ValueError, TypeError) as error:
        said = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise LibraryError(
            f"{where}: {said}. The file is damaged or was edited; build the library again with `pasr library build`."
        ) from error
    return header, entries


def _header(raw: Mapping[str, Any]) -> LibraryHeader:
    encoder, view, render = raw["encoder"], raw["view"], raw["render"]
    band = render["depth_band"]
    header = LibraryHeader(
        encoder_name=_typed(encoder["name"], str, "encoder.name"),
        encoder_fingerprint=_typed(encoder["fingerprint"], str, "encoder.fingerprint"),
        encoder_dim=_typed(encoder["dim"], int, "encoder.dim"),
        image_size=_typed(encoder["image_size"], int, "encoder.image_size"),
        grid=_typed(encoder["grid"], int, "encoder.grid"),
        fill=_typed(view["fill"], float, "view.fill"),
        distance=_typed(view["distance"], float, "view.distance"),
        splat=SplatConfig(
            size=_typed(render["size"], int, "render.size"),
            radius=_typed(render["radius"], float, "render.radius"),
            points_per_pixel=_typed(render["points_per_pixel"], int, "render.points_per_pixel"),
            depth_band=None if band is None else _typed(band, float, "render.depth_band"),
        ),
    )
    for name in ("encoder_dim", "image_size", "grid"):
        _need(0 < getattr(header, name) <= 65536, name, "1..65536", getattr(header, name))
    assert header.view  # its own checks
    return header


def _entry(raw: Any, where: str) -> MeshEntry:
    _need(isinstance(raw, Mapping), where, "a mapping", raw)
    known = {f.name: f.type for f in fields(MeshEntry)}
    _need(set(raw) <= set(known), where, f"only the keys {', '.join(known)}", sorted(set(raw) - set(known)))
    values: dict[str, Any] = {}
    for name, kind in known.items():
        value, at = raw[name], f"{where}.{name}"
        if kind == "Vector":
            _need(isinstance(value, list) and len(value) == 3, at, "three numbers", value)
            values[name] = tuple(_typed(x, float, at) for x in value)
        elif kind == "Symmetry":
            values[name] = Symmetry.from_dict(value)
        else:
            values[name] = _typed(value, {"str": str, "int": int, "float": float}[str(kind)], at)
    entry = MeshEntry(**values)
    # Paths are not free: whatever the file says, nothing outside these two folders is ever opened.
    _need(entry.mesh == mesh_file(entry.id), f"{where}.mesh", mesh_file(entry.id), entry.mesh)
    _need(entry.data == data_file(entry.id), f"{where}.data", data_file(entry.id), entry.data)
    for name in ("mesh_sha256", "data_sha256"):
        _need(bool(SHA256.fullmatch(values[name])), f"{where}.{name}", "64 hexadecimal digits", values[name])
    return entry


def mesh_file(identity: str) -> str:
    return f"meshes/{identity}.glb"


def data_file(identity: str) -> str:
    return f"data/{identity}.safetensors"


def _typed(value: Any, kind: type, name: str) -> Any:
    if kind is float and type(value) is int:
        value = float(value)
    _need(type(value) is kind, name, kind.__name__, value)
    return value


def _need(rule: bool, name: str, expected: str, got: object) -> None:
    if not rule:
        raise ValueError(f"{name}: expected {expected}, got {got!r}")
