"""The evaluation as one self-contained HTML page: numbers, latency, confusion, and pictures of truth against answer."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import cv2
import numpy as np
import trimesh
from jinja2 import Environment, StrictUndefined, Template

from pasr_perception.evaluation.overlay import Colour, Style, draw_box, draw_label, draw_pose, line_width
from pasr_perception.evaluation.results import Report, columns, over_time_rows
from pasr_perception.evaluation.truth import Case
from pasr_perception.types import Frame

TEMPLATE = "report.html.j2"
PICTURE_WIDTH = 1280  # pixels at most
JPEG_QUALITY = 82
TRUTH: Colour = (0, 200, 255)
RIGHT: Colour = (80, 255, 60)
WRONG: Colour = (255, 60, 60)


@dataclass(frozen=True)
class Picture:
    """One frame with truth and answers drawn in."""

    title: str
    jpeg: bytes

    @property
    def data_url(self) -> str:
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode("ascii")


def draw_cases(frame: Frame, cases: Sequence[Case], meshes: Mapping[str, trimesh.Trimesh]) -> np.ndarray:
    """The image [H, W, 3] with the outlines of truth and best answers, green for the right mesh, else red."""
    canvas = np.ascontiguousarray(frame.image).copy()
    width = line_width(canvas)
    for case in cases:
        draw_box(canvas, case.detection.box, Style((200, 200, 200)))
        truth = case.truth
        if truth.mesh_id in meshes:
            draw_pose(canvas, frame.camera, meshes[truth.mesh_id], truth.T_cam_obj, Style(TRUTH, width, axes=False))
    for case in cases:
        if case.after and case.after[0].mesh_id in meshes:
            best = case.after[0]
            draw_pose(canvas, frame.camera, meshes[best.mesh_id], best.T_cam_obj, Style(_colour(case), width))
    for case in cases:
        draw_label(canvas, case.detection.box, _label(case), _colour(case))
    return canvas


def picture(frame: Frame, cases: Sequence[Case], meshes: Mapping[str, trimesh.Trimesh]) -> Picture:
    """The drawn frame, shrunk to the page's width."""
    image = draw_cases(frame, cases, meshes)
    scale = min(1.0, PICTURE_WIDTH / image.shape[1])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    ok, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert ok
    right = sum(_is_right(case) for case in cases)
    return Picture(f"stamp {frame.stamp_ns / 1e9:.3f} s: {right} of {len(cases)} meshes right", data.tobytes())


def page_template(name: str) -> Template:
    """One of the package's templates; a name that it is not given is an error."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    source = (files("pasr_perception.evaluation") / "templates" / name).read_text(encoding="utf-8")
    return environment.from_string(source)


def render_page(report: Report, pictures: Sequence[Picture], title: str) -> str:
    """The whole page as HTML text."""
    cells = columns(report)
    longest = max((latency.p95 for latency in report.latency_ms.values()), default=1.0)
    return page_template(TEMPLATE).render(
        title=title,
        report=report,
        pictures=pictures,
        columns=cells,
        labels=list(dict.fromkeys(label for column in cells.values() for label in column)),
        confusion=_confusion_rows(report),
        over_time=over_time_rows(report.over_time),
        longest=longest or 1.0,
        colours={name: f"rgb{colour}" for name, colour in (("truth", TRUTH), ("right", RIGHT), ("wrong", WRONG))},
    )


@dataclass(frozen=True)
class ConfusionRow:
    """How often one mesh was taken for itself and for others."""

    mesh: str
    objects: int
    share: float
    others: tuple[tuple[str, int], ...]  # most frequent first


def _confusion_rows(report: Report) -> list[ConfusionRow]:
    rows = []
    for mesh, answers in sorted(report.confusion.items()):
        total = sum(answers.values())
        others = sorted(((m or "no answer", n) for m, n in answers.items() if m != mesh), key=lambda item: -item[1])
        rows.append(ConfusionRow(mesh, total, answers.get(mesh, 0) / total, tuple(others)))
    return rows


def _is_right(case: Case) -> bool:
    return bool(case.after) and case.after[0].mesh_id == case.truth.mesh_id


def _colour(case: Case) -> Colour:
    return RIGHT if _is_right(case) else WRONG


def _label(case: Case) -> str:
    if not case.after:
        return f"no answer (is {case.truth.mesh_id})"
    best = case.after[0]
    text = f"{best.mesh_id} {best.score:.2f}"
    return text if _is_right(case) else f"{text} (is {case.truth.mesh_id})"
