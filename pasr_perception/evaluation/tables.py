"""docs/results.md: every table of the committed reports, each with the command that made it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pasr_perception.evaluation.methods import METHODS
from pasr_perception.evaluation.results_file import read_reports
from pasr_perception.library.files import write_atomically

TABLES, IMAGES = "results.md", "images"
TRANSFER = "transfer"  # the kind of reports on another source
ABLATED = ("refinement", "steps", "unknowns", "features", "views")  # in this order
SYNTHETIC_COLUMNS = (
    ("top1", "top-1"),
    ("top5", "top-5"),
    ("top10", "top-10"),
    ("category_top1", "category"),
    ("acc_pi_6", "Acc π/6"),
    ("acc_pi_18", "Acc π/18"),
    ("median_rotation_deg", "median error"),
)
REAL_COLUMNS = (
    ("adds_rotation_05d", "rotation-only ADD-S < 5 %"),
    ("adds_rotation_10d", "< 10 %"),
    ("adds_10d", "ADD-S < 10 %"),
    ("mssd_recall", "MSSD AR"),
    ("mspd_recall", "MSPD AR"),
    ("mssd_recall_plain", "MSSD AR, listed symmetries only"),
    ("mspd_recall_plain", "MSPD AR, listed symmetries only"),
    ("vsd_recall", "VSD AR"),
)
HEAD = """# Results

Made by the commands named with each table from `docs/results/*.json`; do not edit. Shares are of all objects; an object without an
answer is a failure. Rotations count an object's symmetries; `median error` is that of the retrieved top-1, whatever mesh it is
(PASR). All methods were asked for ten meshes. The global embedding gives no pose, and fails in every column of poses.
"""
SAME_PICTURE = """Some photos show nothing that tells one mesh from another, as a wall plate from behind. After the arrow
a first answer counts as right as well if its mesh, in some pose, gives the picture that the true one gives
(`evaluation/same_picture.py`).
"""
DEVELOPMENT = "The weights of ranking were chosen while looking at these photos: the pipeline's numbers are development numbers.\n"


def write_tables(docs: Path) -> Path:
    """Make `docs`/results.md of every report in `docs`/results; returns its path."""
    reports = read_reports(docs)
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for report in reports.values():
        by_kind.setdefault(str(report.get("kind")), []).append(report)
    parts = [HEAD]
    for kind, render in RENDERERS.items():
        if kind in by_kind:
            parts.append(render(sorted(by_kind[kind], key=_order)))
        if kind == TRANSFER and kind in by_kind:
            parts.append(_drop(sorted(by_kind[kind], key=_order), by_kind.get("synthetic", ())))
    path = docs / TABLES
    write_atomically(path, lambda temporary: temporary.write_text("\n".join(parts)))
    return path


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the first column is text, the others numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def number(value: float | None, unit: str = "") -> str:
    if value is None:
        return "–"
    return f"{value:.1f}{unit}" if unit else f"{value:.3f}"


def standard_error(objects: int) -> str:
    """What chance alone does to a share of so many objects."""
    return f"A share of {objects} objects has a standard error of up to {0.5 / max(objects, 1) ** 0.5:.2f}.\n"


def synthetic_row(name: str, scores: Mapping[str, Any]) -> list[str]:
    """One row of the papers' layout."""
    cells = [number(scores[key], "°" if key == "median_rotation_deg" else "") for key, _ in SYNTHETIC_COLUMNS]
    return [name, str(scores["objects"]), *cells]


