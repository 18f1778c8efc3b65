"""Contours: hand-made crops in which something ends, the loops against slow twins, and what refinement makes of them."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pasr_perception.config import ConfigError, PasrConfig, RefineConfig
from pasr_perception.contour import NEUTRAL, SIDE, CropEdges, contour_agreement, evidence
from pasr_perception.crop import BACKGROUND, crop_detections
from pasr_perception.geometry.placement import ViewSpec
from pasr_perception.geometry.se3 import make_T
from pasr_perception.geometry.viewpoints import look_at, random_rotations
from pasr_perception.kernels import contour as kernels
from pasr_perception.kernels.contour import BORDER
from pasr_perception.kernels.distances import distances
from pasr_perception.library.store import MeshLibrary
from pasr_perception.pipeline import Pipeline
from pasr_perception.refine.problem import Clouds, Pose, RenderScene
from pasr_perception.render.splat import SplatConfig
from pasr_perception.types import Crop, Detection

MIDDLE = SIDE / 2


def crop_of(image: np.ndarray) -> Crop:
    return Crop(image, np.eye(3), np.eye(3), np.zeros(4), np.zeros(4, bool), Detection(np.zeros(4)))


def disc_image(radius: float, colour: tuple[int, int, int] = (200, 60, 40), side: int = 2 * SIDE) -> np.ndarray:
    """A disc in the middle of a grey crop, its radius in pixels of `SIDE`."""
    image = np.full((side, side, 3), 90, np.uint8)
    scale = side / SIDE
    cv2.circle(image, (side // 2, side // 2), round(radius * scale), colour, -1, cv2.LINE_AA)
    return image


def disc_points(radius: float, x: float = MIDDLE, y: float = MIDDLE, count: int = 3000) -> np.ndarray:
    """Points [N, 2] all over a disc, pixels of `SIDE`."""
    rng = np.random.default_rng(0)
    r, angle = radius * np.sqrt(rng.random(count)), 2 * math.pi * rng.random(count)
    return np.stack([x + r * np.cos(angle), y + r * np.sin(angle)], 1).astype(np.float32)


def found_in(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    found, seen = np.empty(3, np.float32), CropEdges.of([crop_of(image)]).each[0]
    kernels.look(points, seen.edges, seen.shade, found)
    return found


def seen_in(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    return evidence(found_in(image, points))


def test_what_ends_where_the_object_does_agrees() -> None:
    edge, region = seen_in(disc_image(35), disc_points(35))
    assert edge > 0.85
    assert region > 0.95


@pytest.mark.parametrize(
    ("points", "least"), [(disc_points(26), 0.3), (disc_points(45), 0.3), (disc_points(35, 70), 0.2)]
)
def test_what_ends_elsewhere_agrees_less(points: np.ndarray, least: float) -> None:
    image = disc_image(35)
    assert seen_in(image, disc_points(35)).mean() - seen_in(image, points).mean() > least


def test_edges_across_the_contour_say_nothing_for_it() -> None:
    """Rays from the middle: gradients run along the disc's border, strong as they are."""
    side = 2 * SIDE
    v, u = np.indices((side, side)) + 0.5 - side / 2
    rays = (
        np.where((np.arctan2(v, u) * 12 / math.pi).astype(int)[..., None] % 2, 230, 30).repeat(3, -1).astype(np.uint8)
    )
    edge, region = seen_in(rays, disc_points(35))
    assert edge < 0.35
    assert region < 0.1


def test_a_uniform_crop_has_no_contours() -> None:
    edge, region = seen_in(np.full((SIDE, SIDE, 3), 128, np.uint8), disc_points(35))
    assert edge == pytest.approx(0, abs=1e-6)
    assert region == pytest.approx(0, abs=1e-6)


def test_direction_counts_more_than_strength() -> None:
    strong, faint = (
        seen_in(disc_image(35, colour), disc_points(35))[0] for colour in ((250, 250, 250), (110, 110, 110))
    )
    assert faint > 0.5
    assert strong < 1.3 * faint


def test_of_what_lies_off_the_crop_nothing_is_said() -> None:
    assert seen_in(disc_image(35), disc_points(8, x=-40)).tolist() == [NEUTRAL, NEUTRAL]
    assert seen_in(disc_image(35), np.zeros((0, 2), np.float32)).tolist() == [NEUTRAL, NEUTRAL]


