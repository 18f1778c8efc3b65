"""`pasr evaluate ...`: methods against synthetic and real photos."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pasr_perception.cli.terminal import errors_in_words, progress_bar

if TYPE_CHECKING:
    from pasr_perception.pipeline import Pipeline

evaluate_app = typer.Typer(help="How good a method is, on synthetic photos, real ones and the papers' data sets.")

Library = Annotated[Path, typer.Option("--library", "-l", help="A library made by `pasr library build`.")]
MethodName = Annotated[
    str, typer.Option(help="chance, pooled, global, lifted, learned or both; the last three name the library's kind.")
]
Ranker = Annotated[
    str,
    typer.Option(
        help="Of method global: weights of `pasr train global`, or module:function that makes a ranker of a pipeline; "
        "default: the package's own weights."
    ),
]
Config = Annotated[Path | None, typer.Option(help="YAML file of settings.")]
Docs = Annotated[
    Path, typer.Option("--docs", help="Folder whose results.json, results/ and results.md the numbers go to.")
]
Memory = Annotated[
    Path | None,
    typer.Option("--memory", help="Folder of encoded crops: several methods on the same photos encode once."),
]
Seed = Annotated[int, typer.Option(help="Of the boxes' jitter and of chance.")]


@evaluate_app.command("synthetic")
def synthetic_command(
    photos: Annotated[Path, typer.Argument(help="Photos made by `pasr data generate` or `benchmark`.")],
    library: Library,
    docs: Docs,
    method: MethodName = "lifted",
    ranker: Ranker = "",
    levels: Annotated[str, typer.Option(help="Occlusion levels, with commas between.")] = "L0,L1,L2,L3",
    boxes: Annotated[str, typer.Option(help="whole: around all of the object; visible: around what is seen.")] = (
        "whole"
    ),
    jitter: Annotated[float, typer.Option(help="How far each edge of a box is off, as a share of the side.")] = 0.05,
    limit: Annotated[int, typer.Option(min=0, help="Photos per level at most; 0 = all.")] = 0,
    repeats: Annotated[int, typer.Option(min=1, help="Times each photo is asked about, with other boxes.")] = 1,
    transfer: Annotated[str, typer.Option(help="Name of another library's source: the numbers go beside.")] = "",
    config: Config = None,
    memory: Memory = None,
    seed: Seed = 0,
) -> None:
    """One method on synthetic photos at each occlusion level: retrieval, category, pose of the retrieved mesh."""
    with errors_in_words():
        from pasr_perception.data.synthetic.photo_set import PhotoSet
        from pasr_perception.evaluation.methods import make_method
        from pasr_perception.evaluation.results_file import merge_results
        from pasr_perception.evaluation.same_picture import SamePicture
        from pasr_perception.evaluation.synthetic import (
            PhotoProtocol,
            evaluate_photos,
            mesh_kinds,
            results_entry,
            synthetic_report,
            with_same_pictures,
        )

        pipeline = _opened(library, config, memory)
        made = make_method(method, pipeline, ranker, seed)
        protocol = PhotoProtocol(boxes, jitter, seed, tuple(levels.split(",")), limit, repeats)
        taken = PhotoSet.open(photos)
        with progress_bar(None) as tell:
            outcomes = evaluate_photos(taken, pipeline.library, made, protocol, tell)
        with progress_bar(None) as tell:
            outcomes = with_same_pictures(outcomes, taken, SamePicture(pipeline.library), tell)
        kinds = mesh_kinds(pipeline.library)
        report = synthetic_report(outcomes, kinds)
        about = (
            f"{len(kinds)} meshes of {len({k.category for k in kinds.values()})} categories, "
            f"{len({k.group for k in kinds.values()} - {None})} groups of look-alikes; boxes around the {boxes} object, "
            f"jittered {jitter:.0%}; seed {seed}."
        )
        kind = "transfer" if transfer else "synthetic" if boxes == "whole" else "visible"
        name = "_".join(filter(None, (kind, transfer, method)))
        if kind == "synthetic":
            merge_results(docs, kind, method, results_entry(report))
        entry = {"kind": kind, "method": method, "about": f"{transfer} {about}".strip(), "levels": report}
        _published(docs, name, entry)


@evaluate_app.command("bop")
def bop_command(
    photos: Annotated[Path, typer.Argument(help="A BOP data set, split or scene folder.")],
    library: Library,
    docs: Docs,
    method: MethodName = "lifted",
    ranker: Ranker = "",
    every: Annotated[int, typer.Option(min=1, help="Only every n-th photo.")] = 1,
    jitter: Annotated[float, typer.Option(help="How far each edge of a box is off, as a share of the side.")] = 0.1,
    config: Config = None,
    memory: Memory = None,
    seed: Seed = 0,
) -> None:
    """One method on real photos with known poses: identity, shape class, ADD-S, MSSD, MSPD and, with depth, VSD."""
    with errors_in_words():
        from pasr_perception.evaluation.methods import make_method
        from pasr_perception.evaluation.real_photos import RealProtocol, judge_photos, real_report, real_results
        from pasr_perception.evaluation.results_file import merge_results

        pipeline = _opened(library, config, memory)
        made = make_method(method, pipeline, ranker, seed)
        protocol = RealProtocol(jitter=jitter, seed=seed, every=every)
        with progress_bar(None) as tell:
            judged, facts = judge_photos(photos, pipeline.library, made, protocol, tell)
        report = real_report(judged, facts)
        photos_asked = "every photo" if every == 1 else f"one photo in {every}"
        about = (
            f"{len(facts)} meshes; {len(judged)} objects at least {protocol.min_visibility:.0%} visible, "
            f"of {photos_asked}; boxes around what is seen, jittered {jitter:.0%}; seed {seed}."
        )
        merge_results(docs, "hope_dev", method, real_results(report))
        entry = {"kind": "hope_dev", "method": method, "about": about, "parts": report}
        _published(docs, f"hope_dev_{method}", entry)


@evaluate_app.command("papers")
def papers_command(
    data: Annotated[str, typer.Argument(help="pix3d or pascal3d.")],
    photos: Annotated[Path, typer.Argument(help="The data set's folder, as it was published.")],
    library: Annotated[Path, typer.Option("--library", "-l", help="Of the data set's models; built if not there.")],
    docs: Docs,
    method: MethodName = "lifted",
    ranker: Ranker = "",
    config: Config = None,
    memory: Memory = None,
    seed: Seed = 0,
) -> None:
    """One method on Pix3D or Pascal3D+: retrieval, category, pose and shape of the retrieved mesh; annotated boxes."""
    with errors_in_words():
        from pasr_perception.cli.demo import ready_library
        from pasr_perception.evaluation.methods import make_method
        from pasr_perception.evaluation.papers import judge_papers, paper_data, papers_report

        frames, sources = paper_data(data, photos)
        if not library.exists():
            ready_library(sources, library)
        pipeline = _opened(library, config, memory)
        made = make_method(method, pipeline, ranker, seed)
        with progress_bar(None) as tell:
            outcomes = judge_papers(frames, pipeline.library, made, tell)
        about = f"{data}: {len(pipeline.library.entries)} meshes, {len(outcomes)} whole objects; annotated boxes."
        parts = papers_report(outcomes, pipeline.library)
        entry = {"kind": "papers", "data": data, "method": method, "about": about, "parts": parts}
        _published(docs, f"papers_{data}_{method}", entry)


@evaluate_app.command("ablate")
def ablate_command(
    photos: Annotated[Path, typer.Argument(help="Photos made by `pasr data generate` or `benchmark`.")],
    library: Library,
    docs: Docs,
    also: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=LIBRARY: the same meshes with other point features, beside them. NAME=LIBRARY,YAML: with those of another "
            "encoder, as that file of settings names it."
        ),
    ] = None,
    levels: Annotated[str, typer.Option(help="Occlusion levels, with commas between.")] = "L0,L2",
    jitter: Annotated[float, typer.Option(help="How far each edge of a box is off, as a share of the side.")] = 0.05,
    limit: Annotated[int, typer.Option(min=0, help="Photos per level at most; 0 = all.")] = 0,
    families: Annotated[str, typer.Option(help="What is varied, with commas between; `views` takes longest.")] = (
        "refinement,steps,unknowns,features,views"
    ),
    memory: Memory = None,
    config: Config = None,
    seed: Seed = 0,
) -> None:
    """What each part is worth: refinement, its steps and unknowns, where point features come from, the number of views."""
    with errors_in_words():
        from pasr_perception.data.synthetic.photo_set import PhotoSet
        from pasr_perception.evaluation.ablation import Beside, ablate, look_at_photos
        from pasr_perception.evaluation.synthetic import PhotoProtocol

        pipeline = _opened(library, config, memory)
        named = [_named(text) for text in also or []]
        opened = {n: _opened(path, own, memory) if own else pipeline.reopened(path) for n, path, own in named}
        protocol = PhotoProtocol(jitter=jitter, seed=seed, levels=tuple(levels.split(",")), limit=limit)
        taken = PhotoSet.open(photos)
        with progress_bar(None) as tell:
            asked = look_at_photos(pipeline, taken, protocol, tell)
            same = {pipeline.encoder.fingerprint: asked}
            for other in opened.values():
                if other.encoder.fingerprint not in same:
                    same[other.encoder.fingerprint] = look_at_photos(other, taken, protocol, tell)
        others = {name: Beside(other, same[other.encoder.fingerprint]) for name, other in opened.items()}
        about = (
            f"{len(pipeline.library)} meshes, features {pipeline.library.header.features.kind}; boxes around the whole object, "
            f"jittered {jitter:.0%}; seed {seed}. One thing is changed at a time; shares of so few photos have a standard error "
            f"of up to {0.5 / (len(asked) / len(protocol.levels)) ** 0.5:.2f}."
        )
        for family in families.split(","):
            with progress_bar(None) as tell:
                variants = ablate(family, pipeline, others, asked, tell)
            entry = {"kind": "ablation", "method": family, "about": about, "variants": variants}
            _published(docs, f"ablation_{family}", entry)


@evaluate_app.command("pictures")
def pictures_command(
    photos: Annotated[Path, typer.Argument(help="Photos made by `pasr data generate` or `benchmark`.")],
    library: Library,
    docs: Docs,
    categories: Annotated[str, typer.Option(help="Whose point features are shown.")] = "chair,vehicle",
    levels: Annotated[str, typer.Option(help="Occlusion levels, with commas between.")] = "L0,L1,L2,L3",
    limit: Annotated[int, typer.Option(min=0, help="Photos per level at most; 0 = all.")] = 0,
    strips: Annotated[int, typer.Option(min=1, help="Photos of strips.jpg, evenly from all levels.")] = 8,
    memory: Memory = None,
    config: Config = None,
    seed: Seed = 0,
) -> None:
    """Point features across categories, retrieval strips as PASR's figure 3, and what went wrong with its cause."""
    with errors_in_words():
        from pasr_perception.data.synthetic.photo_set import PhotoSet
        from pasr_perception.evaluation.ablation import look_at_photos
        from pasr_perception.evaluation.pictures import CAUSES, write_pictures
        from pasr_perception.evaluation.synthetic import PhotoProtocol
        from pasr_perception.evaluation.tables import IMAGES

        pipeline = _opened(library, config, memory)
        protocol = PhotoProtocol(seed=seed, levels=tuple(levels.split(",")), limit=limit)
        with progress_bar(None) as tell:
            asked = look_at_photos(pipeline, PhotoSet.open(photos), protocol, tell)
        causes = write_pictures(docs / IMAGES, pipeline, asked, categories.split(","), strips)
        about = (
            f"{len(asked)} photos at {levels}, {len(pipeline.library)} meshes, features "
            f"{pipeline.library.header.features.kind}; boxes around the whole object, jittered {protocol.jitter:.0%}; seed {seed}."
        )
        counted = [{"cause": cause, "means": CAUSES[cause], "photos": causes[cause]} for cause in CAUSES]
        entry = {"kind": "pictures", "method": "pictures", "about": about, "photos": len(asked), "causes": counted}
        typer.echo(f"pictures: {docs / IMAGES}")
        _published(docs, "pictures", entry)


