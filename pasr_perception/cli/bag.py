"""`pasr bag …`: make, play and record bags."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import track

from pasr_perception.cli.terminal import errors_in_words, fail

if TYPE_CHECKING:
    from pasr_perception.data.records import BagFrame

bag_app = typer.Typer(no_args_is_help=True, help="Bags of camera images: simulate, convert, play, record, evaluate.")

Out = Annotated[Path, typer.Option("--out", "-o", help="The bag (a folder) to write.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the bag if it exists.")]
Jitter = Annotated[float, typer.Option(help="How far each edge of a box is off, as a share of the box's side.")]
MinVisibility = Annotated[float, typer.Option(help="Objects less visible than this share are not detected.")]
Jpeg = Annotated[int, typer.Option(min=0, max=100, help="Write compressed images of this quality; 0 = raw.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same bag.")]


@bag_app.command()
def simulate(
    meshes: Annotated[Path, typer.Argument(help="A built library, a mesh folder, or a manifest.")],
    out: Out,
    frames: Annotated[int, typer.Option(min=1)] = 60,
    scenes: Annotated[int, typer.Option(min=1, help="Share the frames out among so many arrangements.")] = 1,
    objects: Annotated[int, typer.Option(min=1, help="Per scene.")] = 9,
    rate: Annotated[float, typer.Option(help="Frames per second.")] = 10.0,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT in pixels.")] = "640x480",
    jitter: Jitter = 0.05,
    min_visibility: MinVisibility = 0.3,
    missed: Annotated[float, typer.Option(help="Share of visible objects that the detector misses.")] = 0.0,
    invented: Annotated[float, typer.Option(help="Boxes around nothing, as a share of the right ones.")] = 0.0,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Detections carry no id of their object.")] = False,
    occlusions: Annotated[int, typer.Option(min=0, help="Boards that pass by and hide one object for 1 to 3 s.")] = 0,
    jpeg: Jpeg = 0,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Simulate a camera that moves around library meshes, with detections and ground truth."""
    from pasr_perception.data.detector import DetectorSpec
    from pasr_perception.data.scene import SceneSpec, simulate
    from pasr_perception.data.scene_meshes import load_scene_meshes

    with errors_in_words():
        width, height = parse_size(size)
        spec = SceneSpec(
            frames=frames,
            scenes=scenes,
            objects=objects,
            rate_hz=rate,
            width=width,
            height=height,
            detector=DetectorSpec(jitter, min_visibility, missed=missed, invented=invented, named=not anonymous),
            occlusions=occlusions,
            seed=seed,
        )
        source = simulate(load_scene_meshes(meshes), spec)
        _write(out, track(source, "simulating", total=frames, console=Console(stderr=True)), force, jpeg)


@bag_app.command("from-images")
def from_images(
    out: Out,
    folder: Annotated[Path | None, typer.Argument(help="Folder of images (see --annotations).")] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(
            help="JSON of intrinsics, boxes and poses. Without it FOLDER/ground_truth.json describes one frame."
        ),
    ] = None,
    bop: Annotated[Path | None, typer.Option(help="A BOP data set, split or scene folder, instead of FOLDER.")] = None,
    amodal: Annotated[
        bool, typer.Option("--amodal", help="BOP: boxes of whole objects, not their visible part.")
    ] = False,
    rate: Annotated[float, typer.Option(help="Frames per second.")] = 1.0,
    jitter: Jitter = 0.05,
    min_visibility: MinVisibility = 0.3,
    jpeg: Jpeg = 0,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Turn photos with boxes (and poses, where known) into a bag."""
    from pasr_perception.data.bop import BopReader
    from pasr_perception.data.detector import DetectorSpec, with_detections
    from pasr_perception.data.images import read_annotated, read_single

    with errors_in_words():
        if (folder is None) == (bop is None):
            raise ValueError("expected either FOLDER or --bop")
        if not rate > 0:
            raise ValueError(f"--rate: expected more than 0, got {rate}")
        source: Iterable[BagFrame]
        if bop is not None:
            source = BopReader(bop, amodal, rate)
        elif folder is not None and annotations is not None:
            source = read_annotated(folder, annotations, rate)
        else:
            source = [read_single(Path(str(folder)))]
        _write(out, with_detections(source, DetectorSpec(jitter, min_visibility), seed), force, jpeg)


@bag_app.command()
def play(
    bag: Annotated[Path, typer.Argument(help="The bag to play.")],
    rate: Annotated[float, typer.Option(help="Times the recorded pace.")] = 1.0,
    clock: Annotated[
        bool, typer.Option("--clock", help="Publish the bag's time on /clock (nodes: use_sim_time).")
    ] = False,
    loop: Annotated[bool, typer.Option("--loop", help="Begin again at the end.")] = False,
    wait: Annotated[
        float, typer.Option(help="Wait so many seconds for subscribers to the camera; fail without.")
    ] = 0.0,
    hold: Annotated[str, typer.Option(help="After every frame wait for a message on this topic.")] = "",
    hold_timeout: Annotated[float, typer.Option(help="Seconds; then the next frame comes all the same.")] = 60.0,
    topics: Annotated[list[str] | None, typer.Option("--topic", help="Only this topic; may be given often.")] = None,
) -> None:
    """Publish a bag over ROS."""
    with errors_in_words():
        _need_ros()
        from pasr_perception.ros.bag_play import PlayOptions, play

        options = PlayOptions(rate, clock, loop, wait, hold, hold_timeout, tuple(topics or ()))
        Console().print(f"played {bag}: {play(bag, options)} messages", soft_wrap=True, highlight=False)


@bag_app.command()
def record(
    out: Out,
    topics: Annotated[list[str] | None, typer.Argument(help="Topics; by default all that pasr_node publishes.")] = None,
    duration: Annotated[
        float, typer.Option(min=0, help="Stop after so many seconds; 0 = when told to (Ctrl-C).")
    ] = 0.0,
    idle: Annotated[float, typer.Option(min=0, help="Stop after so many silent seconds, once something came.")] = 0.0,
    force: Force = False,
) -> None:
    """Record topics from ROS into a bag, until Ctrl-C, --duration or --idle."""
    with errors_in_words():
        _need_ros()
        from pasr_perception.ros.bag_record import NODE_TOPICS, RecordOptions, record

        counts = record(out, topics or NODE_TOPICS, RecordOptions(duration, idle, force))
        listed = ", ".join(f"{topic} {count}" for topic, count in sorted(counts.items())) or "no message came"
        Console().print(f"recorded {out}: {listed}", soft_wrap=True, highlight=False)


@bag_app.command("evaluate")
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


def _write(out: Path, frames: Iterable[BagFrame], force: bool, jpeg: int) -> None:
    from pasr_perception.data.bagio import write_frames

    count = write_frames(out, frames, overwrite=force, jpeg_quality=jpeg)
    Console().print(f"wrote {out}: {count} frames", soft_wrap=True, highlight=False)


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) of WIDTHxHEIGHT; raises ValueError."""
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise ValueError(f"--size: expected WIDTHxHEIGHT such as 640x480, got {text!r}") from None
    return width, height


def _need_ros() -> None:
    import importlib.util

    if importlib.util.find_spec("rclpy") is None:
        fail("this command needs ROS 2 (rclpy): source a ROS set-up, or install the wheels (see README)")
