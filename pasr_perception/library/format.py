"""What a mesh library holds: header, one entry per mesh, the tensors of a mesh, artefacts. `schema` writes and reads it."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from pasr_perception.geometry.placement import ViewSpec
from pasr_perception.geometry.symmetry import NO_SYMMETRY, Symmetry
from pasr_perception.geometry.viewpoints import POSE_SETS, UP_AXES
from pasr_perception.library.files import LibraryError
from pasr_perception.render.splat import SplatConfig

ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
ARTEFACT_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
ID_RULE = "1 to 100 letters, digits, '.', '_' or '-', not beginning with '.'"
APPEARANCES = ("known", "unknown")
FEATURES = ("lifted", "learned", "both", "auto")
CENTRED = ("views", "mesh")

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class FeatureSource:
    """What made a library's point features; meshes made otherwise do not belong into it."""

    kind: str = "lifted"  # one of FEATURES
    point_encoder: str = ""  # fingerprint of the one that learned them
    share: float = 0.0  # of learned features; in `auto` of meshes whose colours are unknown
    centred: str = "views"  # what features are centred over: each of a mesh's views | the mesh, as older libraries' are

    def __post_init__(self) -> None:
        need(self.kind in FEATURES, "features.kind", f"one of {', '.join(FEATURES)}", self.kind)
        need(self.centred in CENTRED, "features.centred", f"one of {', '.join(CENTRED)}", self.centred)
        need(0 <= self.share <= 1, "features.share", "0..1", self.share)

    def __str__(self) -> str:
        shares = {"both": f", {self.share:g} of it", "auto": f", {self.share:g} of it where colours are unknown"}
        learned = f"point encoder {self.point_encoder}{shares.get(self.kind, '')}"
        said = [learned] if self.kind != "lifted" else []
        said += ["centred over the mesh, by an older version"] if self.centred == "mesh" else []
        return f"{self.kind} ({'; '.join(said)})" if said else self.kind


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
    features: FeatureSource = field(default_factory=FeatureSource)

    @property
    def view(self) -> ViewSpec:
        return ViewSpec(self.fill, self.distance)


@dataclass(frozen=True)
class MeshEntry:
    """One mesh. Metres, in the mesh file's own axes ("obj" frame). The writer fills in the file fields."""

    id: str
    category: str
    source_path: str  # where it came from, absolute: it is made anew from there
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
        need(bool(ID.fullmatch(self.id)), f"{self.id!r}.id", ID_RULE, self.id)
        need(self.appearance in APPEARANCES, f"{self.id}.appearance", " or ".join(APPEARANCES), self.appearance)
        need(self.pose_set in POSE_SETS, f"{self.id}.pose_set", " or ".join(POSE_SETS), self.pose_set)
        need(self.up in UP_AXES, f"{self.id}.up", f"one of {', '.join(UP_AXES)}", self.up)
        for name in ("unit", "scale"):
            value = getattr(self, name)
            need(math.isfinite(value) and value > 0, f"{self.id}.{name}", "a finite number above 0", value)
        numbers = (*self.center, *self.extent, self.offset_mean, self.offset_std, self.build_seconds)
        need(all(map(math.isfinite, numbers)), f"{self.id}", "finite numbers", numbers)


@dataclass(frozen=True)
class MeshData:
    """The tensors of one mesh that queries are compared with. Points and rotations are in its normalised frame."""

    points: torch.Tensor  # [N, 3] float32
    features: torch.Tensor  # [N, D] float16, unit vectors
    weight: torch.Tensor  # [N] float32, how often a point was seen; 0 = never
    view_rotation: torch.Tensor  # [V, 3, 3] float32, R_crop_obj of the rendered views
    view_pooled: torch.Tensor  # [V, D] float16, each view's mean foreground feature
    colours: torch.Tensor | None = None  # [N, 3] uint8 sRGB albedo; None where unknown, or not kept by an older version

    def check_shapes(self, header: LibraryHeader, where: str) -> None:
        """Raise LibraryError, beginning with `where`, unless shapes and types fit. Reads none of the values."""
        n, v = len(self.points), len(self.view_rotation)
        d = header.encoder_dim
        expected = {
            "points": ((n, 3), torch.float32),
            "features": ((n, d), torch.float16),
            "weight": ((n,), torch.float32),
            "view_rotation": ((v, 3, 3), torch.float32),
            "view_pooled": ((v, d), torch.float16),
            "colours": ((n, 3), torch.uint8),
        }
        for name, tensor in self.tensors().items():
            shape, dtype = expected[name]
            if tuple(tensor.shape) != shape or tensor.dtype != dtype:
                raise LibraryError(
                    f"{where}: {name}: expected {list(shape)} {dtype}, got {list(tensor.shape)} {tensor.dtype}"
                )
        if n == 0:
            raise LibraryError(f"{where}: points: expected at least one point")

    def check(self, header: LibraryHeader, where: str) -> None:
        """`check_shapes`, and that every value is finite."""
        self.check_shapes(header, where)
        for name, tensor in self.tensors().items():
            if not torch.isfinite(tensor).all():
                raise LibraryError(f"{where}: {name}: expected finite numbers, got NaN or infinity")

    def to(self, device: torch.device | str) -> MeshData:
        return MeshData(**{name: tensor.to(device) for name, tensor in self.tensors().items()})

    def tensors(self) -> dict[str, torch.Tensor]:
        """Those that are there, by name."""
        return {name: tensor for name, tensor in vars(self).items() if tensor is not None}


@dataclass(frozen=True)
class Artefact:
    """A file at the library's root that was made from all of its meshes together, such as an index."""

    bytes: int
    sha256: str
    meshes: str  # `Listing.digest` of the meshes it was made from


@dataclass(frozen=True)
class Listing:
    """What library.json says."""

    header: LibraryHeader
    entries: tuple[MeshEntry, ...]
    artefacts: Mapping[str, Artefact] = field(default_factory=dict)  # by name

    @property
    def digest(self) -> str:
        """Of the meshes' ids and tensors, in their order: what an artefact depends on."""
        digest = hashlib.sha256()
        for e in self.entries:
            digest.update(f"{e.id} {e.data_sha256}\n".encode())
        return digest.hexdigest()

    def fresh(self) -> Listing:
        """Without the artefacts that were made from other meshes than these."""
        digest = self.digest if self.artefacts else ""
        return dataclasses.replace(self, artefacts={k: a for k, a in self.artefacts.items() if a.meshes == digest})


def mesh_file(identity: str) -> str:
    return f"meshes/{identity}.glb"


def data_file(identity: str) -> str:
    return f"data/{identity}.safetensors"


def artefact_file(name: str) -> str:
    return f"{name}.safetensors"


def need(rule: bool, name: str, expected: str, got: object) -> None:
    if not rule:
        raise ValueError(f"{name}: expected {expected}, got {got!r}")
