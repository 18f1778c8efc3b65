"""The mesh library on disk: library.json + meshes/<id>.glb + data/<id>.safetensors, bound to one encoder.

The JSON file is written last and replaced in one step, so whatever it lists is there: a killed build keeps the meshes
it had finished. Sizes are checked when a library is opened, checksums by `verify`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import torch
import trimesh
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pasr_perception.coarse import Templates
from pasr_perception.library.files import (
    TEMPORARY,
    LibraryError,
    check_regular,
    exclusive,
    sha256_of,
    write_atomically,
)
from pasr_perception.library.format import (
    LibraryHeader,
    MeshData,
    MeshEntry,
    data_file,
    library_from_json,
    library_to_json,
    mesh_file,
)
from pasr_perception.library.meshes import MeshError, export_glb, load_mesh

__all__ = ["LibraryError", "LibraryHeader", "LibraryWriter", "MeshData", "MeshEntry", "MeshLibrary"]

MANIFEST = "library.json"
MAX_MANIFEST_BYTES = 2**30
REBUILD = "remove the mesh and add it again, or build the library again"


class MeshLibrary:
    """A library opened for reading. Entries keep the order in which they were added; that order is the mesh index."""

    def __init__(self, path: Path, header: LibraryHeader, entries: tuple[MeshEntry, ...]) -> None:
        self.path = path
        self.header = header
        self.entries = entries
        self._index = {e.id: i for i, e in enumerate(entries)}

    @classmethod
    def open(cls, path: str | Path, expect_encoder: tuple[str, str] | None = None) -> MeshLibrary:
        """Read library.json and check that its files are there in full; `expect_encoder` is (name, fingerprint).

        Raises LibraryError if anything is missing, damaged, of another version, or made with another encoder.
        """
        path = Path(path).absolute()
        library = cls(path, *_read_manifest(path))
        for entry in library.entries:
            for relative, size in ((entry.mesh, entry.mesh_bytes), (entry.data, entry.data_bytes)):
                file = check_regular(path, relative)
                if file.stat().st_size != size:
                    raise LibraryError(
                        f"{file}: expected {size} bytes, got {file.stat().st_size}: cut short or replaced; {REBUILD}"
                    )
        if expect_encoder is not None:
            library.check_encoder(*expect_encoder)
        return library

    def __len__(self) -> int:
        return len(self.entries)

    def check_encoder(self, name: str, fingerprint: str) -> None:
        """Raise LibraryError unless the library's features come from exactly this encoder."""
        mine = (self.header.encoder_name, self.header.encoder_fingerprint)
        if mine != (name, fingerprint):
            raise LibraryError(
                f"{self.path}: was built with the encoder {mine[0]} (fingerprint {mine[1]}), but {name} (fingerprint "
                f"{fingerprint}) is in use; their features cannot be compared. Either set encoder.name to {mine[0]} "
                "with the same weights, or build the library again: "
                f"pasr library build MESHES -o {self.path} --encoder {name} --force"
            )

    def index_of(self, mesh_id: str) -> int:
        """Position of a mesh; raises LibraryError naming the library if it has none of this id."""
        if mesh_id not in self._index:
            raise LibraryError(f"{self.path}: holds no mesh {mesh_id!r} (see `pasr library info {self.path}`)")
        return self._index[mesh_id]

    def data(self, index: int) -> MeshData:
        """The tensors of one mesh, on the CPU."""
        tensors, file = self._tensors(index, [f.name for f in dataclasses.fields(MeshData)])
        data = MeshData(**tensors)
        data.check(self.header, str(file))
        return data

    def templates(self, index: int) -> Templates:
        """The precomputed poses of one mesh, on the CPU."""
        tensors, _ = self._tensors(index, [f"templates.{f.name}" for f in dataclasses.fields(Templates)])
        return Templates.from_tensors(tensors)

    def mesh_path(self, mesh_id: str) -> Path:
        """Absolute path of the mesh as GLB in metres (for markers and overlays)."""
        return check_regular(self.path, self.entries[self.index_of(mesh_id)].mesh)

    def load_mesh(self, mesh_id: str) -> trimesh.Trimesh:
        """The mesh in metres, in its own axes."""
        return load_mesh(self.mesh_path(mesh_id))

    def verify(self) -> list[str]:
        """Read everything: checksums, tensors, meshes. Returns one line per problem, none if all is well."""
        problems = []
        for i, entry in enumerate(self.entries):
            for relative, digest in ((entry.mesh, entry.mesh_sha256), (entry.data, entry.data_sha256)):
                try:
                    file = check_regular(self.path, relative)
                    if sha256_of(file) != digest:
                        problems.append(f"{file}: its content has changed since it was written; {REBUILD}")
                        continue
                    if relative == entry.mesh:
                        load_mesh(file)
                    else:
                        self.data(i)
                        self.templates(i)
                except (LibraryError, MeshError, OSError) as error:
                    problems.append(str(error))
        listed = {name for e in self.entries for name in (e.mesh, e.data)}
        for folder in ("meshes", "data"):
            for file in sorted((self.path / folder).glob("*")):
                if f"{folder}/{file.name}" not in listed:
                    problems.append(f"{file}: is not part of the library (left by a killed build?); it can be deleted")
        return problems

    def _tensors(self, index: int, names: list[str]) -> tuple[dict[str, torch.Tensor], Path]:
        file = check_regular(self.path, self.entries[index].data)
        try:
            with safe_open(file, framework="pt", device="cpu") as opened:
                missing = sorted(set(names) - set(opened.keys()))
                if missing:
                    raise LibraryError(f"{file}: holds no tensor {', '.join(missing)}; {REBUILD}")
                return {name: opened.get_tensor(name) for name in names}, file
        except (SafetensorError, OSError) as error:
            raise LibraryError(f"{file}: is not a readable safetensors file ({error}); {REBUILD}") from error


