"""The `pasr` command: argument parsing and printing only; the work is done by the modules it calls."""

from __future__ import annotations

import logging

import typer

from pasr_perception.cli.bag import bag_app
from pasr_perception.cli.bench import bench_command
from pasr_perception.cli.data import data_app
from pasr_perception.cli.demo import demo_command, real_command
from pasr_perception.cli.detect import detect_command
from pasr_perception.cli.encoder import encoder_app
from pasr_perception.cli.evaluate import evaluate_app
from pasr_perception.cli.library import library_app
from pasr_perception.cli.overhead import overhead_command
from pasr_perception.cli.track import track_command
from pasr_perception.cli.train import train_app
from pasr_perception.waiting import wait_briefly

app = typer.Typer(
    help="Which of your meshes is in the image, and where is it in 6-DoF.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.add_typer(library_app, name="library")
app.add_typer(bag_app, name="bag")
app.add_typer(encoder_app, name="encoder")
app.add_typer(train_app, name="train")
app.add_typer(data_app, name="data")
app.add_typer(evaluate_app, name="evaluate")
app.command("detect")(detect_command)
app.command("demo")(demo_command)
app.command("real")(real_command)
app.command("track")(track_command)
app.command("bench")(bench_command)
app.command("overhead")(overhead_command)


def main() -> None:
    """Entry point of the `pasr` script."""
    wait_briefly()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("trimesh").setLevel(logging.WARNING)
    app()
