"""The picture of a calibration: how often probabilities are right, and what a threshold lets in and keeps out."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from pasr_perception.evaluation.calibration import Calibration
from pasr_perception.library.files import write_atomically


def reliability_plot(found: Calibration, path: Path) -> None:
    """Write the reliability diagram and the curves of false accepts and rejects as a PNG."""
    picture = Figure(figsize=(9, 4.2), layout="constrained")
    diagram, curves = picture.subplots(1, 2)
    told, right, counts = zip(*found.reliability, strict=True)
    diagram.plot([0, 1], [0, 1], color="grey", linestyle=":")
    diagram.scatter(told, right, s=[8 + 300 * n / found.examples for n in counts], color="C0")
    diagram.plot(told, right, color="C0")
    for x, y, n in found.reliability:
        diagram.annotate(str(n), (x, y), textcoords="offset points", xytext=(7, -9), fontsize=8)
    diagram.set(xlabel="score of the best hypothesis", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02))
    diagram.set_title(f"{found.examples} searches, calibration error {found.ece:.3f}", fontsize=10)
    threshold, accepts, rejects = zip(*found.thresholds, strict=True)
    curves.plot(threshold, accepts, color="C3", label="strangers taken for a mesh")
    curves.plot(threshold, rejects, color="C0", label="known ones turned down or wrong")
    curves.axvline(found.config.accept, color="grey", linestyle=":", label="confidence.accept")
    curves.set(xlabel="threshold", ylabel="share", xlim=(0, 1), ylim=(0, 1.02))
    curves.set_title("unknown objects", fontsize=10)
    curves.legend(fontsize=8)
    write_atomically(path, lambda part: picture.savefig(part, dpi=110, format="png"))