@evaluate_app.command("tables")
def tables_command(docs: Annotated[Path, typer.Argument(help="Folder with results/*.json.")] = Path("docs")) -> None:
    """Make results.md again from the reports that are there."""
    with errors_in_words():
        from pasr_perception.evaluation.tables import write_tables

        typer.echo(f"tables: {write_tables(docs)}")


@evaluate_app.command("calibrate")
def calibrate_command(
    bag: Annotated[Path, typer.Argument(help="A bag with truth, some of whose objects the library does not hold.")],
    library: Annotated[
        list[Path],
        typer.Option("--library", "-l", help="One to search in; may be given again, for all to be judged together."),
    ],
    config: Config = None,
    plot: Annotated[Path | None, typer.Option(help="PNG of the reliability diagram and the thresholds.")] = None,
) -> None:
    """Fit the settings `confidence.slope` and `confidence.intercept` to searches of a bag's objects.

    They are judged on meshes that the fit did not see, beside the settings that are in force.
    """
    with errors_in_words():
        from pasr_perception.config import PasrConfig, load_config
        from pasr_perception.data.bagio import read_frames
        from pasr_perception.evaluation.calibration import calibrate, collect, judge
        from pasr_perception.evaluation.reliability_plot import reliability_plot
        from pasr_perception.pipeline import Pipeline

        settings = load_config(config) if config else PasrConfig()
        examples = [e for path in library for e in collect(Pipeline.open(path, settings), read_frames(bag))]
        found, in_force = calibrate(examples, settings.confidence), judge(examples, settings.confidence)
        if plot is not None:
            reliability_plot(found, plot)
    table = Table("accept", "strangers taken for a mesh", "known ones turned down or wrong")
    for threshold, accepts, rejects in found.thresholds:
        table.add_row(f"{threshold:.2f}", f"{accepts:.3f}", f"{rejects:.3f}")
    console = Console()
    console.print(table)
    console.print(f"{found.examples} searches, expected calibration error {found.ece:.3f}; settings:")
    console.print(f"confidence: {{slope: {found.config.slope}, intercept: {found.config.intercept}}}", soft_wrap=True)
    threshold, accepts, rejects = in_force.nearest(in_force.config.accept)
    console.print(
        f"the settings in force: {in_force.ece:.3f}; accepting from {threshold:.2g} on takes {accepts:.3f} of the strangers, "
        f"turns down or names wrongly {rejects:.3f} of the known ones",
        soft_wrap=True,
    )


