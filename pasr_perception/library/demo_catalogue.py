"""Reading Sweet Home 3D's furniture catalogues: .properties files beside OBJ models, inside zip archives."""

from __future__ import annotations

import posixpath
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

LICENCES = {  # catalogue's name -> what its LICENSE.TXT says
    "Blend Swap CC-0": "CC0-1.0",
    "Blend Swap CC-BY": "CC-BY-3.0",
    "Kator Legaz catalog": "CC-BY-3.0-US",
    "Reallusion catalog": "CC-BY-3.0-US",
    "Scopia catalog": "CC-BY-3.0",
    "Default Models catalog": "GPL-2.0-or-later OR CC-BY-3.0",
}
MAX_MEMBER_BYTES = 64 * 2**20  # of one file inside an archive, unpacked
PROPERTIES = re.compile(r"(PluginFurnitureCatalog|DefaultFurnitureCatalog)\.properties$")
ENTRY = re.compile(r"([A-Za-z]+)#(\d+)$")


@dataclass(frozen=True)
class CatalogueItem:
    """One model of a catalogue."""

    id: str  # the last part of the catalogue's id, cleaned
    name: str  # English
    archive: Path
    model: str  # path of the OBJ inside the archive
    size: np.ndarray  # [3] metres: width (x), height (y), depth (z)
    rotation: np.ndarray  # [3, 3] from the model's axes to those of the catalogue, which is y up
    licence: str
    creator: str
    tags: tuple[str, ...] = ()


def parse_properties(text: str) -> dict[str, str]:
    """Java's .properties format: comments, `key=value`, backslash continuation and \\uXXXX."""
    joined = re.sub(r"\\\r?\n[ \t]*", "", text)
    values = {}
    for line in joined.splitlines():
        line = line.strip()
        if not line or line[0] in "#!" or "=" not in line:
            continue
        key, value = line.split("=", 1)
        value = re.sub(r"\\u([0-9A-Fa-f]{4})", lambda m: chr(int(m[1], 16)), value.strip())
        values[key.strip()] = re.sub(r"\\(.)", r"\1", value)
    return values


def read_catalogue(archive: Path) -> list[CatalogueItem]:
    """All models an archive (.sh3f, or the program's .jar) lists; an entry without model or size is left out."""
    with zipfile.ZipFile(archive) as z:
        found = [n for n in z.namelist() if PROPERTIES.search(n)]
        if not found:
            raise ValueError(f"{archive}: holds no furniture catalogue (*FurnitureCatalog.properties)")
        texts = [read_member(z, name).decode("latin-1") for name in found]
        members = set(z.namelist())
    items = []
    for text in texts:
        values = parse_properties(text)
        licence = LICENCES.get(values.get("name", ""), values.get("license", "see the archive's LICENSE.TXT"))
        entries: dict[int, dict[str, str]] = {}
        for key, value in values.items():
            if match := ENTRY.match(key):
                entries.setdefault(int(match[2]), {})[match[1]] = value
        items += [
            item for _, e in sorted(entries.items()) if (item := _item(e, archive, licence)) and item.model in members
        ]
    return items


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """One file out of a zip, refused if it would unpack to more than a model or texture can sensibly be."""
    size = archive.getinfo(name).file_size
    if size > MAX_MEMBER_BYTES:
        raise ValueError(f"{archive.filename}: {name} unpacks to {size} bytes, more than {MAX_MEMBER_BYTES} allowed")
    return archive.read(name)


def _item(entry: dict[str, str], archive: Path, licence: str) -> CatalogueItem | None:
    try:
        size = np.array([float(entry[k]) for k in ("width", "height", "depth")]) / 100
        model, identity = posixpath.normpath(entry["model"].lstrip("/")), entry["id"]
    except (KeyError, ValueError):
        return None
    rotation = np.array(entry.get("modelRotation", "1 0 0 0 1 0 0 0 1").split(), float).reshape(3, 3)
    return CatalogueItem(
        id=re.sub(r"[^A-Za-z0-9]+", "-", identity.rsplit("#", 1)[-1]).strip("-"),
        name=entry.get("name", identity),
        archive=archive,
        model=model,
        size=size,
        rotation=rotation,
        licence=licence,
        creator=entry.get("creator", "") or "unknown",
        tags=tuple(t.strip() for t in entry.get("tags", "").split(",") if t.strip()),
    )


def up_axis(item: CatalogueItem) -> str:
    """The model's own axis that stands upright in the catalogue, e.g. "+y"."""
    up = item.rotation.T @ np.array([0.0, 1.0, 0.0])
    axis = int(np.abs(up).argmax())
    return f"{'+' if up[axis] > 0 else '-'}{'xyz'[axis]}"


def metres_per_unit(item: CatalogueItem, extents: np.ndarray) -> float:
    """Scale of a model: the catalogue's size over the model's extents [3], the geometric mean of the three ratios."""
    turned = np.abs(item.rotation) @ extents
    usable = (turned > 1e-9) & (item.size > 1e-9)
    if not usable.any():
        raise ValueError(f"{item.id}: neither the model nor the catalogue gives a size")
    return float(np.exp(np.log(item.size[usable] / turned[usable]).mean()))


def model_files(item: CatalogueItem) -> dict[str, bytes]:
    """The OBJ with its materials and textures as {file name: content}, all in one folder, plus the author's licence."""
    with zipfile.ZipFile(item.archive) as z:
        members, folder = set(z.namelist()), posixpath.dirname(item.model)

        def beside(name: str) -> str:
            return posixpath.normpath(posixpath.join(folder, name.replace("\\", "/").strip()))

        obj = read_member(z, item.model)
        files = {}
        for name in _referenced(obj, b"mtllib"):
            if (path := beside(name)) in members:
                material = read_member(z, path)
                for texture in set(_referenced(material, b"map_Kd")):
                    if (image := beside(texture)) in members:
                        files[posixpath.basename(image)] = read_member(z, image)
                        material = material.replace(texture.encode("latin-1"), posixpath.basename(image).encode())
                files[posixpath.basename(path)] = material
                obj = obj.replace(name.encode("latin-1"), posixpath.basename(path).encode())
        for name in members:
            if posixpath.dirname(name) == folder and "licen" in name.lower() and "/resources" not in folder:
                files[posixpath.basename(name)] = read_member(z, name)
        files[posixpath.basename(item.model)] = obj
    return files


def _referenced(text: bytes, keyword: bytes) -> list[str]:
    """File names that lines `keyword name` of an OBJ or MTL give."""
    found = re.findall(rb"^[ \t]*" + keyword + rb"[ \t]+(.+?)[ \t]*\r?$", text, re.MULTILINE | re.IGNORECASE)
    return [f.decode("latin-1") for f in found]