class LibraryWriter:
    """Adds meshes to a library, one finished mesh at a time. Holds the library's lock until closed (`with` does)."""

    def __init__(
        self, path: Path, header: LibraryHeader, entries: tuple[MeshEntry, ...], lock: contextlib.ExitStack
    ) -> None:
        self.path = path
        self.header = header
        self.entries = entries
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
            writer = cls(path, header, (), lock.pop_all())
        try:
            writer._save(())
        except BaseException:
            writer.close()
            raise
        return writer

    @classmethod
    def open(cls, path: str | Path) -> LibraryWriter:
        """Go on with an existing library; what a killed writer left half-written is removed."""
        path = Path(path).absolute()
        with contextlib.ExitStack() as lock:
            if not (path / MANIFEST).is_file():
                raise _no_library(path)
            lock.enter_context(exclusive(path))
            header, entries = _read_manifest(path)
            for file in path.rglob(f"*{TEMPORARY}"):
                file.unlink()
            return cls(path, header, entries, lock.pop_all())

    def __enter__(self) -> LibraryWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other writers in; nothing is pending."""
        self._lock.close()

    def add(self, entry: MeshEntry, data: MeshData, templates: Templates, mesh: trimesh.Trimesh) -> MeshEntry:
        """Write one mesh (in metres) and its tensors, then list it; returns the entry with its file fields filled in.

        Raises LibraryError if the id is taken, a tensor does not fit or the disk is full; nothing has changed then.
        """
        if any(e.id.lower() == entry.id.lower() for e in self.entries):
            raise LibraryError(f"{self.path}: holds a mesh {entry.id!r} already (ids must differ in more than case)")
        data.check(self.header, entry.id)
        tensors = {name: t.detach().cpu().contiguous() for name, t in {**vars(data), **templates.to_tensors()}.items()}
        glb, safetensors = self.path / mesh_file(entry.id), self.path / data_file(entry.id)
        try:
            write_atomically(glb, lambda p: export_glb(mesh, p))
            write_atomically(safetensors, lambda p: save_file(tensors, p))
            entry = dataclasses.replace(
                entry,
                mesh=mesh_file(entry.id),
                mesh_bytes=glb.stat().st_size,
                mesh_sha256=sha256_of(glb),
                data=data_file(entry.id),
                data_bytes=safetensors.stat().st_size,
                data_sha256=sha256_of(safetensors),
            )
            self._save((*self.entries, entry))
        except BaseException:
            for file in (glb, safetensors):
                with contextlib.suppress(OSError):
                    file.unlink(missing_ok=True)
            raise
        return entry

    def remove(self, mesh_id: str) -> None:
        """Take one mesh off the list, then delete its files. Raises LibraryError if there is none of this id."""
        gone = [e for e in self.entries if e.id == mesh_id]
        if not gone:
            raise LibraryError(f"{self.path}: holds no mesh {mesh_id!r} (see `pasr library info {self.path}`)")
        self._save(tuple(e for e in self.entries if e.id != mesh_id))
        for relative in (gone[0].mesh, gone[0].data):
            (self.path / relative).unlink(missing_ok=True)

    def replace_entry(self, entry: MeshEntry) -> None:
        """Change what library.json says of one mesh, its files apart."""
        self.replace_entries([entry])

    def replace_entries(self, entries: Iterable[MeshEntry]) -> None:
        """`replace_entry` for several at once, in one write."""
        new = {e.id: e for e in entries}
        unknown = sorted(set(new) - {e.id for e in self.entries})
        if unknown:
            raise LibraryError(f"{self.path}: holds no mesh {unknown[0]!r}")
        file_fields = ("mesh", "mesh_bytes", "mesh_sha256", "data", "data_bytes", "data_sha256")
        kept = [
            dataclasses.replace(new[e.id], **{name: getattr(e, name) for name in file_fields}) if e.id in new else e
            for e in self.entries
        ]
        self._save(tuple(kept))

    def _save(self, entries: tuple[MeshEntry, ...]) -> None:
        text = json.dumps(library_to_json(self.header, entries), indent=1, allow_nan=False, ensure_ascii=False)
        write_atomically(self.path / MANIFEST, lambda p: p.write_text(text, encoding="utf-8"))
        self.entries = entries


def delete_library(path: str | Path) -> None:
    """Delete a library's own files, and its folder if that is then empty; refuses a folder that is not a library."""
    path = Path(path).absolute()
    if not (path / MANIFEST).is_file():
        raise _no_library(path)
    with exclusive(path):
        (path / MANIFEST).unlink()  # first: a half-deleted library is then no library
        for folder in ("meshes", "data"):
            if (path / folder).is_symlink():
                raise LibraryError(f"{path / folder}: is a symbolic link; not followed")
            shutil.rmtree(path / folder, ignore_errors=True)
        (path / ".lock").unlink()
    with contextlib.suppress(OSError):
        path.rmdir()


def _read_manifest(path: Path) -> tuple[LibraryHeader, tuple[MeshEntry, ...]]:
    file = path / MANIFEST
    if not file.exists():
        raise _no_library(path)
    check_regular(path, MANIFEST)
    if file.stat().st_size > MAX_MANIFEST_BYTES:
        raise LibraryError(f"{file}: {file.stat().st_size} bytes is more than a library's list can be")
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise LibraryError(f"{file}: is not readable JSON ({error}); build the library again") from error
    return library_from_json(raw, str(file))


def _no_library(path: Path) -> LibraryError:
    how = f"make one with `pasr library build MESHES -o {path}`"
    return LibraryError(f"{path}: holds no mesh library (no {MANIFEST}); {how}")


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LibraryError(f"{path}: cannot be made a folder ({error.strerror})") from error