def _synthetic(reports: Sequence[Mapping[str, Any]], title: str = "Synthetic benchmark") -> str:
    head = ["method", "objects", *(column for _, column in SYNTHETIC_COLUMNS)]
    objects = [parts["all"]["objects"] for report in reports for parts in report["levels"].values()]
    lines = [f"## {title}\n", _about(reports), standard_error(min(objects))]
    for level in sorted({level for report in reports for level in report["levels"]}):
        there = [r for r in reports if level in r["levels"]]
        rows = []
        for report in there:
            parts = report["levels"][level]
            if report["method"] in ("lifted", "learned", "both"):
                rows.append(synthetic_row(f"{report['method']}, before refinement", parts["before refinement"]))
            rows.append(synthetic_row(str(report["method"]), parts["all"]))
        lines += [f"### {level}\n", markdown(head, rows)]
    lines += _same_pictures(reports)
    lines += ["### Objects without symmetry, look-alikes, and how they look\n"]
    rows = []
    for report in reports:
        for level, parts in report["levels"].items():
            name = f"{report['method']}, {level}"
            for part in ("without symmetry", "look-alikes"):
                if parts[part]["objects"]:
                    rows.append(synthetic_row(f"{name}: {part}", parts[part]))
            rows += [synthetic_row(f"{name}: {look} colours", scores) for look, scores in parts["looks"].items()]
    lines += [markdown(head, rows), "### By category\n"]
    best = reports[-1]
    rows = [
        synthetic_row(f"{category}, {level}", scores)
        for level, parts in best["levels"].items()
        for category, scores in parts["categories"].items()
    ]
    return "\n".join([*lines, f"Method: {best['method']}.\n", markdown(head, rows), _commands(reports)])


def _same_pictures(reports: Sequence[Mapping[str, Any]]) -> list[str]:
    """Top-1, and what it is where a wrong mesh that gives the same picture counts as right; nothing where that was not asked."""
    asked = [r for r in reports if all("same picture" in parts for parts in r["levels"].values())]
    if not asked:
        return []
    levels = sorted({level for report in asked for level in report["levels"]})
    rows = []
    for report in asked:
        there = [report["levels"].get(level) for level in levels]
        cells = [
            number(None)
            if p is None
            else f"{number(p['all']['top1'])} → {number(p['all']['top1'] + p['same picture'])}"
            for p in there
        ]
        rows.append([str(report["method"]), *cells])
    return [
        "### Top-1, and with every mesh that gives the same picture\n",
        SAME_PICTURE,
        markdown(["method", *levels], rows),
    ]


def _drop(reports: Sequence[Mapping[str, Any]], home: Sequence[Mapping[str, Any]]) -> str:
    """What changes from the synthetic benchmark to the library of another source, of each method that was asked of both."""
    pairs = [(here, there) for there in reports for here in home if here["method"] == there["method"]]
    rows = []
    for here, there in pairs:
        for level in sorted(set(there["levels"]) & set(here["levels"])):
            for part, name in (("all", ""), ("without symmetry", ": without symmetry")):
                before, after = (report["levels"][level][part] for report in (here, there))
                cells = [_change(before, after, key) for key, _ in SYNTHETIC_COLUMNS]
                rows.append([f"{there['method']}, {level}{name}", *cells])
    head = ["method", *(column for _, column in SYNTHETIC_COLUMNS)]
    lines = [
        "### What transfer costs\n",
        f"From: {_about([h for h, _ in pairs])}To: {_about(reports)}",
        markdown(head, rows),
    ]
    return "\n".join(
        [*lines, "What is found first depends on how many meshes there are and how alike; poses depend less on it.\n"]
    )


def _change(here: Mapping[str, Any], there: Mapping[str, Any], key: str) -> str:
    """`0.633 → 0.500 (-0.133)`, or dashes where one of the two is not known."""
    before, after = here[key], there[key]
    if before is None or after is None:
        return number(None)
    if key == "median_rotation_deg":
        return f"{number(before, '°')} → {number(after, '°')} ({after - before:+.1f}°)"
    return f"{number(before)} → {number(after)} ({after - before:+.3f})"


