"""Newton refinement against 50 steps of AdamW, from the same coarse candidates of real photos, mesh by mesh.

    python tests/benchmarks/refine_methods.py LIBRARY PHOTOS [--every 12]

PHOTOS is a folder in BOP layout; boxes are its visible boxes, jittered by 5 %. Two sets of hypotheses per crop: the best
candidates over all meshes, and those of the true mesh, whose rotations are then judged.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from pasr_perception.coarse import coarse_search
from pasr_perception.config import CoarseConfig, PasrConfig, RefineConfig
from pasr_perception.crop import crop_detections
from pasr_perception.data.bop import BopReader
from pasr_perception.data.detector import DetectorSpec, with_detections
from pasr_perception.evaluation.metrics import add_s_rotation_only, rotation_error
from pasr_perception.evaluation.truth import MeshFacts, mesh_facts
from pasr_perception.pipeline import Pipeline
from pasr_perception.types import Candidates, Crop

METHODS = {
    "AdamW, 50 steps": RefineConfig(method="adamw"),
    "Newton, 3 unknowns": RefineConfig(unknowns=3),
    "the same, 4 rounds": RefineConfig(unknowns=3, iterations=4),
    "Newton, 5 unknowns": RefineConfig(unknowns=5),
    "Newton, 6 unknowns": RefineConfig(unknowns=6),
}
REFERENCE = "AdamW, 50 steps"
NEAR = np.radians(30)  # true-mesh starts this near the truth are judged by their angle
HIT = 0.05  # of the diameter, ADD-S of the rotation alone


@dataclass
class Tally:
    """What one method came to."""

    loss: list[float] = field(default_factory=list)  # 1 - eq. 8, every hypothesis
    seconds: list[float] = field(default_factory=list)  # per crop, best candidates over all meshes
    add_s: list[float] = field(default_factory=list)  # best true-mesh hypothesis, share of the diameter
    angle: list[float] = field(default_factory=list)  # of the same where its start is near, radians


@dataclass(frozen=True)
class Case:
    """One crop with what the search found."""

    crop: Crop
    maps: torch.Tensor  # [1, T, D, g, g]
    free: Candidates
    true: Candidates
    truth: np.ndarray  # R_crop_obj
    facts: MeshFacts


def cases(pipeline: Pipeline, photos: Path, every: int) -> Iterator[Case]:
    facts = mesh_facts(pipeline.library)
    index = {e.id: i for i, e in enumerate(pipeline.library.entries)}
    for number, item in enumerate(with_detections(BopReader(photos), DetectorSpec(), seed=0)):
        if number % every != every // 2:
            continue
        truths = {t.id: t for t in item.truths if t.mesh_id in index}
        known = [d for d in item.detections if d.id in truths]
        for crop in crop_detections(item.frame, known, pipeline.crop_spec)[0]:
            truth = truths[crop.detection.id]
            maps = pipeline.encode([crop])
            size = torch.tensor((crop.box[2:] - crop.box[:2])[None], dtype=torch.float32)
            exhaustive = replace(pipeline.config.coarse, method="exhaustive")
            free = coarse_search(maps, size, pipeline._space, exhaustive)[0]
            alone = CoarseConfig(method="exhaustive", top_k=2, per_mesh=2)
            true = coarse_search(maps, size, pipeline._space, alone, [index[truth.mesh_id]])[0]
            R_true = crop.R_cam_crop.T @ truth.T_cam_obj[:3, :3]
            yield Case(crop, maps, free, true, R_true, facts[truth.mesh_id])


def judge(pipeline: Pipeline, case: Case, config: RefineConfig, tally: Tally) -> None:
    """Refine both sets of one case by one method."""
    started = time.perf_counter()
    free = pipeline.refine([case.free], case.maps, [case.crop], config)[0]
    tally.seconds.append(time.perf_counter() - started)
    true = pipeline.refine([case.true], case.maps, [case.crop], config)[0]
    for found in (free, true):
        tally.loss.extend((1 - found.similarity[: config.top_k]).tolist())
    R = true.rotation[0].double().numpy()  # the first start, so that methods are compared on the same one
    tally.add_s.append(add_s_rotation_only(R, case.truth, case.facts.surface))
    if rotation_error(case.true.rotation[0].double().numpy(), case.truth, case.facts.symmetry) < NEAR:
        tally.angle.append(rotation_error(R, case.truth, case.facts.symmetry))


def line(name: str, tally: Tally, reference: Tally) -> str:
    ratio = [a / b for a, b in zip(reference.seconds, tally.seconds, strict=True)]
    low, middle, high = np.percentile(ratio, [10, 50, 90])
    angle = np.degrees(tally.angle)
    return (
        f"{name:20} loss {np.mean(tally.loss):.4f}   ADD-S < 5 % {np.mean(np.array(tally.add_s) < HIT):.2f}   "
        f"rotation {np.median(angle):5.2f} deg median, {np.mean(angle):5.2f} mean   "
        f"{1e3 * statistics.median(tally.seconds):6.1f} ms per crop   x{middle:.1f} (10..90 %: {low:.1f}..{high:.1f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("library", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--every", type=int, default=12, help="take every n-th photo")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    pipeline = Pipeline.open(arguments.library, PasrConfig(coarse=CoarseConfig(method="exhaustive")))
    tallies = {"as found": Tally()} | {name: Tally() for name in METHODS}
    configs = {"as found": RefineConfig(iterations=0)} | METHODS
    for number, case in enumerate(cases(pipeline, arguments.photos, arguments.every)):
        order = list(configs) if number % 2 else list(reversed(configs))
        for name in order if number else [*order, *order]:  # the first round warms up, and is dropped
            if not number and len(tallies[name].seconds):
                tallies[name] = Tally()
            judge(pipeline, case, configs[name], tallies[name])
    reference = tallies[REFERENCE]
    print(f"{len(reference.seconds)} crops, {len(reference.loss)} hypotheses, {len(reference.angle)} near the truth")
    for name, tally in tallies.items():
        print(line(name, tally, reference))


if __name__ == "__main__":
    main()
