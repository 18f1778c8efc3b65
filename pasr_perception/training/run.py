"""From mesh files to a trained point encoder: observe what is missing, train, write the weights with their card."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pasr_perception.config import EncoderConfig, LibraryConfig
from pasr_perception.data.split import TRAIN, VALIDATION, split_meshes
from pasr_perception.encoders import load_encoder
from pasr_perception.encoders.points.config import PointEncoderConfig
from pasr_perception.encoders.points.weights import load_point_encoder, save_point_encoder
from pasr_perception.library.build import library_header
from pasr_perception.library.files import sha256_of
from pasr_perception.library.manifest import MeshSource
from pasr_perception.training.cache import ObservationCache, observe_all, shapes_of
from pasr_perception.training.config import CPU, TrainConfig
from pasr_perception.training.loop import Training, TrainingResult
from pasr_perception.training.observe import ObserveConfig
from pasr_perception.training.processes import Processes

WEIGHTS = "points.safetensors"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class TrainRequest:
    """What to train, on what, and where to put it."""

    folder: Path  # of the run: checkpoint, curves, weights
    cache: Path  # of the observations
    train: TrainConfig = CPU
    points: PointEncoderConfig = field(default_factory=PointEncoderConfig)  # its dim becomes the observations'
    observe: ObserveConfig = field(default_factory=ObserveConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    library: LibraryConfig = field(default_factory=LibraryConfig)  # crop geometry and splatting
    cache_mb: int = 8192  # that the observations may take
    begin_with: str = ""  # weights to begin with instead of random ones
    resume: bool = False


def training_sources(sources: Sequence[MeshSource], seed: int) -> list[MeshSource]:
    """The sources to train on and to watch, mixed: if observing is cut short, what is there is a fair sample."""
    splits = split_meshes(source.id for source in sources)
    wanted = [source for split in (TRAIN, VALIDATION) for source in sources if splits[source.id] == split]
    return [wanted[i] for i in np.random.default_rng(seed).permutation(len(wanted))]


def observed(
    sources: Sequence[MeshSource], request: TrainRequest, progress: Progress = lambda what, done, total: None
) -> ObservationCache:
    """The cache of the request, with all training and validation meshes among the sources that fit into it."""
    encoder, _ = load_encoder(request.encoder)
    header = library_header(encoder, request.library)
    mixed = training_sources(sources, request.observe.seed)
    shapes = shapes_of(mixed, request.train.copies)
    return observe_all(shapes, request.cache, encoder, header, request.observe, request.cache_mb, progress)


def train_points(
    request: TrainRequest, processes: Processes, progress: Progress = lambda what, done, total: None
) -> TrainingResult:
    """Train on the request's cache; its folder then holds the weights, float16 with their card.

    Raises LibraryError, EncoderError or TrainingError saying what does not fit.
    """
    cache = ObservationCache.open(request.cache)
    image_encoder = (str(cache.header["encoder"]), str(cache.header["fingerprint"]))
    points = dataclasses.replace(request.points, dim=int(cache.header["dim"]))
    request.folder.mkdir(parents=True, exist_ok=True)
    training = Training(cache, points, request.train, request.folder, processes)
    begun_with = "random weights"
    if request.begin_with:
        begun = load_point_encoder(request.begin_with, image_encoder, torch.device("cpu"))
        training.start_from(begun.encoder)
        # as others can tell it, not by where it lay; now, since hours later another file may be there, or none
        begun_with = f"{Path(request.begin_with).name}, sha256 {sha256_of(Path(request.begin_with))}"
    result = training.run(request.resume, progress)
    if processes.leads:
        save_point_encoder(request.folder / WEIGHTS, result.encoder, image_encoder, card(result, begun_with))
    return result


def card(result: TrainingResult, begun_with: str) -> dict[str, Any]:
    """What to know of the weights: recipe, data, seed, scores."""
    return {
        "recipe": result.counters.recipe,
        "begun_with": begun_with,
        "split": "data.split.split_meshes: by a hash of the id; look-alikes, the demo's meshes and their families are test",
        "trained_on": list(result.meshes),
        "validation_alignment": {"known": result.validation.known, "bare": result.validation.bare},
        "validation_told_apart": result.validation.apart,
        "torch": torch.__version__,
    }
