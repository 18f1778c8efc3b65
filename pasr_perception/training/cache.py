"""Observations on disk: encoding views costs a hundred times more than learning from them, so it is done once.

A folder holds `observations.json` (how they were made), `observations.jsonl` (a line per finished mesh) and one float16
safetensors file per mesh, checksummed, written before its line. A killed run loses the mesh it was at. Observations made
another way, or with another encoder, are refused by name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pasr_perception.data.split import TRAIN, meshes_of
from pasr_perception.encoders.base import Encoder
from pasr_perception.encoders.points.cloud import PointCloud
from pasr_perception.library.files import (
    LibraryError,
    append_durably,
    check_regular,
    exclusive,
    sha256_of,
    write_atomically,
)
from pasr_perception.library.format import ID, LibraryHeader
from pasr_perception.library.manifest import MeshSource
from pasr_perception.library.meshes import MeshError
from pasr_perception.training.observe import Look, ObserveConfig, ObservedView, Observer

logger = logging.getLogger(__name__)

HEADER, JOURNAL, FOLDER = "observations.json", "observations.jsonl", "meshes"
FORMAT, VERSION = "pasr-observations", 1

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Shape:
    """What is observed: a mesh, or one of its stretched copies."""

    source: MeshSource
    copy: int = 0  # 0: the mesh as it is


def shapes_of(sources: Sequence[MeshSource], copies: int) -> list[Shape]:
    """Each mesh, and after one that is for training so many stretched copies of it."""
    stretched = set(meshes_of(TRAIN, (source.id for source in sources)))
    return [Shape(source, k) for source in sources for k in range(1 + copies * (source.id in stretched))]


@dataclass(frozen=True)
class CachedMesh:
    """One line of the journal."""

    id: str
    category: str
    bytes: int
    sha256: str
    copy: int = 0  # 0: the mesh as it is; above: a stretched copy


class ObservationCache:
    """A folder of observations, opened for reading."""

    def __init__(self, path: Path, header: dict[str, Any], meshes: Sequence[CachedMesh]) -> None:
        self.path, self.header, self.meshes = path, header, tuple(meshes)

    @classmethod
    def open(cls, path: str | Path) -> ObservationCache:
        """Read the list; raises LibraryError if it is missing or damaged."""
        path = Path(path)
        try:
            header = json.loads((path / HEADER).read_text())
            meshes = [CachedMesh(**json.loads(line)) for line in _lines(path)]
        except (OSError, ValueError, TypeError) as error:
            raise LibraryError(f"{path}: holds no readable observations ({error}); make them: pasr train") from error
        if header.get("format") != FORMAT or header.get("version") != VERSION:
            raise LibraryError(f"{path / HEADER}: expected {FORMAT} version {VERSION}; choose another folder")
        for mesh in meshes:
            if not ID.fullmatch(mesh.id):
                raise LibraryError(f"{path / JOURNAL}: expected mesh ids, got {mesh.id!r}")
            if type(mesh.copy) is not int:
                raise LibraryError(f"{path / JOURNAL}: expected the number of a copy, got {mesh.copy!r}")
        return cls(path, header, meshes)

    @property
    def bytes(self) -> int:
        return sum(mesh.bytes for mesh in self.meshes)

    @property
    def digest(self) -> str:
        """Of how the observations were made: they are alike where this is."""
        return _digest(self.header)

    def of(self, part: str, copies: int = 0) -> tuple[CachedMesh, ...]:
        """The meshes of one part of the split, by id, each followed by so many stretched copies. ValueError for none."""
        chosen = set(meshes_of(part, (mesh.id for mesh in self.meshes)))
        if not chosen:
            raise ValueError(f"{self.path}: expected observations of {part} meshes, got none among {len(self.meshes)}")
        wanted = (mesh for mesh in self.meshes if mesh.id in chosen and mesh.copy <= copies)
        return tuple(sorted(wanted, key=lambda mesh: (mesh.id, mesh.copy)))

    def load(self, mesh: CachedMesh) -> list[Look]:
        """The looks of one mesh; raises LibraryError if its file is missing or not what was written."""
        file = check_regular(self.path, _file_of(mesh.id, mesh.copy))
        if sha256_of(file) != mesh.sha256:
            raise LibraryError(
                f"{file}: its content has changed since it was written; delete {self.path} and begin again"
            )
        try:
            return looks_from(load_file(file))
        except (SafetensorError, KeyError) as error:
            raise LibraryError(f"{file}: is not a readable file of observations ({error})") from error


def _file_of(mesh_id: str, copy: int) -> str:
    """Where a mesh's observations lie within the folder; no id holds a +."""
    return f"{FOLDER}/{mesh_id}{f'+{copy}' if copy else ''}.safetensors"


