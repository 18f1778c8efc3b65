"""`pasr overhead`: what the node adds to its pipeline's time, measured through DDS between separate processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pasr_perception.cli.replay import ReplayError, ros_environment, start_process, stop_process
from pasr_perception.cli.terminal import errors_in_words

SLACK_S = 60.0  # for three processes to start


def overhead_command(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for report and logs.")] = Path("out/overhead"),
    frames: Annotated[int, typer.Option(min=1, help="Answered frames that are measured.")] = 300,
    hz: Annotated[float, typer.Option(min=0.1, help="Images per second, 1280 x 720.")] = 30.0,
    boxes: Annotated[int, typer.Option(min=0, help="Detections per image.")] = 8,
    pipeline_ms: Annotated[float, typer.Option(min=0, help="What the pipeline's double takes per frame.")] = 20.0,
) -> None:
    """Measure stamp to publish less the pipeline's time, with a pipeline that takes a set time."""
    with errors_in_words():
        found = measure_overhead(out, frames, hz, boxes, pipeline_ms)
    table = Table("", "p50", "p95", title=f"{found['frames']:.0f} frames of 720p at {hz:g} Hz, {boxes} boxes")
    for name in ("overhead", "wait", "convert", "publish"):
        table.add_row(f"{name} (ms)", f"{found[f'{name}_ms_p50']:.2f}", f"{found[f'{name}_ms_p95']:.2f}")
    Console().print(table, f"oldest image that was begun: {found['wait_ms_max']:.1f} ms; period {1e3 / hz:.1f} ms")


def measure_overhead(out: Path, frames: int, hz: float, boxes: int, pipeline_ms: float) -> dict[str, float]:
    """Run node, camera and listener; the figures are also written to `out`/overhead.json. Raises ReplayError."""
    out.mkdir(parents=True, exist_ok=True)
    roles = {"node": (pipeline_ms / 1e3,), "camera": (hz, boxes), "listener": (frames,)}
    with ros_environment() as environment:
        node, camera, listener = (start_process(name, _role(name, *n), out, environment) for name, n in roles.items())
        try:
            listener.wait(SLACK_S + 10 * frames * max(1 / hz, pipeline_ms / 1e3))
        except subprocess.TimeoutExpired as error:
            raise ReplayError(f"the node did not answer {frames} frames; see {out}/*.log") from error
        finally:
            for process in (listener, camera, node):
                stop_process(process)
    found = figures_of((out / "listener.log").read_text())
    (out / "overhead.json").write_text(json.dumps(found, indent=2) + "\n")
    return found


def figures_of(said: str) -> dict[str, float]:
    """What the listener found, of all that it said: rclpy may have the last word when it ends. Raises ReplayError."""
    told = [line for line in said.splitlines() if line.startswith("{")]
    if not told:
        raise ReplayError(f"the listener said nothing of what it found: {said[-500:]!r}")
    found: dict[str, float] = json.loads(told[-1])
    return found


def _role(name: str, *numbers: float) -> list[str]:
    return [sys.executable, "-m", "pasr_perception.ros.overhead", name, *map(str, numbers)]
