"""Training of the box network's heads (`boxes/network.py`, `boxes/shown.py`) on collages of synthetic photos with jittered boxes.

What an edge should be is that of what is seen of the object, as most detectors draw it, or, now and then, of all of it. What cells
show is what is seen in either case. The trunk is frozen, so crops become taps once, and an epoch costs the head alone.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pasr_perception.boxes.network import CROP, GRID, EdgeHead, Trunk, beliefs, expected, inside, positions, sides
from pasr_perception.boxes.shown import ShownHead
from pasr_perception.boxes.weights import AnyHead
from pasr_perception.crop import crop_detections, inscribed_ellipse, warp
from pasr_perception.data.detector import jitter_box
from pasr_perception.data.synthetic.photo_set import mask_box
from pasr_perception.encoders.base import image_batch
from pasr_perception.geometry.boxes import iou
from pasr_perception.geometry.camera import project, rays
from pasr_perception.training.collage import SIZE, Collage, Cutout, collage
from pasr_perception.types import Camera, Crop, Detection, Frame

CAMERA = Camera(*SIZE, np.array([[600.0, 0, SIZE[0] / 2], [0, 600.0, SIZE[1] / 2], [0, 0, 1]]))
LEAST_SEEN = 0.35  # share of a thing that must be seen to ask about it
LEAST_AREA = 900  # pixels of it
EACH = 2  # boxes of every thing
BLUR = 2.0  # pixels, of the target distribution
TARGET_WEIGHT = 0.3  # of its cross entropy, against the distance in twentieths of a side

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class BoxTraining:
    """How either head is trained."""

    crops: int = 16000
    steps: int = 900
    batch: int = 64
    jitter: float = 0.12  # of edges, at most; how much of it is drawn for each box
    whole_share: float = 0.3  # of boxes that are around all of a thing, hidden parts too
    learning_rate: float = 2e-3  # at its highest
    weight_decay: float = 1e-2
    held_out_crops: int = 800
    held_out_jitter: float = 0.1  # of every box that the head is judged by
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("crops", "batch", "held_out_crops"):
            if getattr(self, name) < 1:
                raise ValueError(f"boxes.{name}: expected at least 1, got {getattr(self, name)}")
        if self.steps < 0:
            raise ValueError(f"boxes.steps: expected 0 or more, got {self.steps}")
        for name in ("jitter", "held_out_jitter"):
            if not 0 < getattr(self, name) < 0.5:
                raise ValueError(f"boxes.{name}: expected more than 0, below 0.5, got {getattr(self, name)}")
        if not 0 <= self.whole_share <= 1:
            raise ValueError(f"boxes.whole_share: expected 0..1, got {self.whole_share}")


@dataclass(frozen=True)
class Asked:
    """Crops of loose boxes and what is true of them, in crop pixels."""

    taps: list[torch.Tensor]  # [N, C, g, g] float16 each
    box: torch.Tensor  # [N, 4] as said
    true: torch.Tensor  # [N, 4]
    free: torch.Tensor  # [N, 4] bool: edges that are not at the image's border
    shown: torch.Tensor  # [N, g, g] uint8: share of a cell, of 255, that shows the object

    def __len__(self) -> int:
        return len(self.box)

    def chosen(self, index: torch.Tensor) -> Asked:
        """Some of them, their taps in float32."""
        rest = (t[index] for t in (self.box, self.true, self.free, self.shown))
        return Asked([t[index].float() for t in self.taps], *rest)


@dataclass(frozen=True)
class BoxScores:
    """Of boxes: mean distance of edges in sides, and mean overlap with the true ones."""

    error: float
    iou: float


@dataclass(frozen=True)
class Loose:
    """A detection of a collage's thing, and what is true of it."""

    detection: Detection
    true: np.ndarray  # [4] box
    seen: np.ndarray  # [H, W] bool


def seen_in(crop: Crop, box: np.ndarray, camera: Camera) -> np.ndarray:
    """The bounds [4] in a crop's pixels of what a box [4] of the image holds (the convention of `crop.virtual_camera`)."""
    uv = project(rays(inscribed_ellipse(box), camera.K) @ crop.R_cam_crop, crop.K_crop)
    return np.concatenate([uv.min(0), uv.max(0)])


