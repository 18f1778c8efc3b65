"""`pasr bench`: what the search costs, against its baselines, over library sizes; JSON, tables and a scaling plot."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from pasr_perception.cli.terminal import errors_in_words, progress_bar

if TYPE_CHECKING:
    from pasr_perception.benchmark.plan import BenchPlan, Subject

DEMO = Path("out/demo")
BUSY = 0.5  # load average above which timings deserve a remark
QUICK_MESHES = 12  # built where there is no library yet


def bench_command(
    library: Annotated[
        Path | None,
        typer.Option(
            "--library", "-l", help="A built library; default: that of `pasr demo`, or one made of its meshes."
        ),
    ] = None,
    bag: Annotated[
        Path | None,
        typer.Option(help="Photos to ask about; default: the demo's bag, or simulated photos of the library."),
    ] = None,
    json_file: Annotated[Path, typer.Option("--json", help="Where the figures go; the plot goes beside it.")] = Path(
        "out/bench/bench.json"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer repeats and queries: minutes instead of half an hour.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings, as for the node.")] = None,
    work: Annotated[Path, typer.Option(help="Folder for what is made on the way.")] = Path("out/bench"),
    seed: Annotated[int, typer.Option(min=0, help="Of simulated photos and jittered copies.")] = 0,
) -> None:
    """Measure stage times, memory, agreement with exhaustive search and refinement, against baselines in the same process."""
    with errors_in_words():
        from pasr_perception.benchmark.plan import QUICK, BenchPlan
        from pasr_perception.benchmark.plot import scaling_plot
        from pasr_perception.benchmark.report import headline_table, stage_table
        from pasr_perception.benchmark.run import run
        from pasr_perception.library.files import write_atomically

        plan = replace(QUICK if quick else BenchPlan(), seed=seed)
        subject = subject_of(library, bag, config, plan, work)
        with progress_bar(None) as tell:
            report = run(subject, plan, work, tell)
        text = json.dumps(report.to_json(), indent=1, allow_nan=False)
        write_atomically(json_file, lambda p: p.write_text(text + "\n", encoding="utf-8"))
        plot = json_file.with_suffix(".png")
        drawn = scaling_plot(report.stages, plot)
    console = Console()
    console.print(stage_table(report))
    console.print(headline_table(report))
    if report.machine.load_before > BUSY:
        console.print(f"load average before the run: {report.machine.load_before}: other processes were at work")
    for name, why in report.not_measured:
        console.print(f"not measured: {name}: {why}", soft_wrap=True, highlight=False)
    console.print(f"figures: {json_file}" + (f"\nplot:    {plot}" if drawn else ""), soft_wrap=True)


def subject_of(library: Path | None, bag: Path | None, config: Path | None, plan: BenchPlan, work: Path) -> Subject:
    """What is to be measured: the given library, photos and settings, or the demo's where there is None."""
    from pasr_perception.benchmark.plan import Subject
    from pasr_perception.benchmark.queries import bag_queries, simulated_queries
    from pasr_perception.config import PasrConfig, load_config
    from pasr_perception.library.opening import open_with_encoder

    settings = load_config(config) if config else PasrConfig()
    folder = library or _demo_library(work, plan.quick)
    bag = bag or (_demo_bag() if library is None else None)
    opened, encoder, device = open_with_encoder(folder, settings.encoder)
    if bag is not None:
        return Subject(opened, encoder, device, settings, bag_queries(bag), f"bag {bag}")
    photos = f"{plan.photos} simulated photos of the library's meshes"
    return Subject(opened, encoder, device, settings, simulated_queries(folder, plan.photos, plan.seed), photos)


def _demo_library(work: Path, quick: bool) -> Path:
    """The demo's library where it is, else one built of the demo's meshes (fetched as `pasr demo` does) in `work`."""
    from pasr_perception.cli.demo import ready_library
    from pasr_perception.library.demo_meshes import fetch_demo
    from pasr_perception.library.manifest import sources_from_paths

    if (DEMO / "library" / "library.json").is_file():
        return DEMO / "library"
    meshes = DEMO / "meshes" if (DEMO / "meshes" / "manifest.yaml").is_file() else work / "meshes"
    if not (meshes / "manifest.yaml").is_file():
        with progress_bar(None) as tell:
            fetch_demo(meshes, progress=tell)
    sources = sources_from_paths([meshes])
    if quick:
        step = max(len(sources) // QUICK_MESHES, 1)
        sources = sources[::step][:QUICK_MESHES]
    folder = work / ("library_quick" if quick else "library")
    ready_library(sources, folder)
    return folder


def _demo_bag() -> Path | None:
    """The demo's latest bag, if there is one and the demo's library is what is measured."""
    if not (DEMO / "library" / "library.json").is_file():
        return None
    bags = [path.parent for path in DEMO.glob("bag_*/metadata.yaml")]
    return max(bags, key=lambda path: path.stat().st_mtime, default=None)
