"""`pasr library ...`: build, look at, check and change mesh libraries, and fetch meshes to try it with."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from pasr_perception.config import PasrConfig
    from pasr_perception.library.build import BuildReport
    from pasr_perception.library.build import Progress as Tell

# torch and trimesh are imported by the commands that need them: `pasr --help` answers at once

library_app = typer.Typer(help="Mesh libraries: what the system can recognise.", no_args_is_help=True)

Library = Annotated[Path, typer.Argument(help="The library's folder.", show_default=False)]
Meshes = Annotated[
    list[Path], typer.Argument(help="Mesh files, folders of them, or manifests (.yaml).", show_default=False)
]
Unit = Annotated[str, typer.Option(help="Length unit of the files: m, cm, mm, in, ft or metres per unit.")]
Category = Annotated[str, typer.Option(help="Category of meshes whose folder or manifest names none.")]
Appearance = Annotated[str, typer.Option(help="known: colours are those of the real thing; unknown; or auto.")]
PoseSet = Annotated[str, typer.Option(help="upright: things that stand; so3: any orientation.")]
Up = Annotated[str, typer.Option(help="The meshes' own axis that points up, e.g. +y or +z (for upright).")]
Licence = Annotated[str, typer.Option(help="Licence of the meshes, kept with each.")]
Creator = Annotated[str, typer.Option(help="Who made the meshes, kept with each.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file of settings (see config/pasr.yaml).")]
EncoderName = Annotated[str | None, typer.Option("--encoder", help="efficientnet-lite0, dinov2 or dinov3.")]
Weights = Annotated[str | None, typer.Option(help="Folder or hub id of dinov2/dinov3 weights.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:0 ...")]


@library_app.command()
def build(
    meshes: Meshes,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the new library.", show_default=False)],
    unit: Unit = "m",
    category: Category = "object",
    appearance: Appearance = "auto",
    pose_set: PoseSet = "so3",
    up: Up = "+y",
    licence: Licence = "unknown",
    creator: Creator = "unknown",
    config: ConfigFile = None,
    encoder: EncoderName = None,
    weights: Weights = None,
    device: Device = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the library that is there.")] = False,
) -> None:
    """Make a library of meshes. What a manifest says of a mesh goes before these options."""
    with errors_in_words():
        from pasr_perception.encoders import load_encoder
        from pasr_perception.library.build import build_library
        from pasr_perception.library.manifest import SourceDefaults, parse_unit, sources_from_paths
        from pasr_perception.library.store import LibraryError, delete_library

        defaults = SourceDefaults(parse_unit(unit), category, licence, creator, appearance, pose_set, up)
        sources = sources_from_paths(meshes, defaults)
        settings = _settings(config, encoder, weights, device)
        loaded, _ = load_encoder(settings.encoder)
        if (output / "library.json").exists():
            if not force:
                raise LibraryError(f"{output}: is a library already; use --force to replace it, or `pasr library add`")
            delete_library(output)
        with progress_bar(len(sources)) as tell:
            report = build_library(sources, output, loaded, settings.library, progress=tell)
    _say(report, output)


@library_app.command()
def add(
    library: Library,
    meshes: Meshes,
    unit: Unit = "m",
    category: Category = "object",
    appearance: Appearance = "auto",
    pose_set: PoseSet = "so3",
    up: Up = "+y",
    licence: Licence = "unknown",
    creator: Creator = "unknown",
    config: ConfigFile = None,
    encoder: EncoderName = None,
    weights: Weights = None,
    device: Device = None,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out ids that are there already.")
    ] = False,
) -> None:
    """Add meshes to a library, or go on with a build that was stopped (--skip-existing)."""
    with errors_in_words():
        from pasr_perception.encoders import load_encoder
        from pasr_perception.library.build import add_to_library
        from pasr_perception.library.manifest import SourceDefaults, parse_unit, sources_from_paths
        from pasr_perception.library.store import LibraryError, MeshLibrary

        defaults = SourceDefaults(parse_unit(unit), category, licence, creator, appearance, pose_set, up)
        sources = sources_from_paths(meshes, defaults)
        opened = MeshLibrary.open(library)
        present = {e.id.lower() for e in opened.entries}
        known = [s.id for s in sources if s.id.lower() in present]
        if known and not skip_existing:
            raise LibraryError(
                f"{library}: holds {', '.join(known[:5])}{' ...' if len(known) > 5 else ''} already; remove them first "
                "(`pasr library remove`), or leave them out with --skip-existing"
            )
        sources = [s for s in sources if s.id.lower() not in present]
        settings = _settings(config, encoder or opened.header.encoder_name, weights, device)
        loaded, _ = load_encoder(settings.encoder)
        with progress_bar(len(sources)) as tell:
            report = add_to_library(library, sources, loaded, settings.library, progress=tell)
    _say(report, library, nothing_to_do=not sources)


@library_app.command()
def remove(
    library: Library, ids: Annotated[list[str], typer.Argument(help="Ids of meshes.", show_default=False)]
) -> None:
    """Take meshes out of a library."""
    with errors_in_words():
        from pasr_perception.library.store import LibraryError, LibraryWriter

        with LibraryWriter.open(library) as writer:
            missing = sorted(set(ids) - {e.id for e in writer.entries})
            if missing:
                raise LibraryError(f"{library}: holds no mesh {', '.join(missing)}; nothing was removed")
            for mesh_id in dict.fromkeys(ids):
                writer.remove(mesh_id)
            left = len(writer.entries)
    typer.echo(f"removed {len(set(ids))}, {left} left")


@library_app.command()
def info(
    library: Library, as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False
) -> None:
    """Show what a library holds."""
    with errors_in_words():
        from pasr_perception.library.format import library_to_json
        from pasr_perception.library.store import MeshLibrary

        opened = MeshLibrary.open(library)
    header, entries = opened.header, opened.entries
    if as_json:
        typer.echo(json.dumps(library_to_json(header, entries), indent=1, ensure_ascii=False))
        return
    size = sum(e.mesh_bytes + e.data_bytes for e in entries) / 2**20
    typer.echo(f"{opened.path}: {len(entries)} meshes, {size:.1f} MiB")
    typer.echo(
        f"encoder {header.encoder_name} ({header.encoder_fingerprint}): {header.encoder_dim} channels, "
        f"{header.grid} x {header.grid} cells of crops of {header.image_size} pixels"
    )
    table = Table("id", "category", "size, m", "triangles", "appearance", "poses", "licence", "creator")
    for e in entries:
        extent = " x ".join(f"{x:.3g}" for x in e.extent)
        table.add_row(e.id, e.category, extent, str(e.faces), e.appearance, e.pose_set, e.licence, e.creator)
    Console().print(table)


@library_app.command()
def verify(library: Library) -> None:
    """Read every file of a library and compare its checksum. Exit status 1 if anything is wrong."""
    with errors_in_words():
        from pasr_perception.library.store import MeshLibrary

        opened = MeshLibrary.open(library)
        problems = opened.verify()
    for problem in problems:
        _complain(problem, "red")
    if problems:
        raise typer.Exit(1)
    typer.echo(f"{opened.path}: {len(opened)} meshes, all as they were written")


@library_app.command("fetch-demo")
def fetch_demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.", show_default=False)],
    everything: Annotated[bool, typer.Option("--all", help="All 900 models, not only the selection.")] = False,
    from_deb: Annotated[
        list[Path] | None, typer.Option("--from-deb", help="Local .deb or .sh3f files, instead of apt; repeatable.")
    ] = None,
) -> None:
    """Get furniture and household meshes of Sweet Home 3D from Debian's packages (120 MB), with a manifest."""
    with errors_in_words():
        from pasr_perception.library import demo_meshes

        with progress_bar(None) as tell:
            fetched = demo_meshes.fetch_demo(output, everything, tuple(from_deb or ()), tell)
    for line in fetched.skipped:
        _complain(f"skipped {line}", "yellow")
    typer.echo(f"{fetched.meshes} meshes, with sizes, licences and creators in {fetched.manifest}")
    typer.echo(f"next: pasr library build {output} -o lib/")