def _real(reports: Sequence[Mapping[str, Any]]) -> str:
    objects = [report["parts"]["all"]["objects"] for report in reports]
    lines = ["## Real photos (HOPE development set)\n", _about(reports), DEVELOPMENT, standard_error(min(objects))]
    rows = []
    for report in reports:
        for part, scores in report["parts"].items():
            rows.append(
                [
                    f"{report['method']}, {part}",
                    str(scores["objects"]),
                    *(number(scores[key]) for key in ("id_top1", "id_top5", "shape_top1")),
                ]
            )
    lines += [markdown(["method, meshes", "objects", "identity top-1", "top-5", "shape class top-1"], rows)]
    for task, title in (("given", "Poses, true mesh given"), ("end_to_end", "Poses end to end")):
        rows = [
            [f"{report['method']}, {part}", *(number(scores[task][key]) for key, _ in REAL_COLUMNS)]
            for report in reports
            for part, scores in report["parts"].items()
        ]
        lines += [f"### {title}\n", markdown(["method, meshes", *(head for _, head in REAL_COLUMNS)], rows)]
    return "\n".join([*lines, _commands(reports)])


def _papers(reports: Sequence[Mapping[str, Any]]) -> str:
    head = ["data set, method", "objects", *(title for _, title in SYNTHETIC_COLUMNS), "MHD", "IoU 128³"]
    rows = [
        [
            *synthetic_row(f"{report['data']}, {report['method']}: {part}", scores),
            number(scores["modified_hausdorff"]),
            number(scores["iou_128"]),
        ]
        for report in reports
        for part, scores in report["parts"].items()
    ]
    return "\n".join(["## The papers' data sets\n", _about(reports), markdown(head, rows), _commands(reports)])


def _pictures(reports: Sequence[Mapping[str, Any]]) -> str:
    (report,) = reports
    failed = sum(one["photos"] for one in report["causes"])
    rows = [[f"{one['cause']}: {one['means']}", str(one["photos"])] for one in report["causes"]]
    return "\n".join(
        [
            "## Pictures\n",
            _about(reports),
            f"### Point features\n\n![Point features]({IMAGES}/features.jpg)\n",
            "Surface points in the colours of the three leading principal components of their features, which are shared within a "
            "row; each mesh is seen from its left and from its right.\n",
            f"### Retrieval\n\n![Retrieval]({IMAGES}/strips.jpg)\n",
            "The crop with its box, then the meshes found, best first, at the poses found; green is the right mesh.\n",
            f"### Failures\n\n![Failures]({IMAGES}/failures.jpg)\n",
            f"Crop, truth, answer. {failed} of {report['photos']} photos failed: the first mesh is a wrong one, or turned by more "
            "than 30°. The cause is the first of this list that holds.\n",
            markdown(["cause", "photos"], rows),
            _commands(reports),
        ]
    )


def _ablation(reports: Sequence[Mapping[str, Any]]) -> str:
    head = ["variant, level", "objects", *(title for _, title in SYNTHETIC_COLUMNS)]
    lines = ["## Ablations\n"]
    for report in sorted(reports, key=lambda r: ABLATED.index(r["method"])):
        variants = report["variants"]
        rows = [
            synthetic_row(f"{variant}, {level}", levels[level])
            for level in sorted({level for levels in variants.values() for level in levels})
            for variant, levels in variants.items()
        ]
        lines += [f"### {report['method'].capitalize()}\n", _about([report]), markdown(head, rows)]
    return "\n".join([*lines, _commands(reports)])


def _about(reports: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(dict.fromkeys(str(report["about"]) for report in reports)) + "\n"


def _commands(reports: Sequence[Mapping[str, Any]]) -> str:
    return "```bash\n" + "\n".join(dict.fromkeys(str(report["command"]) for report in reports)) + "\n```\n"


def _order(report: Mapping[str, Any]) -> tuple[int, str]:
    method = str(report.get("method", ""))
    return (METHODS.index(method) if method in METHODS else len(METHODS), str(report.get("data", "")))


RENDERERS: dict[str, Callable[[Sequence[Mapping[str, Any]]], str]] = {
    "synthetic": _synthetic,
    "hope_dev": _real,
    "visible": partial(_synthetic, title="Synthetic benchmark, boxes around what is seen"),
    TRANSFER: partial(_synthetic, title="Transfer to a library of another source"),
    "papers": _papers,
    "pictures": _pictures,
    "ablation": _ablation,
}