def shown_cells(crop: Crop, seen: np.ndarray) -> np.ndarray:
    """Share [g, g] uint8, of 255, of every cell of a crop that shows what is seen [H, W] bool in the image."""
    image = np.repeat(seen[..., None].astype(np.uint8) * 255, 3, 2)
    mask = warp(Frame(image, CAMERA), crop.K_crop, crop.R_cam_crop, len(crop.image), beyond=(0, 0, 0))
    return cv2.resize(mask[..., 0], (GRID, GRID), interpolation=cv2.INTER_AREA)


def loose_boxes(
    picture: Collage, jitter: tuple[float, float], whole_share: float, rng: np.random.Generator
) -> list[Loose]:
    """Detections of a collage's things; jitter (least, most) of a side."""
    found = []
    for number, whole in enumerate(picture.whole):
        seen = picture.shown == number
        if seen.sum() < max(LEAST_SEEN * whole.sum(), LEAST_AREA):
            continue
        for _ in range(EACH):
            true = mask_box(whole if rng.random() < whole_share else seen)
            said = jitter_box(true, float(rng.uniform(*jitter)), CAMERA, rng)
            found.append(Loose(Detection(said), true, seen))
    return found


def asked(
    things: Sequence[Cutout], count: int, config: BoxTraining, jitter: tuple[float, float], tell: Progress
) -> Asked:
    """`count` crops of loose boxes in collages of things."""
    rng, trunk = np.random.default_rng(config.seed), Trunk()
    parts: list[Asked] = []
    while (done := sum(map(len, parts))) < count:
        tell("looking at collages", done, count)
        some = _looked_at(collage(things, rng), config, jitter, (trunk, rng))
        parts += [] if some is None else [some]
    taps = [torch.cat(each)[:count] for each in zip(*(p.taps for p in parts), strict=True)]
    rest = (torch.cat([getattr(p, name) for p in parts])[:count] for name in ("box", "true", "free", "shown"))
    return Asked(taps, *rest)


def _looked_at(
    picture: Collage, config: BoxTraining, jitter: tuple[float, float], tools: tuple[Trunk, np.random.Generator]
) -> Asked | None:
    trunk, rng = tools
    loose = {id(each.detection): each for each in loose_boxes(picture, jitter, config.whole_share, rng)}
    crops, _ = crop_detections(Frame(picture.image, CAMERA), [each.detection for each in loose.values()], CROP)
    if not crops:
        return None
    images = image_batch([c.image for c in crops])
    mine = [loose[id(c.detection)] for c in crops]
    ends = np.stack([seen_in(c, each.true, CAMERA) for c, each in zip(crops, mine, strict=True)])
    shown = np.stack([shown_cells(c, each.seen) for c, each in zip(crops, mine, strict=True)])
    box = torch.tensor(np.stack([c.box for c in crops]), dtype=torch.float32)
    free = torch.from_numpy(~np.stack([c.clipped for c in crops]))
    true = torch.tensor(ends, dtype=torch.float32)
    return Asked([t.half() for t in trunk(images)], box, true, free, torch.from_numpy(shown))


def objective(logits: torch.Tensor, part: Asked) -> torch.Tensor:
    """Distance of expected edges, and the cross entropy of a narrow peak at the true ones, over edges that are free."""
    belief = beliefs(logits, part.box)
    distance = ((expected(belief) - part.true) / sides(part.box)).abs()
    peak = torch.exp(-(((positions(belief.device) - part.true[..., None]) / BLUR) ** 2) / 2) + 1e-9
    entropy = -(peak / peak.sum(-1, keepdim=True) * (belief + 1e-9).log()).sum(-1)
    return ((20 * distance + TARGET_WEIGHT * entropy) * part.free).sum() / part.free.sum().clamp_min(1)


@torch.no_grad()
def tightened(head: EdgeHead, part: Asked, batch: int = 64) -> torch.Tensor:
    """The boxes [N, 4] that a head makes of those said, in crop pixels; edges at the border stay."""
    found = []
    for index in torch.arange(len(part)).split(batch):
        some = part.chosen(index)
        edges = expected(beliefs(head(some.taps, some.box), some.box))
        found.append(torch.where(some.free, edges, some.box))
    return torch.cat(found)


