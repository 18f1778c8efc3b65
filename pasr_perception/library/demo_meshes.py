"""Real CAD meshes to try the system with: Sweet Home 3D's furniture, taken from its Debian packages.

Nothing is fetched unless this is called, and then by `apt-get download`, which checks the archive's signatures.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import trimesh
import yaml

from pasr_perception.library.demo_catalogue import CatalogueItem, metres_per_unit, model_files, read_catalogue, up_axis
from pasr_perception.library.demo_selection import SELECTION, category_of

log = logging.getLogger(__name__)

FURNITURE, PROGRAM = "sweethome3d-furniture", "sweethome3d"  # Debian package names
ARCHIVES = (  # CC0 first: of two models with one id the first keeps it
    "BlendSwap-CC-0.sh3f",
    "BlendSwap-CC-BY.sh3f",
    "KatorLegaz.sh3f",
    "Reallusion.sh3f",
    "Scopia.sh3f",
    "sweethome3d.jar",
)
NO_APT = (
    "On another Debian or Ubuntu machine run `apt-get download {packages}`, copy the .deb files here and pass them "
    "with --from-deb (or pass .sh3f files of Sweet Home 3D)."
)

Progress = Callable[[str, int, int], None]  # what is being done, how many are done, of how many


class FetchError(RuntimeError):
    """The demo meshes could not be had; the message says the exact steps to take."""


@dataclass(frozen=True)
class Fetched:
    """What a fetch wrote."""

    manifest: Path
    meshes: int
    skipped: tuple[str, ...]  # one line each, with the reason


def fetch_demo(
    out: str | Path, everything: bool = False, files: Sequence[str | Path] = (), progress: Progress | None = None
) -> Fetched:
    """Write the demo meshes and their manifest.yaml to the folder `out`.

    everything: all models instead of the selection. files: local .deb, .sh3f or .jar files, instead of apt.
    Raises FetchError with the steps to take.
    """
    out, report = Path(out), progress or (lambda what, done, total: None)
    if (out / "manifest.yaml").exists():
        raise FetchError(f"{out / 'manifest.yaml'} exists already; remove the folder, or choose another with -o")
    with tempfile.TemporaryDirectory(prefix="pasr-demo-") as scratch:
        archives = _archives(Path(scratch), everything, [Path(f) for f in files], report)
        items = choose(_read(archives), everything)
        out.mkdir(parents=True, exist_ok=True)
        entries, skipped = [], []
        for done, (identity, item) in enumerate(items):
            report(identity, done, len(items))
            try:
                entries.append(_write(out, identity, item))
            except (ValueError, OSError) as e:
                skipped.append(f"{identity}: {e}")
                shutil.rmtree(out / identity, ignore_errors=True)
        report("done", len(items), len(items))
    if not entries:
        raise FetchError(f"no model could be unpacked; first reason: {skipped[0] if skipped else 'none were listed'}")
    head = "# Sweet Home 3D models; sizes, creators and licences as their catalogues give them.\n"
    (out / "manifest.yaml").write_text(head + yaml.safe_dump({"meshes": entries}, sort_keys=False, allow_unicode=True))
    return Fetched(out / "manifest.yaml", len(entries), tuple(skipped))


def choose(items: Sequence[CatalogueItem], everything: bool) -> list[tuple[str, CatalogueItem]]:
    """Give each model an id of its own and keep the selection, or all. Raises FetchError if the selection has gaps."""
    named: dict[str, CatalogueItem] = {}
    for item in items:
        identity, source = item.id, item.archive.stem
        for candidate in (identity, f"{identity}-{source}", *(f"{identity}-{source}-{n}" for n in range(2, 100))):
            if candidate.lower() not in {k.lower() for k in named}:
                named[candidate] = item
                break
    if everything:
        return list(named.items())
    missing = sorted(set(SELECTION) - set(named))
    if missing:
        raise FetchError(
            f"{len(missing)} of the selected models are not in these files ({', '.join(missing[:5])}, ...); "
            f"the selection needs {ARCHIVES[0]} of the package {FURNITURE}. Use --all for whatever is there."
        )
    return [(identity, named[identity]) for identity in SELECTION]


def _archives(scratch: Path, everything: bool, files: list[Path], report: Progress) -> list[Path]:
    """The catalogue archives to read, in the order of ARCHIVES."""
    for file in files:
        if not file.is_file():
            raise FetchError(f"{file}: no such file")
    if not files:
        packages = [FURNITURE, PROGRAM] if everything else [FURNITURE]
        report(f"apt-get download {' '.join(packages)}", 0, 1)
        files = _download(scratch, packages)
    found = [f for f in files if f.suffix != ".deb"]
    for i, deb in enumerate(f for f in files if f.suffix == ".deb"):
        report(f"unpacking {deb.name}", i, len(files))
        target = scratch / f"deb{i}"
        _run(["dpkg-deb", "-x", str(deb), str(target)], f"{deb} could not be unpacked")
        found += [p for p in target.rglob("*") if p.name in ARCHIVES]
    if not found:
        raise FetchError(f"none of the given files holds a furniture catalogue ({', '.join(ARCHIVES)})")
    return sorted(found, key=lambda p: (ARCHIVES.index(p.name) if p.name in ARCHIVES else len(ARCHIVES), p.name))


def _download(scratch: Path, packages: list[str]) -> list[Path]:
    """`apt-get download` into the scratch folder; needs no root and installs nothing."""
    advice = NO_APT.format(packages=" ".join(packages))
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise FetchError(f"this machine has no apt-get. {advice}")
    folder = scratch / "download"
    folder.mkdir()
    shown = subprocess.run(["apt-cache", "show", *packages], capture_output=True, text=True, check=False)
    if shown.returncode != 0:
        raise FetchError(
            f"apt knows no package {' '.join(packages)}: run `sudo apt-get update` (on Ubuntu with the component "
            f"'universe' switched on), then try again. {advice}"
        )
    _run(["apt-get", "download", *packages], f"`apt-get download {' '.join(packages)}` failed. {advice}", folder)
    return sorted(folder.glob("*.deb"))


def _run(command: list[str], problem: str, folder: Path | None = None) -> None:
    try:
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as e:
        raise FetchError(f"{problem}: {command[0]} is not installed") from e
    if result.returncode != 0:
        said = result.stderr.strip().splitlines()
        raise FetchError(f"{problem}\n{command[0]} said: {said[-1] if said else f'exit {result.returncode}'}")


def _read(archives: Iterable[Path]) -> list[CatalogueItem]:
    items = []
    for archive in archives:
        try:
            items += read_catalogue(archive)
        except Exception as e:  # a damaged zip raises half a dozen kinds
            raise FetchError(f"{archive.name}: is not a readable furniture catalogue ({e})") from e
    return items


def _write(out: Path, identity: str, item: CatalogueItem) -> dict[str, object]:
    """Unpack one model to out/<id>/ and return its manifest entry."""
    folder = out / identity
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in model_files(item).items():
        (folder / name).write_bytes(content)
    path = folder / Path(item.model).name
    scene = trimesh.load_scene(path, process=False, skip_materials=True)
    if not any(isinstance(g, trimesh.Trimesh) and len(g.faces) for g in scene.geometry.values()):
        raise ValueError("holds no triangles")  # the catalogue's light sources
    return {
        "id": identity,
        "category": SELECTION.get(identity) or category_of(item.name),
        "path": str(path.relative_to(out)),
        "unit": float(f"{metres_per_unit(item, scene.extents):.6g}"),
        "licence": item.licence,
        "creator": item.creator,
        "appearance": "auto",
        "pose_set": "upright",
        "up": up_axis(item),
    }
