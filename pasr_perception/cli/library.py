"""`pasr library ...`: build, look at, check and change mesh libraries, and fetch meshes to try it with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from pasr_perception.cli.mesh_options import MeshOptions, with_mesh_options
from pasr_perception.cli.terminal import complain, errors_in_words, progress_bar, tell_verified

if TYPE_CHECKING:
    from pasr_perception.library.build import BuildReport

# torch and trimesh are imported by the commands that need them: `pasr --help` answers at once

library_app = typer.Typer(help="Mesh libraries: what the system can recognise.", no_args_is_help=True)

STOPPED = "stopped; meshes that were finished are kept (go on with the same command and --resume)"

Library = Annotated[Path, typer.Argument(help="The library's folder.", show_default=False)]
Meshes = Annotated[
    list[Path], typer.Argument(help="Mesh files, folders of them, or manifests (.yaml).", show_default=False)
]


@library_app.command()
@with_mesh_options
def build(
    meshes: Meshes,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the new library.", show_default=False)],
    options: MeshOptions,
    force: Annotated[bool, typer.Option("--force", help="Replace the library that is there.")] = False,
) -> None:
    """Make a library of meshes. What a manifest says of a mesh goes before these options."""
    with errors_in_words(STOPPED):
        from pasr_perception.encoders import load_encoder
        from pasr_perception.library.build import build_library
        from pasr_perception.library.store import LibraryError, delete_library

        if force and options.resume:
            raise ValueError("--force and --resume: expected one of them, not both")
        sources, settings = options.sources(meshes), options.settings()
        loaded, _ = load_encoder(settings.encoder)
        if (output / "library.json").exists() and not options.resume:
            if not force:
                raise LibraryError(
                    f"{output}: is a library already; use --resume to go on with it, --force to replace it, or "
                    "`pasr library add`"
                )
            delete_library(output)
        with progress_bar(len(sources)) as tell:
            report = build_library(sources, output, loaded, settings.library, tell, options.resume)
    _say(report, output)


@library_app.command()
@with_mesh_options
def add(library: Library, meshes: Meshes, options: MeshOptions) -> None:
    """Add meshes to a library. What a manifest says of a mesh goes before these options."""
    with errors_in_words(STOPPED):
        from pasr_perception.encoders import load_encoder
        from pasr_perception.library.build import add_to_library
        from pasr_perception.library.store import MeshLibrary

        sources = options.sources(meshes)
        settings = options.settings(MeshLibrary.open(library).header)
        loaded, _ = load_encoder(settings.encoder)
        with progress_bar(len(sources)) as tell:
            report = add_to_library(library, sources, loaded, settings.library, tell, options.resume)
    _say(report, library)


@library_app.command()
def relearn(
    lifted: Annotated[Path, typer.Argument(help="A library of lifted features.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the new library.", show_default=False)],
    features: Annotated[str, typer.Option(help="learned, both or auto; lifted to adapt alone.")] = "both",
    adapter: Annotated[str, typer.Option(help="Weights of a feature adapter (pasr train adapter).")] = "",
    point_encoder: Annotated[str, typer.Option(help="Weights of a point encoder (pasr train points).")] = "",
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
) -> None:
    """Make a library of learned features, of both, or of adapted ones, from a lifted one: the same meshes, seen in its views."""
    with errors_in_words(STOPPED):
        import dataclasses

        from pasr_perception.config import PasrConfig, load_config
        from pasr_perception.encoders import load_encoder
        from pasr_perception.library.opening import encoder_for
        from pasr_perception.library.relearn import relearn_library
        from pasr_perception.library.store import MeshLibrary

        settings = load_config(config) if config else PasrConfig()
        points = point_encoder or settings.library.point_encoder
        wanted = dataclasses.replace(settings.library, features=features, point_encoder=points)
        encoder = dataclasses.replace(settings.encoder, adapter=adapter or settings.encoder.adapter)
        loaded, _ = load_encoder(encoder_for(MeshLibrary.open(lifted).header, encoder))
        with progress_bar(None) as tell:
            report = relearn_library(lifted, output, loaded, wanted, tell)
    _say(report, output)


@library_app.command()
def rebuild(
    old: Annotated[Path, typer.Argument(help="A library; the files that it was built from must be there.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the new library.", show_default=False)],
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
) -> None:
    """Make a library of the same meshes anew: with other settings, another encoder, or by a newer version."""
    with errors_in_words(STOPPED):
        from pasr_perception.config import PasrConfig, load_config
        from pasr_perception.encoders import load_encoder
        from pasr_perception.library.relearn import rebuild_library

        settings = load_config(config) if config else PasrConfig()
        loaded, _ = load_encoder(settings.encoder)
        with progress_bar(None) as tell:
            report = rebuild_library(old, output, loaded, settings.library, tell)
    _say(report, output)


@library_app.command()
def remove(
    library: Library, ids: Annotated[list[str], typer.Argument(help="Ids of meshes.", show_default=False)]
) -> None:
    """Take meshes out of a library."""
    with errors_in_words():
        from pasr_perception.library.build import remove_from_library

        left = remove_from_library(library, ids)
    typer.echo(f"removed {len(set(ids))}, {left} left")


@library_app.command()
def info(
    library: Library, as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False
) -> None:
    """Show what a library holds."""
    with errors_in_words():
        from pasr_perception.library.schema import listing_to_text
        from pasr_perception.library.store import MeshLibrary

        opened = MeshLibrary.open(library)
    header, entries = opened.header, opened.entries
    if as_json:
        typer.echo(listing_to_text(opened.listing), nl=False)
        return
    size = sum(e.mesh_bytes + e.data_bytes for e in entries) / 2**20
    typer.echo(f"{opened.path}: {len(entries)} meshes, {size:.1f} MiB")
    typer.echo(
        f"encoder {header.encoder_name} ({header.encoder_fingerprint}): {header.encoder_dim} channels, "
        f"{header.grid} x {header.grid} cells of crops of {header.image_size} pixels"
    )
    typer.echo(f"point features: {header.features}")
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
    tell_verified(problems, f"{opened.path}: {len(opened)} meshes")


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
        complain(f"skipped {line}")
    typer.echo(f"{fetched.meshes} meshes, with sizes, licences and creators in {fetched.manifest}")
    typer.echo(f"next: pasr library build {output} -o lib/")


def _say(report: BuildReport, library: Path) -> None:
    for mesh_id, reason in report.skipped:
        complain(f"skipped {mesh_id}: {reason}")
    there = f", {len(report.kept)} were there" if report.kept else ""
    typer.echo(f"{library}: {len(report.built)} meshes built, {len(report.skipped)} skipped{there}")
    if not report.built and not report.kept:
        raise typer.Exit(1)
