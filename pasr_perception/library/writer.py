"""Changing a mesh library: one writer at a time, one finished mesh at a time; a kill at any moment leaves a usable library."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
import trimesh
from safetensors.torch import save_file

from pasr_perception.library.files import TEMPORARY, LibraryError, exclusive, sha256_of, write_atomically
from pasr_perception.library.format import (
    ARTEFACT_NAME,
    Artefact,
    LibraryHeader,
    Listing,
    MeshData,
    MeshEntry,
    artefact_file,
    data_file,
    mesh_file,
)
from pasr_perception.library.listing import (
    JOURNAL,
    MANIFEST,
    append_entries,
    no_library,
    read_listing,
    write_listing,
)
from pasr_perception.library.meshes import export_glb
from pasr_perception.templates import Templates

FILE_FIELDS = ("mesh", "mesh_bytes", "mesh_sha256", "data", "data_bytes", "data_sha256")


class LibraryWriter:
    """Adds meshes to a library, one finished mesh at a time. Holds the library's lock until closed (`with` does).

    What is added goes to a journal beside library.json, which closing folds into it.
    """

    def __init__(self, path: Path, listing: Listing, lock: contextlib.ExitStack) -> None:
        self.path = path
        self.header = listing.header
        self._entries = {e.id.lower(): e for e in listing.entries}
        self._artefacts = dict(listing.artefacts)
        self._pending = False  # library.json lacks what the journal has
        self._lock = lock

    @classmethod
    def create(cls, path: str | Path, header: LibraryHeader) -> LibraryWriter:
        """Begin an empty library in a folder that holds none."""
        path = Path(path).absolute()
        _make_folder(path)
        with contextlib.ExitStack() as lock:
            lock.enter_context(exclusive(path))
            if (path / MANIFEST).exists():
                raise LibraryError(f"{path}: is a library already; add to it with `pasr library add`, or delete it")
            listing = Listing(header, ())
            write_listing(path, listing)
            return cls(path, listing, lock.pop_all())

    @classmethod
    def open(cls, path: str | Path) -> LibraryWriter:
        """Go on with an existing library; what a killed writer left half-written is removed."""
        path = Path(path).absolute()
        with contextlib.ExitStack() as lock:
            if not (path / MANIFEST).is_file():
                raise no_library(path)
            lock.enter_context(exclusive(path))
            listing = read_listing(path)
            if (path / JOURNAL).exists():  # of a killed writer; folded now, since lines after a torn one would be lost
                write_listing(path, listing)
            for file in path.rglob(f"*{TEMPORARY}"):
                file.unlink()
            return cls(path, listing, lock.pop_all())

    @property
    def entries(self) -> tuple[MeshEntry, ...]:
        return tuple(self._entries.values())

    def __enter__(self) -> LibraryWriter:
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        if kind is None:
            self.close()
        else:
            self._pending = False  # the journal has everything; folding could fail again, for want of space
            self._lock.close()

    def close(self) -> None:
        """Fold the journal into library.json and let other writers in."""
        with self._lock:
            if self._pending:
                self._save()

    def add(self, entry: MeshEntry, data: MeshData, templates: Templates, mesh: trimesh.Trimesh) -> MeshEntry:
        """Write one mesh (in metres) and its tensors, then list it; returns the entry with its file fields filled in.

        Raises LibraryError if the id is taken, a tensor does not fit or the disk is full; nothing has changed then.
        """
        if entry.id.lower() in self._entries:
            raise LibraryError(f"{self.path}: holds a mesh {entry.id!r} already (ids must differ in more than case)")
        data.check(self.header, entry.id)
        tensors = {**data.tensors(), **templates.to_tensors()}
        glb, safetensors = self.path / mesh_file(entry.id), self.path / data_file(entry.id)
        try:
            write_atomically(glb, lambda p: export_glb(mesh, p))
            write_atomically(safetensors, lambda p: save_file(_on_cpu(tensors), p))
            entry = dataclasses.replace(
                entry,
                mesh=mesh_file(entry.id),
                mesh_bytes=glb.stat().st_size,
                mesh_sha256=sha256_of(glb),
                data=data_file(entry.id),
                data_bytes=safetensors.stat().st_size,
                data_sha256=sha256_of(safetensors),
            )
            self._append([entry])
        except BaseException:
            for file in (glb, safetensors):
                with contextlib.suppress(OSError):
                    file.unlink(missing_ok=True)
            raise
        return entry

    def remove(self, mesh_id: str) -> None:
        """Take one mesh off the list, then delete its files. Raises LibraryError if there is none of this id."""
        gone = self._entry(mesh_id)
        kept = {key: e for key, e in self._entries.items() if e is not gone}
        self._save(kept)
        for relative in (gone.mesh, gone.data):
            (self.path / relative).unlink(missing_ok=True)

    def replace_entries(self, entries: Iterable[MeshEntry]) -> None:
        """Change what is listed of some meshes, their files apart. Raises LibraryError for an id that is not there."""
        kept = []
        for entry in entries:
            old = self._entry(entry.id)
            kept.append(dataclasses.replace(entry, **{name: getattr(old, name) for name in FILE_FIELDS}))
        self._append(kept)

    def put_artefact(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write tensors made from all meshes as they are now, such as an index, to <name>.safetensors, and list that.

        It is gone as soon as a mesh is added or removed; replaced entries keep it. Raises ValueError for a name that is no
        lower-case word, LibraryError if the disk is full.
        """
        if not ARTEFACT_NAME.fullmatch(name):
            raise ValueError(f"name: expected a name such as bank ({ARTEFACT_NAME.pattern}), got {name!r}")
        meshes = self._listing(self._entries).digest
        file = self.path / artefact_file(name)
        write_atomically(file, lambda p: save_file(_on_cpu(tensors), p, {"meshes": meshes}))
        self._artefacts[name] = Artefact(file.stat().st_size, sha256_of(file), meshes)
        self._save()

    def _entry(self, mesh_id: str) -> MeshEntry:
        entry = self._entries.get(mesh_id.lower())
        if entry is None or entry.id != mesh_id:
            raise LibraryError(f"{self.path}: holds no mesh {mesh_id!r} (see `pasr library info {self.path}`)")
        return entry

    def _listing(self, entries: Mapping[str, MeshEntry]) -> Listing:
        return Listing(self.header, tuple(entries.values()), self._artefacts)

    def _append(self, entries: list[MeshEntry]) -> None:
        append_entries(self.path, entries, begin=not self._pending)
        self._pending = True
        self._entries.update((e.id.lower(), e) for e in entries)

    def _save(self, entries: Mapping[str, MeshEntry] | None = None) -> None:
        """Write library.json anew, with `entries` in place of those that are there."""
        changed = self._entries if entries is None else dict(entries)
        listing = self._listing(changed).fresh()
        write_listing(self.path, listing)
        stale = self._artefacts.keys() - listing.artefacts.keys()
        self._entries, self._artefacts, self._pending = changed, dict(listing.artefacts), False
        for name in stale:
            (self.path / artefact_file(name)).unlink(missing_ok=True)


def delete_library(path: str | Path) -> None:
    """Delete a library's own files, and its folder if that is then empty; refuses a folder that is not a library."""
    path = Path(path).absolute()
    if not (path / MANIFEST).is_file():
        raise no_library(path)
    with exclusive(path):
        artefacts: Iterable[str] = ()
        with contextlib.suppress(LibraryError):  # damaged, or of another version: its artefacts are not known
            artefacts = read_listing(path).artefacts
        (path / MANIFEST).unlink()  # first: a half-deleted library is then no library
        for name in (JOURNAL, *map(artefact_file, artefacts)):
            (path / name).unlink(missing_ok=True)
        for folder in ("meshes", "data"):
            if (path / folder).is_symlink():
                raise LibraryError(f"{path / folder}: is a symbolic link; not followed")
            shutil.rmtree(path / folder, ignore_errors=True)
        (path / ".lock").unlink()
    with contextlib.suppress(OSError):
        path.rmdir()


def _on_cpu(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LibraryError(f"{path}: cannot be made a folder ({error.strerror})") from error
