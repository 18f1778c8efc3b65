"""The scaling plot: time per crop of every stage over the size of the library, both axes logarithmic."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from pasr_perception.benchmark.stages import StageRow
from pasr_perception.library.files import write_atomically

logger = logging.getLogger(__name__)

LEAST_MS = 1e-3  # stages below a microsecond are no part of the picture
STYLES = ("-", "--", ":", "-.")  # one per number of crops


def scaling_plot(rows: Sequence[StageRow], path: Path) -> bool:
    """Write a picture (format by suffix, .png or .svg) of the rows; False, with a line in the log, without matplotlib.

    The band around a line is the range of its repeats.
    """
    try:
        from matplotlib.figure import Figure as Picture
    except ImportError:
        logger.warning("no scaling plot: matplotlib is not installed (pip install matplotlib)")
        return False
    picture = Picture(figsize=(7.5, 5), layout="constrained")
    axes = picture.add_subplot()
    crops = sorted({row.crops for row in rows})
    stages = list(dict.fromkeys(s.stage for row in rows for s in row.stages))
    for k, stage in enumerate([*stages, "total"]):
        for count, style in zip(crops, STYLES, strict=False):
            points = _line([row for row in rows if row.crops == count], stage)
            if not points or max(p[1] for p in points) < LEAST_MS:
                continue
            n, middle, low, high = zip(*points, strict=True)
            colour = "black" if stage == "total" else f"C{k % 10}"
            label = f"{stage}, {count} crop{'s' if count > 1 else ''}"
            axes.plot(n, middle, style, color=colour, marker="o", markersize=3, label=label)
            axes.fill_between(n, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.set(xscale="log", yscale="log", xlabel="meshes in the library", ylabel="milliseconds per crop")
    axes.grid(True, which="both", alpha=0.25)
    axes.legend(fontsize=7, ncols=2, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    write_atomically(path, lambda p: picture.savefig(p, format=path.suffix.lstrip("."), dpi=130))
    return True


def _line(rows: Sequence[StageRow], stage: str) -> list[tuple[int, float, float, float]]:
    """(meshes, median, low, high) of one stage, milliseconds per crop, by size."""
    points = []
    for row in sorted(rows, key=lambda r: r.meshes):
        figures = [row.total] if stage == "total" else [s.seconds for s in row.stages if s.stage == stage]
        for f in figures:
            if f.value is not None and f.low is not None and f.high is not None:
                scale = 1e3 / row.crops
                middle, low, high = (max(x * scale, LEAST_MS) for x in (f.value, f.low, f.high))
                points.append((row.meshes, middle, low, high))
    return points
