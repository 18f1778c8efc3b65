"""What a library holds as JSON, strictly checked when read: library.json, and the single entries of its journal."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from pasr_perception.geometry.symmetry import Symmetry
from pasr_perception.library.files import LibraryError
from pasr_perception.library.format import (
    ARTEFACT_NAME,
    Artefact,
    FeatureSource,
    LibraryHeader,
    Listing,
    MeshEntry,
    data_file,
    mesh_file,
    need,
)
from pasr_perception.render.splat import SplatConfig

FORMAT, VERSION = "pasr-library", 2
MAX_ENTRIES = 1_000_000
SHA256 = re.compile(r"[0-9a-f]{64}")


def entry_to_json(entry: MeshEntry) -> dict[str, Any]:
    return vars(entry) | {"symmetry": entry.symmetry.to_dict()}


def to_line(data: object) -> str:
    """JSON without a line break."""
    return json.dumps(data, allow_nan=False, ensure_ascii=False)


def listing_to_text(listing: Listing) -> str:
    """The text of library.json, one mesh a line (json's own indentation takes five times as long)."""
    header = listing.header
    head = {
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
        "features": vars(header.features),
        "artefacts": {name: vars(artefact) for name, artefact in listing.artefacts.items()},
    }
    lines = [f' "{name}": {to_line(value)}' for name, value in head.items()]
    entries = ",\n".join(f"  {to_line(entry_to_json(e))}" for e in listing.entries)
    return "{\n" + ",\n".join([*lines, f' "entries": [\n{entries}\n ]']) + "\n}\n"


def listing_from_json(raw: Any, where: str) -> Listing:
    """Check and convert the content of library.json; raises LibraryError beginning with `where` (the file's path)."""
    if not isinstance(raw, Mapping) or raw.get("format") != FORMAT:
        raise LibraryError(f'{where}: is not a mesh library (expected "format": "{FORMAT}")')
    if raw.get("version") != VERSION:
        raise LibraryError(
            f"{where}: has format version {raw.get('version')!r}; this program reads version {VERSION}. "
            "Build the library again with `pasr library build`, or use the program version that wrote it."
        )
    with _damage_named(where):
        listed, artefacts = raw["entries"], raw.get("artefacts", {})
        need(isinstance(listed, list) and len(listed) <= MAX_ENTRIES, "entries", "a list of meshes", type(listed))
        need(isinstance(artefacts, Mapping), "artefacts", "a mapping", artefacts)
        entries = tuple(_entry(e, f"entries[{i}]") for i, e in enumerate(listed))
        check_unique(entries, where)
        return Listing(_header(raw), entries, {name: _artefact(name, a) for name, a in artefacts.items()})


def entry_from_line(line: bytes, where: str) -> MeshEntry:
    """The entry on one line of the journal; raises LibraryError beginning with `where`."""
    with _damage_named(where):
        return _entry(json.loads(line), "entry")


def check_unique(entries: tuple[MeshEntry, ...], where: str) -> None:
    """Raise LibraryError if two ids differ in case alone: not all file systems tell Cup from cup."""
    with _damage_named(where):
        seen: set[str] = set()
        for e in entries:
            if e.id.lower() in seen:
                need(False, "entries", "ids that differ in more than case", e.id)
            seen.add(e.id.lower())


@contextlib.contextmanager
def _damage_named(where: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, ValueError, TypeError) as error:
        said = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise LibraryError(
            f"{where}: {said}. The file is damaged or was edited; build the library again with `pasr library build`."
        ) from error


def _artefact(name: str, raw: Any) -> Artefact:
    at = f"artefacts.{name}"
    need(bool(ARTEFACT_NAME.fullmatch(name)), at, f"a name such as bank ({ARTEFACT_NAME.pattern})", name)
    need(isinstance(raw, Mapping) and set(raw) == {"bytes", "sha256", "meshes"}, at, "bytes, sha256 and meshes", raw)
    for key in ("sha256", "meshes"):
        need(bool(SHA256.fullmatch(_typed(raw[key], str, at))), f"{at}.{key}", "64 hexadecimal digits", raw[key])
    return Artefact(_typed(raw["bytes"], int, f"{at}.bytes"), raw["sha256"], raw["meshes"])


def _header(raw: Mapping[str, Any]) -> LibraryHeader:
    encoder, view, render = raw["encoder"], raw["view"], raw["render"]
    features = raw.get("features", vars(FeatureSource(centred="mesh")))  # older libraries' are lifted
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
        features=FeatureSource(
            kind=_typed(features["kind"], str, "features.kind"),
            point_encoder=_typed(features["point_encoder"], str, "features.point_encoder"),
            share=_typed(features["share"], float, "features.share"),
            centred=_typed(features.get("centred", "mesh"), str, "features.centred"),
        ),
    )
    for name in ("encoder_dim", "image_size", "grid"):
        need(0 < getattr(header, name) <= 65536, name, "1..65536", getattr(header, name))
    assert header.view  # its own checks
    return header


def _entry(raw: Any, where: str) -> MeshEntry:
    """10,000 of these are read when a large library is opened: names for messages are made when there is one to say."""
    need(isinstance(raw, Mapping), where, "a mapping", raw)
    if not raw.keys() <= _KINDS.keys():
        need(False, where, f"only the keys {', '.join(_KINDS)}", sorted(raw.keys() - _KINDS.keys()))
    values: dict[str, Any] = {}
    for name, kind in _KINDS.items():
        value = raw[name]
        if kind is tuple:
            if not (type(value) is list and len(value) == 3):
                need(False, f"{where}.{name}", "three numbers", value)
            values[name] = tuple([x if type(x) is float else _typed(x, float, f"{where}.{name}") for x in value])
        elif kind is Symmetry:
            values[name] = Symmetry.from_dict(value)
        else:
            values[name] = value if type(value) is kind else _typed(value, kind, f"{where}.{name}")
    entry = MeshEntry(**values)
    # Paths are not free: whatever the file says, nothing outside these two folders is ever opened.
    for name, expected in (("mesh", mesh_file(entry.id)), ("data", data_file(entry.id))):
        if values[name] != expected:
            need(False, f"{where}.{name}", expected, values[name])
        if not SHA256.fullmatch(values[f"{name}_sha256"]):
            need(False, f"{where}.{name}_sha256", "64 hexadecimal digits", values[f"{name}_sha256"])
    return entry


_KINDS: dict[str, type] = {
    f.name: {"str": str, "int": int, "float": float, "Vector": tuple, "Symmetry": Symmetry}[str(f.type)]
    for f in fields(MeshEntry)
}


def _typed(value: Any, kind: type, name: str) -> Any:
    if kind is float and type(value) is int:
        value = float(value)
    need(type(value) is kind, name, kind.__name__, value)
    return value
