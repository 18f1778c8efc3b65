"""`pasr track`: a minute of a hard simulated scene through the real node, and how well it kept track of everything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pasr_perception.cli.demo import ready_library
from pasr_perception.cli.overhead import measure_overhead
from pasr_perception.cli.replay import Replay, replay
from pasr_perception.cli.terminal import errors_in_words, progress_bar

STRANGER = "caballito"  # in the scene, not in the library
CAST = ("drawersCabinet", "lowerCabinet", "sillaBlanca", "designChair", "barrel", "lantern", "chair2", STRANGER)
OCCLUSIONS = 8  # one of each object
OVERHEAD_FRAMES = 200
JPEG = 92  # quality of the bag's images


def track_command(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for everything that is made.")] = Path("out/track"),
    seconds: Annotated[float, typer.Option(min=1, help="Length of the simulated bag.")] = 60.0,
    rate: Annotated[float, typer.Option(min=0.5, help="Its frames per second; simulating takes about 1 s each.")] = 5.0,
    seed: Annotated[int, typer.Option(min=0, help="Of arrangement, light, camera path and detector.")] = 3,
    parameter: Annotated[list[str] | None, typer.Option(help="More node parameters, as name:=value.")] = None,
) -> None:
    """Simulate a camera among 8 objects, play it through the node, evaluate identities, poses and reactions over time.

    Two pairs of look-alikes, two turned shapes, one object that the library does not hold, occlusions of 1 to 3 s, boxes off
    by up to 15 %, 10 % missed and 5 % false detections without ids.
    """
    from pasr_perception.data.messages import FIXED_FRAME

    bag = out / f"bag_{seconds:g}s_{rate:g}hz_{seed}"
    with errors_in_words():
        library = _library(out)
        if not (bag / "metadata.yaml").is_file():
            _simulate(out / "meshes", bag, round(seconds * rate), rate, seed)
        parameters = ("image_transport:=compressed", f"fixed_frame:={FIXED_FRAME}", *(parameter or ()))
        recorded = replay(Replay(bag, library, out, rate=4.0, parameters=parameters))
        overhead = measure_overhead(out / "overhead", OVERHEAD_FRAMES, 30.0, len(CAST), 20.0)
        _evaluate(bag, recorded, library, out, overhead)


def _library(out: Path) -> Path:
    """The demo's meshes but for the stranger, as a library."""
    from pasr_perception.library.demo_meshes import fetch_demo
    from pasr_perception.library.manifest import sources_from_paths

    meshes, library = out / "meshes", out / "library"
    if not (meshes / "manifest.yaml").is_file():
        with progress_bar(None) as tell:
            fetch_demo(meshes, progress=tell)
    ready_library([s for s in sources_from_paths([meshes]) if s.id != STRANGER], library)
    return library


def _simulate(meshes: Path, bag: Path, frames: int, rate: float, seed: int) -> None:
    from pasr_perception.data.bagio import write_frames
    from pasr_perception.data.detector import DetectorSpec
    from pasr_perception.data.scene import SceneSpec, simulate
    from pasr_perception.data.scene_meshes import load_scene_meshes

    detector = DetectorSpec(jitter=0.15, missed=0.1, invented=0.05, named=False)
    spec = SceneSpec(
        frames=frames,
        objects=len(CAST),
        min_detected=len(CAST),
        rate_hz=rate,
        detector=detector,
        occlusions=OCCLUSIONS,
        seed=seed,
    )
    by_id = {mesh.id: mesh for mesh in load_scene_meshes(meshes)}
    Console(stderr=True).print(f"simulating {frames} frames, about 1 s each", soft_wrap=True)
    write_frames(bag, simulate([by_id[name] for name in CAST], spec), overwrite=True, jpeg_quality=JPEG)


def _evaluate(bag: Path, recorded: Path, library: Path, out: Path, overhead: dict[str, float]) -> None:
    from pasr_perception.config import PasrConfig
    from pasr_perception.evaluation.track_report import (
        costs_of,
        drawn,
        evaluate_tracks,
        render,
        report_json,
        span,
        write_track_report,
    )
    from pasr_perception.library.store import MeshLibrary

    opened = MeshLibrary.open(library)
    numbers, courses, names = evaluate_tracks(bag, recorded, opened, PasrConfig().confidence.accept)
    costs = costs_of(recorded)
    about = {"played": str(bag), "recorded": str(recorded), "library": f"{library} ({len(opened.entries)} meshes)"}
    seconds = span(courses.values())
    pictures = [drawn(name, names[name], course, seconds) for name, course in sorted(courses.items())]
    page = render(numbers, costs, pictures, seconds, about)
    write_track_report(out, report_json(numbers, costs, overhead, about), page)
    share = numbers.mesh_correct_share
    Console().print(
        f"identity switches {numbers.identity_switches}, right mesh {'–' if share is None else f'{share:.3f}'}, "
        f"flips {numbers.symmetric_flips}, unknown confirmed {numbers.unknown_confirmed}\n"
        f"report: {out / 'report.json'}\npage:   {(out / 'index.html').absolute()}",
        soft_wrap=True,
        highlight=False,
    )