def _lines(path: Path) -> list[str]:
    """The journal's whole lines: a kill may have cut the last one short."""
    journal = path / JOURNAL
    text = journal.read_text() if journal.is_file() else ""
    return text[: text.rfind("\n") + 1].splitlines()


def looks_to(looks: Sequence[Look]) -> dict[str, torch.Tensor]:
    """Looks of one mesh as named tensors; all have the points and normals of the first."""
    named = {"points": looks[0].cloud.points, "normals": looks[0].cloud.normals}
    for i, look in enumerate(looks):
        if look.cloud.known:
            named[f"{i}.colours"] = look.cloud.colours
        for j, view in enumerate(look.views):
            named |= {f"{i}.{j}.{name}": tensor for name, tensor in vars(view).items()}
    return {name: tensor.contiguous() for name, tensor in named.items()}


def looks_from(named: dict[str, torch.Tensor]) -> list[Look]:
    """What `looks_to` took apart."""
    points, normals = named["points"], named["normals"]
    looks: list[Look] = []
    while f"{len(looks)}.0.target" in named:
        i = len(looks)
        views: list[ObservedView] = []
        while f"{i}.{len(views)}.target" in named:
            view = f"{i}.{len(views)}"
            views.append(ObservedView(**{f.name: named[f"{view}.{f.name}"] for f in dataclasses.fields(ObservedView)}))
        colours = named.get(f"{i}.colours")
        shown = torch.zeros_like(points) if colours is None else colours
        looks.append(Look(PointCloud(points, normals, shown, colours is not None), tuple(views)))
    return looks


def observe_all(
    shapes: Sequence[Shape],
    path: str | Path,
    encoder: Encoder,
    header: LibraryHeader,
    config: ObserveConfig,
    limit_mb: int,
    progress: Progress = lambda what, done, total: None,
) -> ObservationCache:
    """Observe what the folder does not hold yet (`shapes_of`); a mesh that cannot be used is logged and left out.

    Stops, saying so, before the folder would hold more than `limit_mb`. Raises LibraryError if it holds observations made
    another way, or if another process is writing to it.
    """
    path = Path(path)
    wanted = _header(encoder, header, config)
    path.mkdir(parents=True, exist_ok=True)
    with exclusive(path):
        if (path / HEADER).exists():
            cache = ObservationCache.open(path)
            if cache.digest != _digest(wanted):
                raise LibraryError(
                    f"{path}: was made by {json.dumps(cache.header)}, not {json.dumps(wanted)}; choose another folder"
                )
        else:
            text = json.dumps(wanted, indent=1) + "\n"
            write_atomically(path / HEADER, lambda file: file.write_text(text))
            cache = ObservationCache(path, wanted, ())
        append_durably(path / JOURNAL, "".join(f"{line}\n" for line in _lines(path)), begin=True)
        there, size = {(mesh.id, mesh.copy) for mesh in cache.meshes}, cache.bytes
        observer, unusable = Observer(encoder, header.view, header.splat, config), set[str]()
        for done, shape in enumerate(shapes):
            progress(shape.source.id, done, len(shapes))
            if (shape.source.id, shape.copy) in there or shape.source.id in unusable:
                continue
            if size >= limit_mb * 2**20:
                logger.warning("%s: holds %d MB, as many as it may; %d meshes left", path, limit_mb, len(shapes) - done)
                break
            try:
                size += _write(path, shape, observer.observe(shape.source, shape.copy))
            except (MeshError, ValueError) as error:
                logger.warning("mesh %s left out: %s", shape.source.id, error)
                if not shape.copy:  # its copies would only be read and warned of as well
                    unusable.add(shape.source.id)
    return ObservationCache.open(path)


def _write(path: Path, shape: Shape, looks: Sequence[Look]) -> int:
    """Put one mesh's file in place, then its line; returns the file's size in bytes."""
    source, copy = shape.source, shape.copy
    file = path / _file_of(source.id, copy)
    write_atomically(file, lambda temporary: save_file(looks_to(looks), temporary))
    mesh = CachedMesh(source.id, source.category, file.stat().st_size, sha256_of(file), copy)
    append_durably(path / JOURNAL, json.dumps(dataclasses.asdict(mesh)) + "\n", begin=False)
    return mesh.bytes


def _header(encoder: Encoder, header: LibraryHeader, config: ObserveConfig) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "encoder": encoder.name,
        "fingerprint": encoder.fingerprint,
        "dim": encoder.dim,
        "view": dataclasses.asdict(header.view),
        "splat": dataclasses.asdict(header.splat),
        "observe": dataclasses.asdict(config),
    }


def _digest(header: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()
