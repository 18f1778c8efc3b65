"""The mesh library on disk: library.json + meshes/<id>.glb + data/<id>.safetensors, bound to one encoder.

Reading; `writer` changes libraries. Whatever is listed is there: files are written first, the list last, so a killed build
keeps the meshes it had finished. Sizes are checked when a library is opened, checksums and values by `verify`. Tensors are
views of memory-mapped files: they cost memory when they are read, and processes share what they have read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
import trimesh
from safetensors import SafetensorError, safe_open

from pasr_perception.library.files import LibraryError, check_regular, regular_sizes, sha256_of
from pasr_perception.library.format import LibraryHeader, Listing, MeshData, MeshEntry, artefact_file
from pasr_perception.library.listing import read_listing
from pasr_perception.library.meshes import load_mesh
from pasr_perception.library.writer import LibraryWriter, delete_library
from pasr_perception.templates import Templates

__all__ = ["LibraryError", "LibraryHeader", "LibraryWriter", "MeshData", "MeshEntry", "MeshLibrary", "delete_library"]

REBUILD = "remove the mesh and add it again, or build the library again"

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def _collection_paused() -> Iterator[None]:
    """No garbage collection meanwhile: a large listing is many objects, no garbage, and would be searched over and over."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class MeshLibrary:
    """A library opened for reading. Entries keep the order in which they were added; that order is the mesh index."""

    def __init__(self, path: Path, listing: Listing) -> None:
        self.path = path
        self.listing = listing
        self.header = listing.header
        self.entries = listing.entries
        self._index = {e.id: i for i, e in enumerate(listing.entries)}
        self._artefacts = {name for name in listing.artefacts if self._is_whole(name)}

    @classmethod
    def open(cls, path: str | Path, expect_encoder: tuple[str, str] | None = None) -> MeshLibrary:
        """Read library.json and check that its files are there in full; `expect_encoder` is (name, fingerprint).

        Raises LibraryError if anything is missing, damaged, of another version, or made with another encoder.
        """
        path = Path(path).absolute()
        with _collection_paused():
            library = cls(path, read_listing(path).fresh())
        library._check_sizes()
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
                f"with the same weights and the same encoder.image_size ({self.header.image_size} here), or build the "
                "library again: "
                f"pasr library build MESHES -o {self.path} --encoder {name} --force"
            )

    def index_of(self, mesh_id: str) -> int:
        """Position of a mesh; raises LibraryError naming the library if it has none of this id."""
        if mesh_id not in self._index:
            raise LibraryError(f"{self.path}: holds no mesh {mesh_id!r} (see `pasr library info {self.path}`)")
        return self._index[mesh_id]

    def data(self, index: int) -> MeshData:
        """The tensors of one mesh, on the CPU: views of its file, of which nothing is read before it is used."""
        file = check_regular(self.path, self.entries[index].data)
        fields = dataclasses.fields(MeshData)
        needed = [f.name for f in fields if f.default is dataclasses.MISSING]
        data = MeshData(**_mapped(file, needed, [f.name for f in fields if f.name not in needed]))
        data.check_shapes(self.header, str(file))
        return data

    def templates(self, index: int) -> Templates:
        """The precomputed poses of one mesh, on the CPU, as views of its file."""
        file = check_regular(self.path, self.entries[index].data)
        return Templates.from_tensors(_mapped(file, [f"templates.{f.name}" for f in dataclasses.fields(Templates)]))

    def has_artefact(self, name: str) -> bool:
        """Whether there is an artefact of this name that was made from exactly these meshes."""
        return name in self._artefacts

    def artefact(self, name: str) -> dict[str, torch.Tensor] | None:
        """Tensors that `LibraryWriter.put_artefact` wrote for exactly these meshes, as views of the file; None without.

        Raises LibraryError if the file was damaged or replaced since the library was opened.
        """
        if not self.has_artefact(name):
            return None
        return _mapped(check_regular(self.path, artefact_file(name)), made_from=self.listing.artefacts[name].meshes)

    def mesh_path(self, mesh_id: str) -> Path:
        """Absolute path of the mesh as GLB in metres (for markers and overlays)."""
        return check_regular(self.path, self.entries[self.index_of(mesh_id)].mesh)

    def load_mesh(self, mesh_id: str) -> trimesh.Trimesh:
        """The mesh in metres, in its own axes."""
        return load_mesh(self.mesh_path(mesh_id))

    def verify(self) -> list[str]:
        """Read everything: checksums, tensors, meshes. Returns one line per problem, none if all is well."""
        problems: list[str] = []
        for i, e in enumerate(self.entries):
            problems += self._problems(e.mesh, e.mesh_sha256, partial(load_mesh, self.path / e.mesh))
            problems += self._problems(e.data, e.data_sha256, partial(self._check_values, i))
        for name, artefact in self.listing.artefacts.items():
            problems += self._problems(artefact_file(name), artefact.sha256, partial(self.artefact, name))
        listed = {relative for e in self.entries for relative in (e.mesh, e.data)}
        listed.update(map(artefact_file, self.listing.artefacts))
        for pattern in ("meshes/*", "data/*", "*.safetensors"):
            for file in sorted(self.path.glob(pattern)):
                if file.relative_to(self.path).as_posix() not in listed:
                    problems.append(f"{file}: is not part of the library (left by a killed build?); it can be deleted")
        return problems

    def _problems(self, relative: str, digest: str, read: Callable[[], object]) -> list[str]:
        """What is wrong with one file; it is `read` if its checksum is right."""
        try:
            file = check_regular(self.path, relative)
            if sha256_of(file) != digest:
                return [f"{file}: its content has changed since it was written; {REBUILD}"]
            read()
        except (LibraryError, ValueError, OSError) as error:
            return [str(error)]
        return []

    def _check_values(self, index: int) -> None:
        entry = self.entries[index]
        self.data(index).check(self.header, str(self.path / entry.data))
        self.templates(index)
        _ = entry.symmetry.rotations  # raises if its folds do not fit together

    def _check_sizes(self) -> None:
        for folder, files in (
            ("meshes", ((e.mesh, e.mesh_bytes) for e in self.entries)),
            ("data", ((e.data, e.data_bytes) for e in self.entries)),
        ):
            found = regular_sizes(self.path / folder)
            for relative, size in files:
                got = found.get(relative[len(folder) + 1 :])
                if got is None:
                    got = check_regular(self.path, relative).stat().st_size  # says what is wrong with it
                if got != size:
                    raise LibraryError(
                        f"{self.path / relative}: expected {size} bytes, got {got}: cut short or replaced; {REBUILD}"
                    )

    def check_whole(self, indices: Sequence[int]) -> None:
        """Raise LibraryError unless the data files of some meshes, and all artefacts, are there in their full size."""
        files = [(e.data, e.data_bytes) for e in (self.entries[i] for i in indices)]
        files += [(artefact_file(name), self.listing.artefacts[name].bytes) for name in self._artefacts]
        for relative, expected in files:
            file = self.path / relative
            try:
                got = file.stat().st_size
            except FileNotFoundError:
                continue  # what is mapped stays readable when its name goes, as when a library is replaced
            if got < expected:
                raise LibraryError(f"{file}: expected {expected} bytes, got {got}: cut short while in use; {REBUILD}")

    def _is_whole(self, name: str) -> bool:
        """Whether an artefact's file is there in full. One that is not is done without: it can be made again."""
        expected = self.listing.artefacts[name].bytes
        try:
            got = check_regular(self.path, artefact_file(name)).stat().st_size
        except LibraryError as error:
            logger.warning("%s; going on without it", error)
            return False
        if got != expected:
            file = self.path / artefact_file(name)
            logger.warning("%s: expected %d bytes, got %d; going on without it", file, expected, got)
        return got == expected


def _mapped(
    file: Path, names: Sequence[str] | None = None, also: Sequence[str] = (), made_from: str | None = None
) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file (all, or those named), as views of its pages; the file is not kept open.

    Those `also` named may be missing.

    Raises LibraryError if it is damaged or, with `made_from`, says itself that it was made from other meshes.
    """
    try:
        with safe_open(file, framework="pt", device="cpu") as opened:
            there = opened.keys()
            missing = sorted(set(names or ()) - set(there))
            if missing:
                raise LibraryError(f"{file}: holds no tensor {', '.join(missing)}; {REBUILD}")
            if made_from is not None and (opened.metadata() or {}).get("meshes") != made_from:
                raise LibraryError(f"{file}: was made from other meshes since the library was opened; open it again")
            wanted = there if names is None else [*names, *(name for name in also if name in there)]
            return {name: opened.get_tensor(name) for name in wanted}
    except (SafetensorError, OSError) as error:
        raise LibraryError(f"{file}: is not a readable safetensors file ({error}); {REBUILD}") from error
