"""Which meshes to put into a library: files, folders, or a manifest (YAML or JSON) that says more about each mesh.

    meshes:
      - {id: mug, category: cup, path: mug/mug.obj, unit: mm, licence: CC0-1.0, creator: Ann, appearance: auto,
         pose_set: so3, up: +z, symmetry: {continuous_axes: [[0, 0, 1]]}}

Only `path` must be there. Paths are relative to the manifest and stay in its folder.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from pasr_perception.geometry.symmetry import NO_SYMMETRY, Symmetry
from pasr_perception.geometry.viewpoints import POSE_SETS, UP_AXES
from pasr_perception.library.format import APPEARANCES, ID, ID_RULE
from pasr_perception.library.meshes import MESH_SUFFIXES

MANIFEST_NAMES = ("manifest.yaml", "manifest.yml", "manifest.json")
UNITS = {"m": 1.0, "dm": 0.1, "cm": 0.01, "mm": 0.001, "in": 0.0254, "ft": 0.3048}
MAX_MANIFEST_BYTES = 64 * 2**20
TEXTS = ("id", "category", "licence", "creator", "appearance", "pose_set", "up")


class ManifestError(ValueError):
    """The list of meshes cannot be used; the message names the place, what was expected and what was found."""


@dataclass(frozen=True)
class SourceDefaults:
    """What holds for every mesh that its manifest says nothing else of."""

    unit: float = 1.0  # metres per unit of the file
    category: str = "object"
    licence: str = "unknown"
    creator: str = "unknown"
    appearance: str = "auto"  # known | unknown | auto: known if the file has colours
    pose_set: str = "so3"  # upright | so3
    up: str = "+y"  # the mesh's own axis that points up; used by the upright pose set only


@dataclass(frozen=True)
class MeshSource:
    """One mesh file and everything to know about it."""

    id: str
    category: str
    path: Path
    unit: float
    licence: str
    creator: str
    appearance: str
    pose_set: str
    up: str
    symmetry: Symmetry | None = field(default=None, compare=False)  # None: to be found from the surface

    def __post_init__(self) -> None:
        _need(bool(ID.fullmatch(self.id)), "id", ID_RULE, self.id)
        _need(math.isfinite(self.unit) and self.unit > 0, "unit", "metres per unit, above 0", self.unit)
        _need(self.appearance in (*APPEARANCES, "auto"), "appearance", "known, unknown or auto", self.appearance)
        _need(self.pose_set in POSE_SETS, "pose_set", " or ".join(POSE_SETS), self.pose_set)
        _need(self.up in UP_AXES, "up", f"one of {', '.join(UP_AXES)}", self.up)
        for name in ("category", "licence", "creator"):
            value = getattr(self, name)
            _need(bool(value.strip()) and len(value) <= 500, name, "a text of 1 to 500 characters", value)


DEFAULTS = SourceDefaults()


def sources_from_paths(paths: Iterable[str | Path], defaults: SourceDefaults = DEFAULTS) -> list[MeshSource]:
    """Mesh files, folders (searched downwards, or by their manifest.yaml) and manifests as one list with distinct ids.

    Raises ManifestError naming the path and, in a manifest, the entry.
    """
    sources: list[MeshSource] = []
    for given in map(Path, paths):
        if given.is_dir():
            manifest = next((given / n for n in MANIFEST_NAMES if (given / n).is_file()), None)
            sources += read_manifest(manifest, defaults) if manifest else _folder(given, defaults)
        elif not given.is_file():
            raise ManifestError(f"{given}: no such file or folder")
        elif given.suffix.lower() in (".yaml", ".yml", ".json"):
            sources += read_manifest(given, defaults)
        elif given.suffix.lower() in MESH_SUFFIXES:
            sources.append(_bare(given, clean_id(given.stem), defaults.category, defaults))
        else:
            kinds = ", ".join(MESH_SUFFIXES)
            raise ManifestError(f"{given}: expected a mesh ({kinds}), a folder or a manifest (.yaml)")
    if not sources:
        raise ManifestError("no meshes were given")
    _distinct(sources)
    return sources


def read_manifest(path: str | Path, defaults: SourceDefaults = DEFAULTS) -> list[MeshSource]:
    """The meshes of one manifest; raises ManifestError naming the file and the entry."""
    path = Path(path)
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise ManifestError(f"{path}: {path.stat().st_size} bytes is more than a manifest can be")
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(f"{path}: is not readable YAML or JSON ({error})") from error
    if isinstance(raw, Mapping):
        if set(raw) != {"meshes"}:
            raise ManifestError(f"{path}: expected the one key `meshes`, got {sorted(map(str, raw))}")
        raw = raw["meshes"]
    if not isinstance(raw, list) or not raw:
        raise ManifestError(f"{path}: expected a list of meshes under `meshes`, got {type(raw).__name__}")
    sources = []
    for i, item in enumerate(raw):
        try:
            sources.append(_source(item, path.parent, defaults))
        except ValueError as error:
            name = item.get("id") or item.get("path") if isinstance(item, Mapping) else None
            raise ManifestError(f"{path}: meshes[{i}]{f' ({name})' if name else ''}: {error}") from error
    _distinct(sources)
    return sources


def clean_id(text: str) -> str:
    """A file name's stem as an id: characters that ids cannot have become `-`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip(".-")[:100] or "mesh"


