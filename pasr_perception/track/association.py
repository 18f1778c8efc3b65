"""Which detection shows which track: by the detector's ids where it gives them, else by overlap and colours.

What is left over is assigned so that the sum of costs is least (Kuhn 1955, by scipy). A cost is how little the predicted box
and the detected one overlap, mixed with how little their colours agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from pasr_perception.config import TrackConfig
from pasr_perception.geometry.boxes import iou, sides
from pasr_perception.types import Detection

BINS = (12, 4, 4)  # of hue, saturation and value
SIDE = 32  # pixels that a box is shrunk to
CENTRE = 0.7  # share of a box's sides that is looked at: what is near the edges is often background
LAST_BOX = 0.8  # what overlap with the last detected box counts, against overlap with the predicted one
IMPOSSIBLE = 1e6


@dataclass(frozen=True)
class Oddity:
    """How a detection that was looked at, and was the object all the same, differed from what was expected."""

    off: np.ndarray  # [4] its edges from the expected ones, in sides of the expected box
    colours: np.ndarray

    @classmethod
    def of(cls, box: np.ndarray, expected: np.ndarray, colours: np.ndarray) -> Oddity:
        return cls((box - expected) / sides(expected), colours)

    def box(self, expected: np.ndarray) -> np.ndarray:
        """Where such a detection is [4] when the object is expected at [4]."""
        return expected + self.off * sides(expected)


@dataclass(frozen=True)
class Expected:
    """What a track expects to be detected."""

    box: np.ndarray  # [4] pixels
    colours: np.ndarray  # histogram, sum 1
    name: str  # the detector's id when it was last seen; empty: it gave none
    last: np.ndarray | None = None  # [4] pixels where it was detected a moment ago, in case its mesh is a wrong one
    odd: Oddity | None = None  # of its last look: what stands in front of an object does so for a while

    def agrees(self, detection: Detection, colours: np.ndarray, least_iou: float, least_alike: float) -> bool:
        """Whether a detection's box and the colours in it are what is expected by these limits, or odd as before."""
        known = [(self.box, self.colours)]
        if self.odd is not None:
            known.append((self.odd.box(self.box), self.odd.colours))
        box = np.asarray(detection.box, dtype=np.float64)
        overlap = iou(np.stack([b for b, _ in known]), box[None])[:, 0]
        likeness = alike(np.stack([c for _, c in known]), colours[None])[:, 0]
        return bool(((overlap >= least_iou) & (likeness >= least_alike)).any())


def alike(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Bhattacharyya's coefficient [A, B] of histograms [A, n] and [B, n]."""
    return np.asarray(np.sqrt(a) @ np.sqrt(b).T)


def colours_of(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Histogram of hue, saturation and value, sum 1, over the middle of a box [4] of an RGB image [H, W, 3]."""
    middle, half = (box[:2] + box[2:]) / 2, CENTRE * (box[2:] - box[:2]) / 2
    limit = np.array([image.shape[1], image.shape[0]])
    low = np.clip(np.floor(middle - half), 0, limit - 1).astype(int)
    high = np.clip(np.ceil(middle + half), low + 1, limit).astype(int)
    part = cv2.resize(image[low[1] : high[1], low[0] : high[0]], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    hsv = cv2.cvtColor(part, cv2.COLOR_RGB2HSV)
    histogram = cv2.calcHist([hsv], [0, 1, 2], None, list(BINS), [0, 180, 0, 256, 0, 256]).reshape(-1)
    return np.asarray(histogram / max(float(histogram.sum()), 1.0), dtype=np.float64)


def associate(
    expected: Sequence[Expected], detections: Sequence[Detection], colours: Sequence[np.ndarray], config: TrackConfig
) -> list[int | None]:
    """For every detection the index of its track, None for a new one."""
    found: list[int | None] = [None] * len(detections)
    names = {e.name: i for i, e in enumerate(expected) if e.name}
    for d, detection in enumerate(detections):
        if detection.id and detection.id in names:
            found[d] = names.pop(detection.id)
    taken = {t for t in found if t is not None}
    tracks = [t for t in range(len(expected)) if t not in taken]
    open_ones = [d for d in range(len(detections)) if found[d] is None]
    if not tracks or not open_ones:
        return found
    cost = _costs(
        [expected[t] for t in tracks], [detections[d] for d in open_ones], [colours[d] for d in open_ones], config
    )
    for row, column in zip(*linear_sum_assignment(cost), strict=True):
        if cost[row, column] < IMPOSSIBLE:
            found[open_ones[column]] = tracks[row]
    return found


def _costs(
    expected: Sequence[Expected], detections: Sequence[Detection], colours: Sequence[np.ndarray], config: TrackConfig
) -> np.ndarray:
    boxes = np.stack([np.asarray(d.box, float) for d in detections])
    overlap = iou(np.stack([e.box for e in expected]), boxes)
    last = np.stack([e.box if e.last is None else e.last for e in expected])
    overlap = np.maximum(overlap, LAST_BOX * iou(last, boxes))
    likeness = alike(np.stack([e.colours for e in expected]), np.stack(list(colours)))
    cost = 1 - (1 - config.appearance_weight) * overlap - config.appearance_weight * likeness
    # two ids that both exist and differ are two objects
    other = np.array([[bool(e.name and d.id and e.name != d.id) for d in detections] for e in expected])
    return np.where((overlap < config.min_iou) | other, IMPOSSIBLE, cost)