def test_the_photos_border_is_no_contour() -> None:
    """Half of the disc lies off the photo: what the other half shows is all that counts."""
    whole, cut = disc_image(35), disc_image(35)
    cut[:, SIDE:] = BACKGROUND  # the right half of the crop
    assert seen_in(cut, disc_points(35))[0] > 0.85
    ends_there = disc_points(35)[disc_points(35)[:, 0] < MIDDLE]
    assert seen_in(cut, ends_there)[0] == pytest.approx(seen_in(whole, disc_points(35))[0], abs=0.1)
    assert (CropEdges.of([crop_of(cut)]).each[0].shade[:, SIDE // 2 :] == -1).all()
    assert (CropEdges.of([crop_of(whole)]).each[0].shade >= 0).all()


def test_gaps_between_points_are_closed() -> None:
    """A square whose points are 5 pixels apart is seen as one of many more points is, and not one that is 20 apart."""
    image = np.full((SIDE, SIDE, 3), 90, np.uint8)
    image[20:86, 20:86] = (200, 60, 40)

    def grid(step: int) -> np.ndarray:
        v, u = np.mgrid[20:86:step, 20:86:step]
        return np.stack([u.ravel(), v.ravel()], 1).astype(np.float32) + 0.5

    close, gaps, apart = (found_in(image, grid(step)) for step in (1, 5, 20))
    np.testing.assert_allclose(gaps[:2], close[:2], atol=0.2)
    assert gaps[2] > 0.8 * close[2]
    assert apart[:2].mean() < gaps[:2].mean() - 0.2


# the twins, one pixel at a time and in double precision


def edges_twin(smooth: np.ndarray) -> np.ndarray:
    slope = np.stack(
        [cv2.Scharr(smooth, cv2.CV_64F, *by, borderType=cv2.BORDER_REPLICATE) for by in ((1, 0), (0, 1))], -1
    )
    length = np.linalg.norm(slope, axis=-1)
    most = length.argmax(-1)
    v, u = np.indices(most.shape)
    return np.concatenate([slope[v, u, most], length[v, u, most][..., None]], -1) / 32


def evidence_twin(
    inner: np.ndarray, outer: np.ndarray, edges: np.ndarray, shade: np.ndarray
) -> tuple[float, float, int]:
    size, fits = len(edges), []
    inside: list[int] = []
    outside: list[int] = []
    offsets = np.arange(-2, 3)
    for y in range(size):
        for x in range(size):
            depth = float(inner[y + BORDER, x + BORDER]) - kernels.CLOSING
            if shade[y, x] < 0:
                continue
            if 0 < depth <= 1:
                patch = inner[y + BORDER - 2 : y + BORDER + 3, x + BORDER - 2 : x + BORDER + 3].astype(float)
                normal = np.array([(patch * offsets).sum(), (patch * offsets[:, None]).sum()])
                if np.linalg.norm(normal) < 1e-6:
                    continue
                normal /= np.linalg.norm(normal)
                seen = []
                for k in range(-4, 5):
                    i, j = np.floor(np.array([x, y]) + (k - 0.5) * normal + 0.5).astype(int)
                    if 0 <= i < size and 0 <= j < size and shade[j, i] >= 0:
                        across = abs(edges[j, i, :2] @ normal)
                        seen.append(math.exp(-k * k / 8) * across / (edges[j, i, 2] + 1))
                if seen:
                    fits.append(max(seen))
            elif 1 < depth < 12:
                inside.append(int(shade[y, x]))
            elif depth <= 0 and 1 < outer[y + BORDER, x + BORDER] < 12:
                outside.append(int(shade[y, x]))
    shares = [np.bincount(band, minlength=4096) / len(band) for band in (inside, outside)]
    return float(np.mean(fits)), 1 - float(np.sqrt(shares[0] * shares[1]).sum()), min(map(len, (fits, inside, outside)))


def distances_twin(uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the whole crop and its border, [T, T]."""
    marks = np.ones((SIDE + 2 * BORDER,) * 2, np.uint8)
    for u, v in np.floor(uv).astype(int) + BORDER:
        if 0 <= u < len(marks) and 0 <= v < len(marks):
            marks[v, u] = 0
    outer = cv2.distanceTransform(marks, cv2.DIST_L2, 5)
    return cv2.distanceTransform((outer <= kernels.CLOSING).astype(np.uint8), cv2.DIST_L2, 5), outer


def test_the_strongest_channel_is_scharrs() -> None:
    smooth = np.random.default_rng(3).normal(0, 40, (20, 20, 3)).astype(np.float32)
    edges = np.empty_like(smooth)
    kernels.strongest_edges(smooth, edges)
    np.testing.assert_allclose(edges, edges_twin(smooth), atol=1e-3)


@pytest.mark.parametrize("x", [MIDDLE, 12.0, -10.0, 118.0])
def test_the_loops_are_those_of_the_twin(x: float) -> None:
    rng = np.random.default_rng(1)
    image = cv2.GaussianBlur(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8), (0, 0), 2)
    image[:20, 60:] = BACKGROUND
    seen, points = CropEdges.of([crop_of(image)]).each[0], disc_points(30, x, 40)
    twin = evidence_twin(*distances_twin(points), seen.edges, seen.shade)
    assert twin[2] > 20
    np.testing.assert_allclose(found_in(image, points), twin, rtol=2e-3)


def test_distances_are_those_of_opencv() -> None:
    marked = np.random.default_rng(0).random((31, 47)) > 0.997
    marked[0, 46] = marked[5, 0] = True
    found = np.empty(marked.shape, np.float32)
    distances(marked, np.empty((36, 51), np.int32), found)
    np.testing.assert_allclose(found, cv2.distanceTransform((~marked).astype(np.uint8), cv2.DIST_L2, 5), atol=1e-3)


# poses


def test_a_ball_agrees_where_it_is_and_less_where_it_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.nn.functional.normalize(torch.randn(4000, 3, generator=generator), dim=1)
    scene = RenderScene(ViewSpec(), SplatConfig(size=14, radius=0.1, points_per_pixel=4, depth_band=0.2))
    radius = scene.view.fill * SIDE / 2
    seen = CropEdges.of([crop_of(disc_image(10)), crop_of(disc_image(radius))])
    rotation = torch.from_numpy(random_rotations(3, np.random.default_rng(0))).float()
    shift = torch.tensor([[0.0, 0.0], [0.12, 0.0], [0.0, 0.0]])
    pose = Pose(rotation, shift, torch.tensor([0.0, 0.0, -0.3]))
    clouds = Clouds(points[None], torch.ones(1, 4000, 2))
    none, second = torch.zeros(3, dtype=torch.long), torch.ones(3, dtype=torch.long)
    right, moved, shrunk = contour_agreement(pose, none, clouds, seen, second, scene).tolist()
    assert right > 0.9
    assert max(moved, shrunk) < right - 0.15
    assert max(contour_agreement(pose, none, clouds, seen, none, scene).tolist()) < right - 0.3


def searched_and_refined(bench: Any, library_path: Path, refine: RefineConfig) -> tuple[Pipeline, Any]:
    """A pipeline, and the refined candidates of a photo of the truck."""
    pipeline = Pipeline(MeshLibrary.open(library_path), bench.encoder, PasrConfig(refine=refine), torch.device("cpu"))
    T = make_T(look_at(0.5, 0.8), np.array([0, 0, 5.0]))
    frame, detection = bench.photograph("truck", T)
    crops, _ = crop_detections(frame, [detection], pipeline.crop_spec)
    maps = pipeline.encode(crops)
    size = torch.as_tensor(crops[0].box[2:] - crops[0].box[:2], dtype=torch.float32)[None]
    return pipeline, pipeline.refine(pipeline.search(maps, size), maps, crops)[0]


def test_refined_values_hold_what_contours_are_worth(bench: Any, library_path: Path) -> None:
    known = RefineConfig(finalists=32, window=0, polish=0, contour_weight=0)  # so that all are refined alike
    _, without = searched_and_refined(bench, library_path, known)
    pipeline, found = searched_and_refined(bench, library_path, dataclasses.replace(known, contour_weight=20))
    assert len(found.value) == len(without.value) > 2
    ours, theirs = found.similarity.argsort(), without.similarity.argsort()
    assert torch.allclose(found.similarity[ours], without.similarity[theirs], atol=1e-4)
    assert torch.equal(found.mesh_index[ours], without.mesh_index[theirs])
    spread = pipeline.rivals.spread[found.mesh_index[ours]]
    agreement = (found.value[ours] - without.value[theirs]) / (20 * spread) + NEUTRAL
    assert float(agreement.min()) >= 0
    assert float(agreement.max()) <= 1
    best = int(pipeline.rivals.margin(found.value, found.mesh_index).argmax())
    assert pipeline.library.entries[int(found.mesh_index[best])].id == "truck"
    assert float(agreement[ours == best]) > NEUTRAL + 0.05
    assert float(agreement.std()) > 0.02


def test_of_candidates_far_behind_contours_are_taken_for_those_of_the_others(bench: Any, library_path: Path) -> None:
    pipeline, found = searched_and_refined(bench, library_path, RefineConfig(window=1e-6))
    assert found.contour is not None
    worth = found.contour / pipeline.rivals.spread[found.mesh_index]
    assert len(worth) > 2
    torch.testing.assert_close(worth, worth[:1].expand_as(worth))
    assert float(worth[0].abs()) > 0
    _, all_looked_at = searched_and_refined(bench, library_path, RefineConfig(window=0))
    worth = all_looked_at.contour / pipeline.rivals.spread[all_looked_at.mesh_index]
    assert float(worth.std()) > 0.1


def test_contours_speak_of_candidates_that_are_not_refined_too(bench: Any, library_path: Path) -> None:
    _, without = searched_and_refined(bench, library_path, RefineConfig(top_k=1, contour_weight=0))
    _, found = searched_and_refined(bench, library_path, RefineConfig(top_k=1))
    assert without.contour is None
    assert found.contour is not None
    assert float(found.contour[1:].abs().min()) > 0
    order = found.value[1:] - found.contour[1:]  # what the search alone said
    searched = {round(float(v), 4) for v in without.value[1:]}
    assert len(searched & {round(float(v), 4) for v in order}) >= len(order) - 1  # another one may have been refined


def test_a_weight_below_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"refine\.contour_weight: expected 0 or more, got -1"):
        RefineConfig(contour_weight=-1)
