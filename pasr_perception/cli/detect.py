"""`pasr detect`: one image, some boxes, ranked hypotheses, an overlay. No ROS."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from pasr_perception.cli.terminal import errors_in_words, fail

DEFAULT_FOV_DEG = 60.0


def detect_command(
    image: Annotated[Path, typer.Argument(help="The image file.")],
    library: Annotated[Path, typer.Option("--library", "-l", help="A library made by `pasr library build`.")],
    box: Annotated[list[str], typer.Option(help="x_min,y_min,x_max,y_max in pixels; may be given often.")],
    intrinsics: Annotated[
        str, typer.Option(help="fx,fy,cx,cy in pixels; without it a 60 degree field of view is assumed.")
    ] = "",
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the overlay.")] = Path("overlay.png"),
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
) -> None:
    """Identify what is in each box and print ranked mesh ids with scores and metric poses."""
    from pasr_perception.config import load_config
    from pasr_perception.evaluation.overlay import draw_overlay
    from pasr_perception.pipeline import Pipeline
    from pasr_perception.types import Camera, Detection, Frame

    console = Console()
    with errors_in_words():
        pixels = cv2.imread(str(image), cv2.IMREAD_COLOR)
        if pixels is None:
            raise ValueError(f"{image}: cannot be read as an image")
        height, width = pixels.shape[:2]
        camera = Camera(width, height, _intrinsics(intrinsics, width, height))
        frame = Frame(np.ascontiguousarray(pixels[..., ::-1]), camera)
        detections = [Detection(np.array(_numbers(text, "--box")), id=str(i)) for i, text in enumerate(box)]
        pipeline = Pipeline.open(library, load_config(config) if config else None)
        result = pipeline.detect(frame, detections)
    if not intrinsics:
        console.print(
            f"no --intrinsics: a {DEFAULT_FOV_DEG:.0f} degree horizontal view is assumed; distances depend on it"
        )
    table = Table("box", "rank", "mesh", "category", "score", "x, y, z (m)", title=f"{image.name}")
    for estimate in result.objects:
        for rank, hypothesis in enumerate(estimate.hypotheses, 1):
            where = ", ".join(f"{x:.3f}" for x in hypothesis.T_cam_obj[:3, 3])
            name = hypothesis.mesh_id, hypothesis.category, f"{hypothesis.score:.2f}"
            table.add_row(estimate.detection.id, str(rank), *name, where)
    console.print(table)
    for detection, reason in result.rejected:
        console.print(f"box {detection.id}: {reason}", soft_wrap=True)
    meshes = {o.best.mesh_id: pipeline.library.load_mesh(o.best.mesh_id) for o in result.objects}
    overlay = draw_overlay(frame.image, camera, result.objects, meshes)
    if not _write_image(out, overlay):
        fail(f"{out}: cannot be written (its folder has to be there, and its name to end in .png or .jpg)")
    console.print(f"overlay: {out}", soft_wrap=True)


def _write_image(path: Path, image: np.ndarray) -> bool:
    try:
        return cv2.imwrite(str(path), image[..., ::-1])
    except cv2.error:  # no such format
        return False


def _numbers(text: str, option: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 4:
        raise ValueError(f"{option}: expected four numbers with commas between, got {text!r}")
    return values


def _intrinsics(text: str, width: int, height: int) -> np.ndarray:
    if text:
        fx, fy, cx, cy = _numbers(text, "--intrinsics")
    else:
        fx = fy = width / 2 / np.tan(np.radians(DEFAULT_FOV_DEG) / 2)
        cx, cy = width / 2, height / 2
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