def _source(item: Any, folder: Path, defaults: SourceDefaults) -> MeshSource:
    _need(isinstance(item, Mapping), "entry", "a mapping such as {id: mug, path: mug.obj}", item)
    known = [f.name for f in fields(MeshSource)]
    unknown = sorted(str(k) for k in item if k not in known)
    _need(not unknown, "entry", f"only the keys {', '.join(known)}", unknown)
    _need(isinstance(item.get("path"), str), "path", "the mesh file, relative to the manifest", item.get("path"))
    path = _inside(folder, item["path"])
    values = dataclasses.asdict(defaults) | {"id": clean_id(path.stem), "path": path}
    for name in TEXTS:
        if name in item:
            _need(isinstance(item[name], str), name, "a text (in quotes if it looks like a number)", item[name])
            values[name] = item[name]
    if "unit" in item:
        values["unit"] = parse_unit(item["unit"])
    return MeshSource(**values, symmetry=_symmetry(item.get("symmetry", "auto")))


def parse_unit(value: Any) -> float:
    """Metres per unit from "mm", "cm", ... or a number (or a text of one); raises ValueError."""
    if isinstance(value, str) and value.strip().lower() in UNITS:
        return UNITS[value.strip().lower()]
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        number = math.nan
    _need(math.isfinite(number) and number > 0, "unit", f"one of {', '.join(UNITS)} or metres per unit", value)
    return number


def _symmetry(value: Any) -> Symmetry | None:
    if value in ("auto", "none"):
        return None if value == "auto" else NO_SYMMETRY
    _need(isinstance(value, Mapping), "symmetry", "auto, none, or {continuous_axes, folds, center}", value)
    symmetry = Symmetry.from_dict(value)
    _ = symmetry.rotations  # raises if the folds do not fit together
    return symmetry


def _inside(folder: Path, relative: str) -> Path:
    """The file `relative` of `folder`; ValueError if absolute, leaving the folder (also by a link), or not there."""
    pure = PurePosixPath(relative)
    stays = not pure.is_absolute() and ".." not in pure.parts and bool(pure.parts)
    _need(stays, "path", "a path that stays in the manifest's folder", relative)
    path = folder / pure
    _need(path.resolve().is_relative_to(folder.resolve()), "path", "no link out of the manifest's folder", relative)
    _need(path.is_file(), "path", "a file that is there", str(path))
    return path


def _folder(folder: Path, defaults: SourceDefaults) -> list[MeshSource]:
    """Every mesh file below the folder, sorted; links to folders are not followed."""
    files = sorted(
        Path(where) / name
        for where, _, names in os.walk(folder)
        for name in names
        if Path(name).suffix.lower() in MESH_SUFFIXES
    )
    if not files:
        raise ManifestError(f"{folder}: holds no mesh ({', '.join(MESH_SUFFIXES)}) and no {MANIFEST_NAMES[0]}")
    several = len({f.parent for f in files}) > 1
    stems = Counter(clean_id(f.stem).lower() for f in files)
    sources = []
    for f in files:
        unique = stems[clean_id(f.stem).lower()] == 1
        identity = clean_id(f.stem) if unique else clean_id("-".join(f.relative_to(folder).with_suffix("").parts))
        category = f.parent.name if several and f.parent != folder else defaults.category
        sources.append(_bare(f, identity, category, defaults))
    return sources


def _bare(path: Path, identity: str, category: str, defaults: SourceDefaults) -> MeshSource:
    return MeshSource(**(dataclasses.asdict(defaults) | {"id": identity, "path": path, "category": category}))


def _distinct(sources: list[MeshSource]) -> None:
    seen: dict[str, MeshSource] = {}
    for s in sources:
        other = seen.setdefault(s.id.lower(), s)
        if other is not s:
            raise ManifestError(
                f"{s.path}: its id {s.id!r} is also that of {other.path} (ids must differ in more than case); "
                "give ids in a manifest"
            )


def _need(rule: bool, name: str, expected: str, got: object) -> None:
    if not rule:
        raise ValueError(f"{name}: expected {expected}, got {got!r}")