def _opened(library: Path, config: Path | None, memory: Path | None) -> Pipeline:
    from pasr_perception.config import PasrConfig, load_config
    from pasr_perception.encoders.remembered import remembering
    from pasr_perception.evaluation.retrieval import TOP
    from pasr_perception.library.opening import open_with_encoder
    from pasr_perception.pipeline import Pipeline

    settings = load_config(config) if config else PasrConfig()
    told = max(settings.rank.hypotheses, TOP[-1])  # what is reported of the first ten has to be asked for
    settings = replace(settings, rank=replace(settings.rank, hypotheses=told))
    if memory is None:
        return Pipeline.open(library, settings)
    opened, encoder, device = open_with_encoder(library, settings.encoder)
    return Pipeline(opened, remembering(encoder, memory), settings, device)


def _published(docs: Path, name: str, entry: dict[str, Any]) -> None:
    """Keep a report with the command that made it, and make the tables of all that are there again."""
    from pasr_perception.evaluation.results_file import repeatable, write_report
    from pasr_perception.evaluation.tables import write_tables

    write_report(docs, name, {**entry, "command": repeatable(sys.argv[1:])})
    typer.echo(f"tables: {write_tables(docs)}")


def _named(text: str) -> tuple[str, Path, Path | None]:
    """What NAME=PATH or NAME=PATH,CONFIG says. Raises ValueError where it says neither."""
    name, _, rest = text.partition("=")
    path, _, config = rest.partition(",")
    if not name or not path:
        raise ValueError(f"--also: expected NAME=LIBRARY or NAME=LIBRARY,YAML, got {text!r}")
    return name, Path(path), Path(config) if config else None
