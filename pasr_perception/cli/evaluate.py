"""`pasr bag evaluate`: a recorded bag against the bag that was played."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pasr_perception.cli.terminal import errors_in_words


def evaluate_command(
    truth: Annotated[Path, typer.Argument(help="The bag that was played, with /ground_truth/objects.")],
    recorded: Annotated[Path, typer.Argument(help="The bag that was recorded: the node's answers and /diagnostics.")],
    library: Annotated[Path, typer.Option("--library", "-l", help="The mesh library that the node used.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for report.json and index.html.")],
    config: Annotated[Path | None, typer.Option(help="YAML file of settings, as for the node.")] = None,
    given_mesh: Annotated[
        bool, typer.Option("--given-mesh", help="Also search the pose of each object's true mesh (runs the pipeline).")
    ] = False,
    baselines: Annotated[bool, typer.Option(help="Compare with chance and pooled features.")] = True,
    pictures: Annotated[int, typer.Option(min=0, help="How many frames the page shows.")] = 6,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "PASR perception: evaluation",
    seed: Annotated[int, typer.Option(help="Of the random poses of the chance baseline.")] = 0,
) -> None:
    """Compare what the node answered with the ground truth: table, report.json and index.html."""
    with errors_in_words():
        from pasr_perception.config import load_config
        from pasr_perception.evaluation.report import EvaluationOptions, evaluate_bag
        from pasr_perception.evaluation.results import report_table

        options = EvaluationOptions(
            baselines=baselines, given_mesh=given_mesh, pictures=pictures, title=title, seed=seed
        )
        report = evaluate_bag(truth, recorded, library, out, options, load_config(config) if config else None)
    console = Console()
    console.print(report_table(report))
    console.print(f"report: {out / 'report.json'}\npage:   {(out / 'index.html').absolute()}", soft_wrap=True)
