"""`pasr data ...`: synthetic photos of meshes, look-alikes among them, and the benchmark that both make."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pasr_perception.cli.terminal import complain, errors_in_words, progress_bar, tell_verified

if TYPE_CHECKING:
    from pasr_perception.data.synthetic.generate import Made, PhotoPlan
    from pasr_perception.library.manifest import MeshSource

data_app = typer.Typer(help="Synthetic photos with pose, mask, depth and NOC.", no_args_is_help=True)

STOPPED = "stopped; photos that were finished are kept (the same command goes on)"
BENCHMARK_SEED = 2024

Meshes = Annotated[
    list[Path], typer.Argument(help="Mesh files, folders of them, or manifests (.yaml).", show_default=False)
]
Split = Annotated[str, typer.Option(help="Only meshes of this split: train, validation, test; all: every mesh.")]
LookAlikes = Annotated[
    Path | None, typer.Option("--look-alikes", help="Groups that go to the test split; default: Sweet Home 3D's.")
]
PerMesh = Annotated[int, typer.Option("--per-mesh", min=1, help="Photos of each mesh at each level.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same photos.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes; 0 = one per core.")]


@data_app.command()
def generate(
    meshes: Meshes,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the photos.")],
    split: Split = "all",
    look_alikes: LookAlikes = None,
    levels: Annotated[str, typer.Option(help="Occlusion levels, with commas between.")] = "L0,L1,L2,L3",
    per_mesh: PerMesh = 2,
    looks: Annotated[str, typer.Option(help="Shares of own, recoloured, textured and bare surfaces.")] = (
        "own=0.5,recoloured=0.5"
    ),
    truncated: Annotated[float, typer.Option(help="Share of photos whose border cuts the object.")] = 0.0,
    clutter: Annotated[int, typer.Option(min=0, help="Other meshes beside and behind the object, at most.")] = 4,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT in pixels.")] = "640x480",
    layers: Annotated[str, typer.Option(help="Files of each photo: rgb and mask, and any of depth, noc.")] = (
        "rgb,mask,depth,noc"
    ),
    seed: Seed = 0,
    workers: Workers = 0,
) -> None:
    """Photograph meshes, one object each, as much hidden as each level says. The same command goes on where it was stopped."""
    with errors_in_words(STOPPED):
        from pasr_perception.cli.bag import parse_size
        from pasr_perception.data.split import meshes_of, read_look_alikes
        from pasr_perception.data.synthetic.generate import PhotoPlan
        from pasr_perception.data.synthetic.spec import PhotoSpec
        from pasr_perception.library.manifest import sources_from_paths

        sources = sources_from_paths(meshes)
        if split != "all":
            groups = None if look_alikes is None else read_look_alikes(look_alikes)
            chosen = set(meshes_of(split, (s.id for s in sources), groups))
            sources = [s for s in sources if s.id in chosen]
        width, height = parse_size(size)
        spec = PhotoSpec(width, height, looks=_shares(looks), truncated=truncated, clutter=clutter)
        plan = PhotoPlan(tuple(levels.split(",")), per_mesh, tuple(layers.split(",")), spec, seed)
        made = _generate(out, sources, plan, workers)
    _say(made, out)


@data_app.command()
def benchmark(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for meshes, library and photos.")],
    meshes: Annotated[
        Path | None, typer.Option(help="A folder that `pasr library fetch-demo --all` wrote; default: fetch it.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Meshes of the test split.")] = 110,
    photographed: Annotated[int, typer.Option(min=0, help="How many of them are photographed; 0 = all.")] = 0,
    per_mesh: PerMesh = 1,
    library: Annotated[bool, typer.Option(help="Build the library too.")] = True,
    seed: Seed = BENCHMARK_SEED,
    workers: Workers = 0,
) -> None:
    """Make the test benchmark: photos at four levels of meshes that nothing was trained on, and the library to find them in."""
    with errors_in_words(STOPPED):
        from pasr_perception.cli.demo import ready_library
        from pasr_perception.data.synthetic.generate import PhotoPlan
        from pasr_perception.data.test_bench import choose_test_meshes
        from pasr_perception.library.demo_meshes import fetch_demo
        from pasr_perception.library.manifest import sources_from_paths

        folder = meshes or out / "meshes"
        if not (folder / "manifest.yaml").is_file():
            with progress_bar(None) as tell:
                fetch_demo(folder, everything=True, progress=tell)
        sources = choose_test_meshes(sources_from_paths([folder]), count)
        shown = choose_test_meshes(sources, photographed) if photographed else sources
        made = _generate(out / "photos", shown, PhotoPlan(per_mesh=per_mesh, seed=seed), workers)
        _say(made, out / "photos")
        if library:
            ready_library(sources, out / "library")


@data_app.command("look-alikes")
def look_alikes_command(
    meshes: Meshes, out: Annotated[Path, typer.Option("--out", "-o", help="The .yaml file to write.")]
) -> None:
    """Find meshes whose surfaces agree after the best rotation and scale; the split keeps them together."""
    with errors_in_words():
        from pasr_perception.data.look_alikes import find_look_alikes, write_look_alikes
        from pasr_perception.library.manifest import sources_from_paths

        sources = sources_from_paths(meshes)
        with progress_bar(len(sources)) as tell:
            groups = find_look_alikes(sources, tell)
        write_look_alikes(out, groups)
    typer.echo(f"{out}: {len(groups)} groups of {sum(map(len, groups))} meshes, of {len(sources)}")


@data_app.command()
def verify(photos: Annotated[Path, typer.Argument(help="Folder of the photos.", show_default=False)]) -> None:
    """Read every file of a set of photos and compare its checksum. Exit status 1 if anything is wrong."""
    with errors_in_words():
        from pasr_perception.data.synthetic.photo_set import PhotoSet

        opened = PhotoSet.open(photos)
        problems = opened.verify()
    tell_verified(problems, f"{photos}: {len(opened.records)} photos")


def _generate(out: Path, sources: list[MeshSource], plan: PhotoPlan, workers: int) -> Made:
    from pasr_perception.data.synthetic.generate import generate_photos

    with progress_bar(len(sources) * len(plan.levels) * plan.per_mesh) as tell:
        return generate_photos(out, sources, plan, workers, tell)


def _say(made: Made, out: Path) -> None:
    for line in made.failed:
        complain(f"left out {line}")
    typer.echo(f"{out}: {made.photos} photos, {made.made} of them new, {len(made.failed)} could not be made")


def _shares(text: str) -> dict[str, float]:
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {name.strip(): float(value) for name, value in pairs}
    except ValueError:
        raise ValueError(f"--looks: expected shares such as own=0.5,recoloured=0.5, got {text!r}") from None
