"""Heaps of things for learning where one ends: cut-outs of synthetic photos pasted over one another, in any roll, at like sizes.

A synthetic photo shows its object with room around it. Real detections show things stacked, packed and leaning; what is in front
and behind is known here to the pixel, at the cost of a paste.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pasr_perception.data.split import meshes_of
from pasr_perception.data.synthetic.photo_set import PhotoSet

LEVELS = ("L0", "L1")  # of occlusion, that cut-outs are taken from
SIZE = (640, 480)
THINGS = (3, 10)  # in a collage, at least and at most
THING_SIDE = (90.0, 260.0)  # pixels, longer side of the middle one
SPREAD = (0.4, 1.6)  # of that: how far things lie from the heap's middle at most
SIZES = 0.45  # log of the factor that things differ from it by at most
LEVEL, ROLL = 0.4, 8.0  # share of things that are nearly as they were photographed, and degrees that those lean
SHADED = 0.6  # share of things that darken what is behind them
ENLARGED = 0.3  # share of backgrounds that are a part of a photo
EDGE = 0.6  # pixels over which a cut-out's edge is blended
LEAST_AREA = 400  # pixels of a pasted thing


@dataclass(frozen=True)
class Cutout:
    """An object of a photo, and the photo."""

    photo: np.ndarray  # [H, W, 3] uint8 RGB
    image: np.ndarray  # [h, w, 3] uint8, the box around what is seen
    mask: np.ndarray  # [h, w] float32, 1 where it is


@dataclass(frozen=True)
class Collage:
    """A picture of many things."""

    image: np.ndarray  # [H, W, 3] uint8 RGB
    shown: np.ndarray  # [H, W] int32, number of the thing that is seen there; -1: none
    whole: tuple[np.ndarray, ...]  # [H, W] bool of each thing, with what others hide


def cutouts(photos: PhotoSet, part: str) -> list[Cutout]:
    """One of every photo that hides little of a mesh of one part of the split. Raises ValueError where there is none."""
    chosen, found = set(meshes_of(part, (mesh.id for mesh in photos.meshes))), list[Cutout]()
    for record in (record for level in LEVELS for record in photos.of_level(level) if record.mesh_id in chosen):
        photo, (visible, _) = photos.frame(record).frame.image, photos.mask(record)
        x0, y0, x1, y1 = (int(v) for v in record.box_visible)
        image, mask = photo[y0:y1, x0:x1], visible[y0:y1, x0:x1].astype(np.float32)
        found.append(Cutout(photo, np.ascontiguousarray(image), np.ascontiguousarray(mask)))
    if not found:
        raise ValueError(f"{photos.root}: expected photos of {part} meshes at {' or '.join(LEVELS)}, got none")
    return found


def collage(things: Sequence[Cutout], rng: np.random.Generator) -> Collage:
    """A heap of some of the things before another one's photo."""
    canvas = _background(things[int(rng.integers(len(things)))].photo, rng)
    shown, whole = np.full(canvas.shape[:2], -1, np.int32), list[np.ndarray]()
    side = float(rng.uniform(*THING_SIDE))
    middle, spread = np.array(SIZE) * rng.uniform(0.25, 0.75, 2), side * float(rng.uniform(*SPREAD))
    for _ in range(int(rng.integers(THINGS[0], THINGS[1] + 1))):
        thing = things[int(rng.integers(len(things)))]
        where = middle + rng.uniform(-1, 1, 2) * spread
        cover, colour = _laid(thing, side * float(np.exp(rng.uniform(-SIZES, SIZES))), where, rng)
        if cover.sum() < LEAST_AREA:
            continue
        if rng.random() < SHADED:
            canvas *= _shade(cover, 0.06 * side, rng)[..., None]
        alpha = cv2.GaussianBlur(cover, (0, 0), EDGE)[..., None]
        canvas = canvas * (1 - alpha) + colour * alpha
        shown[cover > 0.5] = len(whole)
        whole.append(cover > 0.5)
    return Collage(_photographed(canvas, rng), shown, tuple(whole))


def _background(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    image = cv2.resize(photo, SIZE) if photo.shape[1::-1] != SIZE else photo
    if rng.random() < 0.5:
        image = image[:, ::-1]
    if rng.random() < ENLARGED:
        share = rng.uniform(0.3, 0.8)
        w, h = int(SIZE[0] * share), int(SIZE[1] * share)
        x, y = int(rng.integers(SIZE[0] - w + 1)), int(rng.integers(SIZE[1] - h + 1))
        image = cv2.resize(image[y : y + h, x : x + w], SIZE)
    return image.astype(np.float32)


def _laid(thing: Cutout, side: float, where: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """What a thing covers [H, W] in 0..1 and its colours [H, W, 3], `side` pixels long, its middle at `where` [2]."""
    image, mask = thing.image, thing.mask
    if rng.random() < 0.5:
        image, mask = np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(mask[:, ::-1])
    angle = rng.normal(0, ROLL) if rng.random() < LEVEL else rng.uniform(-180, 180)
    middle, scale = (mask.shape[1] / 2, mask.shape[0] / 2), side / max(mask.shape)
    affine = cv2.getRotationMatrix2D(middle, float(angle), scale)
    affine[:, 2] += where - middle
    cover = cv2.warpAffine(mask, affine, SIZE)
    colour = cv2.warpAffine(image, affine, SIZE, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    return cover, colour * np.exp(rng.normal(0, 0.15) + rng.normal(0, 0.05, 3)).astype(np.float32)


def _shade(cover: np.ndarray, softness: float, rng: np.random.Generator) -> np.ndarray:
    """Factors [H, W] of a thing's shadow, thrown a little aside."""
    aside = np.array([[1, 0, rng.uniform(-1, 1) * softness], [0, 1, rng.uniform(-1, 1) * softness]])
    return 1 - float(rng.uniform(0.1, 0.6)) * cv2.warpAffine(cv2.GaussianBlur(cover, (0, 0), softness), aside, SIZE)


def _photographed(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 of colours [H, W, 3], exposed, blurred, noisy and compressed once more, so that no seam tells a paste."""
    canvas = canvas * np.exp(rng.normal(-0.1, 0.35))
    if rng.random() < 0.5:
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.3, 1.3))
    noisy = canvas + rng.normal(0, rng.uniform(0, 7), canvas.shape)
    image = np.clip(noisy, 0, 255).astype(np.uint8)
    if rng.random() < 0.7:
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 96))])
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert decoded is not None
        return np.asarray(decoded)
    return image
