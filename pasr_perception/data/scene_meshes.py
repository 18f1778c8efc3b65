"""The meshes of a library, a manifest or a folder, loaded for simulation."""

from __future__ import annotations

import logging
from pathlib import Path

from pasr_perception.data.scene_layout import SceneMesh
from pasr_perception.library.manifest import sources_from_paths
from pasr_perception.library.meshes import MeshError, load_mesh
from pasr_perception.library.store import MeshLibrary

log = logging.getLogger(__name__)


def load_scene_meshes(path: str | Path) -> list[SceneMesh]:
    """All meshes of `path`: a built library (with library.json), a mesh folder, or a manifest.

    A mesh that cannot be read is reported by name and left out. Raises LibraryError or ManifestError where `path` is
    none of these, ValueError where no mesh can be read.
    """
    path = Path(path)
    if (path / "library.json").is_file():
        library = MeshLibrary.open(path)
        return [SceneMesh(entry.id, library.load_mesh(entry.id), entry.up) for entry in library.entries]
    found = []
    for source in sources_from_paths([path]):
        try:
            found.append(SceneMesh(source.id, load_mesh(source.path, source.unit), source.up))
        except MeshError as error:
            log.warning("left out: %s", error)
    if not found:
        raise ValueError(f"{path}: none of its meshes can be read")
    return found
