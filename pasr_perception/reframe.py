"""Reframing: what a first search found says where the object ends, so a second one looks through that box.

A detector's boxes are loose, and everything after them takes the object to fill its box: templates, outlines, distance. So the
best candidates are refined with shift and scale free, held by the coverage cost (`refine/coverage.py`), and the box of what the
best of them then shows, mixed with the box that was looked through, is cropped and searched anew. An edge at the image's border
stays: what is beyond it nobody sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from pasr_perception.config import RefineConfig, ReframeConfig
from pasr_perception.geometry.boxes import expected_box, iou
from pasr_perception.lift import LiftError
from pasr_perception.placing import Placing
from pasr_perception.types import Camera, Candidates, Crop, Detection, Frame, Rivals, StageTimings


@dataclass(frozen=True)
class Look:
    """The crops of one frame's detections, encoded."""

    frame: Frame
    asked: tuple[Detection, ...]  # that the crops are of, as they came
    crops: tuple[Crop, ...]  # through tightened boxes
    maps: torch.Tensor | None  # [B, T, D, g, g] of `Pipeline.encode`; None without crops
    rejected: tuple[tuple[Detection, str], ...]
    timings: StageTimings  # of tighten, crop and encode


@dataclass(frozen=True)
class Searched:
    """The crops of one frame with what a search found in each."""

    crops: tuple[Crop, ...]
    maps: torch.Tensor  # [B, T, D, g, g]
    candidates: tuple[Candidates, ...]
    timings: StageTimings

    def replaced(self, by: Searched, where: Sequence[int]) -> Searched:
        """The crops numbered `where` from another look."""
        crops, candidates, maps = list(self.crops), list(self.candidates), self.maps.clone()
        maps[list(where)] = by.maps
        for number, crop, found in zip(where, by.crops, by.candidates, strict=True):
            crops[number], candidates[number] = crop, found
        return Searched(tuple(crops), maps, tuple(candidates), self.timings + by.timings)


class Refining(Protocol):
    """What reframing needs of a pipeline."""

    @property
    def rivals(self) -> Rivals: ...

    def refine(
        self, candidates: Sequence[Candidates], maps: torch.Tensor, crops: Sequence[Crop], config: RefineConfig
    ) -> list[Candidates]: ...

    @property
    def placing(self) -> Placing: ...


def better_boxes(
    searched: Searched, camera: Camera, pipeline: Refining, refining: RefineConfig, config: ReframeConfig
) -> dict[int, np.ndarray]:
    """The boxes [4] to look through again: {number of the crop: pixels}, of the crops whose best candidate asks for it."""
    moving = replace(refining, method="newton", unknowns=6, iterations=config.iterations, polish=0)
    moving = replace(moving, coverage_weight=config.coverage_weight)
    refined = pipeline.refine(searched.candidates, searched.maps, searched.crops, moving)
    boxes = {}
    for number, (crop, found) in enumerate(zip(searched.crops, refined, strict=True)):
        looked = np.asarray(crop.detection.box, dtype=np.float64)
        shown = _shown(found, moving.top_k, crop, camera, pipeline)
        if shown is None:
            continue
        box = np.where(crop.clipped, looked, config.gain * shown + (1 - config.gain) * looked)
        if iou(box[None], looked[None])[0, 0] < 1 - config.least_change:
            boxes[number] = box
    return boxes


def _shown(refined: Candidates, count: int, crop: Crop, camera: Camera, pipeline: Refining) -> np.ndarray | None:
    """The box [4] of what the best of the first `count` candidates shows; None where it cannot be placed."""
    margin = pipeline.rivals.margin(refined.value[:count].cpu(), refined.mesh_index[:count].cpu())
    best = int(margin.argmax())
    mesh, displacement = int(refined.mesh_index[best]), refined.displacement
    assert displacement is not None
    try:
        T = pipeline.placing.place(mesh, refined.rotation[best], displacement[best], crop, camera)
    except LiftError:
        return None
    return expected_box(pipeline.placing.outer_points(mesh), T, camera)


def reframed(crops: Sequence[Crop], boxes: Mapping[int, np.ndarray]) -> list[Detection]:
    """The detections of crops, with other boxes."""
    return [replace(crops[number].detection, box=box) for number, box in boxes.items()]