def scores(box: torch.Tensor, part: Asked) -> BoxScores:
    """Of boxes [N, 4] against the true ones."""
    error = ((box - part.true) / sides(part.box)).abs()[part.free]
    overlap = iou(box.double().numpy(), part.true.double().numpy()).diagonal()
    return BoxScores(float(error.mean()), float(np.mean(overlap)))


def shown_objective(logits: torch.Tensor, part: Asked) -> torch.Tensor:
    """Cross entropy of what cells show."""
    return functional.binary_cross_entropy_with_logits(logits, part.shown / 255)


@torch.no_grad()
def shown_overlaps(head: ShownHead, part: Asked, batch: int = 64) -> dict[str, float]:
    """Mean overlap over union of the cells that truly show the object with the box's, and with those that a head sees."""
    true, seen = part.shown > 127, list[torch.Tensor]()
    for index in torch.arange(len(part)).split(batch):
        some = part.chosen(index)
        seen.append(head(some.taps, some.box) > 0)
    across, down = (each > 0.5 for each in inside(part.box))

    def overlap(said: torch.Tensor) -> float:
        both, either = ((said & true).sum((1, 2)), (said | true).sum((1, 2)))
        return float((both / either.clamp(min=1)).mean())

    return {"box": overlap(down[:, :, None] & across[:, None, :]), "shown": overlap(torch.cat(seen))}


def fit(
    head: nn.Module,
    part: Asked,
    config: BoxTraining,
    loss_of: Callable[[torch.Tensor, Asked], torch.Tensor],
    tell: Progress,
) -> None:
    """Train a head in place."""
    optimiser = torch.optim.AdamW(head.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=config.steps + 1)
    rng = torch.Generator().manual_seed(config.seed)
    for step in range(config.steps):
        some = part.chosen(torch.randint(len(part), (config.batch,), generator=rng))
        loss = loss_of(head(some.taps, some.box), some)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        tell(f"loss {loss.item():.3f}", step + 1, config.steps)


def edge_scores(head: EdgeHead, part: Asked) -> dict[str, Any]:
    """Of the boxes as said, and as a head moves them."""
    after = scores(tightened(head, part), part)
    return {"said": dataclasses.asdict(scores(part.box, part)), "tightened": dataclasses.asdict(after)}


@dataclass(frozen=True)
class Lesson(Generic[AnyHead]):
    """What one of the heads learns."""

    head: type[AnyHead]
    loss_of: Callable[[torch.Tensor, Asked], torch.Tensor]
    judged_by: Callable[[AnyHead, Asked], dict[str, Any]]


def train_boxes(
    things: Sequence[Cutout], held_out: Sequence[Cutout], config: BoxTraining, tell: Progress = lambda *_: None
) -> tuple[EdgeHead, dict[str, Any]]:
    """A head and its card: recipe, and scores on collages of other things. Deterministic by the seed, for one number of threads."""
    return _taught(Lesson(EdgeHead, objective, edge_scores), things, held_out, config, tell)


def train_shown(
    things: Sequence[Cutout], held_out: Sequence[Cutout], config: BoxTraining, tell: Progress = lambda *_: None
) -> tuple[ShownHead, dict[str, Any]]:
    """`train_boxes` of the head that sees which cells show the object."""
    return _taught(Lesson(ShownHead, shown_objective, shown_overlaps), things, held_out, config, tell)


def _taught(
    lesson: Lesson[AnyHead], things: Sequence[Cutout], held_out: Sequence[Cutout], config: BoxTraining, tell: Progress
) -> tuple[AnyHead, dict[str, Any]]:
    began = time.perf_counter()
    part = asked(things, config.crops, config, (0.0, config.jitter), tell)
    judged = asked(held_out, config.held_out_crops, config, (config.held_out_jitter,) * 2, tell)
    torch.manual_seed(config.seed)
    head = lesson.head()
    fit(head, part, config, lesson.loss_of, tell)
    found = lesson.judged_by(head, judged)
    seconds = round(time.perf_counter() - began)
    return head, {
        "recipe": dataclasses.asdict(config),
        "things": len(things),
        "seconds": seconds,
        "held_out": found,
    }
