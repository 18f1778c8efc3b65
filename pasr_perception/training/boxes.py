"""Training of the box network's head (`boxes/network.py`) on collages of synthetic photos, whose boxes are jittered.

What an edge should be is that of what is seen of the object, as most detectors draw it, or, now and then, of all of it. The trunk
is frozen, so crops become taps once, and an epoch costs the head alone.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pasr_perception.boxes.network import CROP, EdgeHead, Trunk, beliefs, expected, positions, sides
from pasr_perception.crop import crop_detections, inscribed_ellipse
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
    """How the head is trained."""

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

    def __len__(self) -> int:
        return len(self.box)

    def chosen(self, index: torch.Tensor) -> Asked:
        """Some of them, their taps in float32."""
        return Asked([t[index].float() for t in self.taps], self.box[index], self.true[index], self.free[index])


@dataclass(frozen=True)
class BoxScores:
    """Of boxes: mean distance of edges in sides, and mean overlap with the true ones."""

    error: float
    iou: float


def seen_in(crop: Crop, box: np.ndarray, camera: Camera) -> np.ndarray:
    """The bounds [4] in a crop's pixels of what a box [4] of the image holds (the convention of `crop.virtual_camera`)."""
    uv = project(rays(inscribed_ellipse(box), camera.K) @ crop.R_cam_crop, crop.K_crop)
    return np.concatenate([uv.min(0), uv.max(0)])


def loose_boxes(
    picture: Collage, jitter: tuple[float, float], whole_share: float, rng: np.random.Generator
) -> list[tuple[Detection, np.ndarray]]:
    """Detections of a collage's things, each with its true box [4]; jitter (least, most) of a side."""
    found = []
    for number, whole in enumerate(picture.whole):
        seen = picture.shown == number
        if seen.sum() < max(LEAST_SEEN * whole.sum(), LEAST_AREA):
            continue
        for _ in range(EACH):
            true = mask_box(whole if rng.random() < whole_share else seen)
            found.append((Detection(jitter_box(true, float(rng.uniform(*jitter)), CAMERA, rng)), true))
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
    box, true, free = (torch.cat([getattr(p, name) for p in parts])[:count] for name in ("box", "true", "free"))
    return Asked(taps, box, true, free)


def _looked_at(
    picture: Collage, config: BoxTraining, jitter: tuple[float, float], tools: tuple[Trunk, np.random.Generator]
) -> Asked | None:
    trunk, rng = tools
    true = {id(detection): (detection, box) for detection, box in loose_boxes(picture, jitter, config.whole_share, rng)}
    crops, _ = crop_detections(Frame(picture.image, CAMERA), [d for d, _ in true.values()], CROP)
    if not crops:
        return None
    images = image_batch([c.image for c in crops])
    ends = np.stack([seen_in(c, true[id(c.detection)][1], CAMERA) for c in crops])
    box = torch.tensor(np.stack([c.box for c in crops]), dtype=torch.float32)
    free = torch.from_numpy(~np.stack([c.clipped for c in crops]))
    return Asked([t.half() for t in trunk(images)], box, torch.tensor(ends, dtype=torch.float32), free)


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


def train_boxes(
    things: Sequence[Cutout], held_out: Sequence[Cutout], config: BoxTraining, tell: Progress = lambda *_: None
) -> tuple[EdgeHead, dict[str, Any]]:
    """A head and its card: recipe, and scores on collages of other things. Deterministic by the seed, for one number of threads."""
    part = asked(things, config.crops, config, (0.0, config.jitter), tell)
    judged = asked(held_out, config.held_out_crops, config, (config.held_out_jitter,) * 2, tell)
    torch.manual_seed(config.seed)
    head = EdgeHead()
    optimiser = torch.optim.AdamW(head.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=config.steps + 1)
    began, rng = time.perf_counter(), torch.Generator().manual_seed(config.seed)
    for step in range(config.steps):
        some = part.chosen(torch.randint(len(part), (config.batch,), generator=rng))
        loss = objective(head(some.taps, some.box), some)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        tell(f"loss {loss.item():.3f}", step + 1, config.steps)
    after = scores(tightened(head, judged), judged)
    card = {
        "recipe": dataclasses.asdict(config),
        "things": len(things),
        "seconds": round(time.perf_counter() - began),
        "held_out": {"said": dataclasses.asdict(scores(judged.box, judged)), "tightened": dataclasses.asdict(after)},
    }
    return head, card