def _settings(config: Path | None, encoder: str | None, weights: str | None, device: str | None) -> PasrConfig:
    from pasr_perception.config import PasrConfig, load_config

    settings = load_config(config) if config else PasrConfig()
    said = {"name": encoder, "weights": weights, "device": device}
    changes: dict[str, Any] = {k: v for k, v in said.items() if v is not None}
    chosen = dataclasses.replace(settings.encoder, **changes)
    return dataclasses.replace(settings, encoder=chosen)


@contextlib.contextmanager
def progress_bar(total: int | None) -> Iterator[Tell]:
    """A progress bar that the library code moves by calling it with (what, done, total)."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("starting", total=total)

        def tell(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield tell


def _complain(line: str, colour: str) -> None:
    typer.secho(line, err=True, fg=colour)


def _say(report: BuildReport, library: Path, nothing_to_do: bool = False) -> None:
    for mesh_id, reason in report.skipped:
        _complain(f"skipped {mesh_id}: {reason}", "yellow")
    typer.echo(f"{library}: {len(report.built)} meshes built, {len(report.skipped)} skipped")
    if not report.built and not nothing_to_do:
        raise typer.Exit(1)


@contextlib.contextmanager
def errors_in_words() -> Iterator[None]:
    """What a user can mend is said on stderr, with exit status 1; everything else keeps its traceback."""
    from pasr_perception.encoders.base import EncoderError
    from pasr_perception.library.demo_meshes import FetchError
    from pasr_perception.library.files import LibraryError

    try:
        yield
    except (LibraryError, EncoderError, FetchError, ValueError, OSError) as error:
        _complain(f"error: {error}", "red")
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        _complain(
            "stopped; meshes that were finished are kept (go on with `pasr library add --skip-existing`)", "yellow"
        )
        raise typer.Exit(130) from None
