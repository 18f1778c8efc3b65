"""Fits an encoder's feature statistics on rendered meshes (`pasr encoder fit`); none of them may be used in an evaluation.

Each mesh is seen from several sides, before random backgrounds and through a random camera's habits (exposure, colour, blur,
noise). Where several views show the same surface point, what stays the same is signal and what changes is not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pasr_perception.data.photo import photograph, random_effects
from pasr_perception.encoders.base import image_batch
from pasr_perception.encoders.efficientnet_lite import CHANNELS, IMAGE_SIZE, EfficientNetLite
from pasr_perception.encoders.projection import FeatureProjection, discriminant, joined, whitening_of
from pasr_perception.geometry.placement import ViewSpec
from pasr_perception.geometry.viewpoints import random_rotations
from pasr_perception.library.lifted import sample_map, visibility
from pasr_perception.library.manifest import MeshSource
from pasr_perception.library.meshes import MeshError, load_mesh
from pasr_perception.library.sample import normalised, sample_surface
from pasr_perception.library.views import ViewRenderer, random_background

logger = logging.getLogger(__name__)

FILLS = (0.7, 0.78, 0.86)  # boxes are never exact, so scale is one of the things that change
MAX_FACES = 60_000
MIN_FACING = 0.3  # cosine between surface and line of sight below which a point is not counted as seen
GAMMA = 2.2


@dataclass(frozen=True)
class FitConfig:
    meshes: int = 90
    views: int = 9
    points: int = 160  # surface points per mesh
    whitened_dims: tuple[int, ...] = (64, 96, 96)
    stable_dims: int = 64
    stable_share: float = 0.5
    seed: int = 1


@dataclass(frozen=True)
class PointViews:
    """Raw features of one mesh's surface points in several views."""

    features: torch.Tensor  # [V, P, sum C] float32
    seen: torch.Tensor  # [V, P] bool


def observe(source: MeshSource, encoder: EfficientNetLite, config: FitConfig, rng: np.random.Generator) -> PointViews:
    """Look at one mesh; raises MeshError if it cannot be loaded or is too heavy."""
    mesh = load_mesh(source.path, source.unit)
    if len(mesh.faces) > MAX_FACES:
        raise MeshError(f"{source.path}: {len(mesh.faces)} faces are more than the {MAX_FACES} wanted here")
    unit_mesh = normalised(mesh)
    samples = sample_surface(unit_mesh, 8 * config.points, int(rng.integers(2**31)))
    renderers = [ViewRenderer(unit_mesh, ViewSpec(fill=fill), IMAGE_SIZE, 1) for fill in FILLS]
    rotations = random_rotations(config.views, rng)
    views = [renderers[i % len(FILLS)].render(R, random_background(IMAGE_SIZE, rng)) for i, R in enumerate(rotations)]
    photos = [photograph((v.image / 255.0) ** GAMMA, random_effects(rng), rng) for v in views]
    images = image_batch(photos)
    taps = [torch.cat(encoder.taps(batch), 1).cpu() for batch in images.split(3)]
    features, seen = [], []
    for view, maps in zip(views, torch.cat(taps), strict=True):
        uv, facing = visibility(samples, view)
        features.append(sample_map(maps, uv))
        seen.append(facing > MIN_FACING)
    often = torch.stack(seen).sum(0).argsort(descending=True)[: 4 * config.points].numpy()
    chosen = torch.as_tensor(rng.permutation(often)[: config.points])
    return PointViews(torch.stack(features)[:, chosen], torch.stack(seen)[:, chosen])


def fit_projection(
    sources: Sequence[MeshSource],
    encoder: EfficientNetLite,
    config: FitConfig,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> FeatureProjection:
    """Statistics from the first `config.meshes` usable sources, in a random order."""
    rng = np.random.default_rng(config.seed)
    found: list[PointViews] = []
    for i in rng.permutation(len(sources)):
        if len(found) == config.meshes:
            break
        progress(sources[i].id, len(found), config.meshes)
        try:
            found.append(observe(sources[i], encoder, config, rng))
        except MeshError as error:
            logger.warning("not used: %s", error)
    if not found:
        raise ValueError("sources: expected at least one readable mesh, got none")
    return statistics(found, config)


def statistics(found: Sequence[PointViews], config: FitConfig) -> FeatureProjection:
    """The projection fitted on these observations."""
    visible = torch.cat([view.features[view.seen] for view in found])  # [n, sum C]
    mean = visible.mean(0)
    parts = (visible - mean).split(CHANNELS, 1)
    whitening = tuple(whitening_of(x, kept) for x, kept in zip(parts, config.whitened_dims, strict=True))
    within, between, centre = scatter(found, mean)
    stable = discriminant(within, between, config.stable_dims)
    return FeatureProjection(tuple(mean.split(CHANNELS)), whitening, centre, stable, config.stable_share)


def scatter(found: Sequence[PointViews], mean: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Within-point and between-point scatter [C, C] of joined taps, and the mean over points [C]."""
    within = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    freedom, centres = 0, []
    for views in found:
        x = joined((views.features - mean).split(CHANNELS, -1)).double()
        seen = views.seen[..., None].double()
        count = seen.sum(0)  # [P, 1]
        centre = (x * seen).sum(0) / count.clamp(min=1)
        twice = count[:, 0] >= 2
        off = ((x - centre) * seen)[:, twice].flatten(0, 1)
        within += off.T @ off
        freedom += int((count[twice] - 1).sum())
        centres.append(centre[twice])
    points = torch.cat(centres)
    average = points.mean(0)
    between = (points - average).T @ (points - average) / len(points)
    return within / max(freedom, 1), between, average.float()
