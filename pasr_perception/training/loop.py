"""The training loop (PASR 3.4): steps on the alignment of splatted point features with the image's at the true pose and,
where the recipe says so, on how well cells of different meshes are told apart by them.

Everything random follows from the seed, the epoch and the mesh, so a run that was killed and resumed at the end of an epoch ends
with the weights of one that was not. Curves go to curves.csv in the run's folder.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import itertools
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from pasr_perception.encoders.points.config import PointEncoderConfig
from pasr_perception.encoders.points.encoder import PointEncoder
from pasr_perception.training.alignment import Wanted, alignment
from pasr_perception.training.cache import ObservationCache
from pasr_perception.training.checkpoint import CHECKPOINT, Counters, Trainee, load_checkpoint, save_checkpoint
from pasr_perception.training.config import TrainConfig
from pasr_perception.training.dataset import Batch, MeshDataset, steps_per_epoch
from pasr_perception.training.ema import Averaged
from pasr_perception.training.optimisers import optimisers_of
from pasr_perception.training.processes import Processes
from pasr_perception.training.telling_apart import contrast, drawn
from pasr_perception.training.validation import Validation, validate

logger = logging.getLogger(__name__)

CURVES = "curves.csv"
COLUMNS = (
    "epoch",
    "step",
    "learning_rate",
    "alignment",
    "contrast",
    "validation",
    "validation_bare",
    "validation_apart",
    "seconds",
)
FLOOR = 0.01  # of the learning rate at the end of the cosine schedule

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class StepValues:
    """What a step's loss is made of, or their means over an epoch."""

    alignment: float
    contrast: float  # NaN where the recipe has none


@dataclass(frozen=True)
class TrainingResult:
    """The averaged weights, what they were trained on, and how far they came."""

    encoder: PointEncoder
    meshes: tuple[str, ...]  # ids of those trained on
    counters: Counters
    validation: Validation


def rate_at(step: int, steps: int, config: TrainConfig) -> float:
    """Learning rate of a step (from 0) among all steps."""
    warm = min(1.0, (step + 1) / (config.warmup_steps + 1))
    if config.schedule == "constant":
        return config.learning_rate * warm
    falling = FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * step / max(1, steps))) / 2
    return config.learning_rate * warm * falling


def objective(
    features: torch.Tensor, wanted: Wanted, config: TrainConfig, seed: tuple[int, ...]
) -> tuple[torch.Tensor, StepValues]:
    """The loss of features [B, N, D], and what it is made of; `seed` decides what is told apart."""
    predicted = wanted.predicted(features)
    aligned = alignment(predicted, wanted).mean()
    if not config.contrast:
        return 1 - aligned, StepValues(float(aligned.detach()), math.nan)
    some = drawn(len(predicted), config.contrast_members, seed).to(predicted.device)
    apart = contrast(wanted.target[some], predicted[some], wanted.cloud[some], config.contrast_temperature)
    return 1 - aligned + config.contrast * apart, StepValues(float(aligned.detach()), float(apart.detach()))


class Training:
    """One run, in one folder."""

    def __init__(
        self,
        cache: ObservationCache,
        points: PointEncoderConfig,
        config: TrainConfig,
        folder: Path,
        processes: Processes,
    ) -> None:
        self._config, self._folder, self._processes = config, folder, processes
        self._data = MeshDataset(cache, "train", points, against=config.against, copies=config.copies)
        self._validation = MeshDataset(cache, "validation", points, at_most=config.validation_meshes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            encoder = PointEncoder(points)
        self._module = processes.shared(encoder)
        optimisers = optimisers_of(encoder, config)
        self._average = Averaged(encoder, config.ema_decay)
        self._trainee = Trainee(encoder, self._average, optimisers)
        self._steps = steps_per_epoch(len(self._data), config.batch_size, processes.count)
        self._recipe = recipe(cache, self._data, points, config, processes.count)

    def start_from(self, weights: PointEncoder) -> None:
        """Begin with other weights than random ones; raises RuntimeError where they do not fit."""
        self._trainee.module.load_state_dict(weights.state_dict())
        self._average.module.load_state_dict(weights.state_dict())

    def run(self, resume: bool = False, progress: Progress = lambda what, done, total: None) -> TrainingResult:
        """Train to the end. With `resume`, from the folder's checkpoint on if it has one."""
        config, counters = self._config, Counters(0, 0, self._recipe)
        if resume and (self._folder / CHECKPOINT).is_file():
            counters = load_checkpoint(self._folder, self._trainee, self._recipe)
        saved, shown = time.monotonic(), self._validated() if counters.epoch == config.epochs else None
        for epoch in range(counters.epoch, config.epochs):
            began = time.monotonic()
            mean, counters = self._epoch(epoch, counters, progress)
            last = epoch + 1 == config.epochs
            shown = self._validated() if last or (epoch + 1) % config.validate_every == 0 else None
            self._note(counters, mean, shown, time.monotonic() - began)
            if self._processes.leads and (last or time.monotonic() - saved >= config.checkpoint_every_s):
                save_checkpoint(self._folder, self._trainee, counters)
                saved = time.monotonic()
        self._processes.wait()
        assert shown is not None  # the last epoch of a run is validated
        ids = dict.fromkeys(mesh.id for mesh in self._data.meshes)
        return TrainingResult(self._average.module, tuple(ids), counters, shown)

    def _validated(self) -> Validation:
        config, processes = self._config, self._processes
        return validate(self._average.module, self._validation, processes.device, config.contrast_temperature)

    def _epoch(self, epoch: int, counters: Counters, progress: Progress) -> tuple[StepValues, Counters]:
        """One pass over the meshes; returns the means over its steps."""
        config, values, step = self._config, [], counters.step
        shard = (self._processes.rank, self._processes.count)
        for done, batch in enumerate(self._data.batches(epoch, config.batch_size, config.views, config.seed, shard)):
            progress(f"epoch {epoch + 1}", epoch * self._steps + done, config.epochs * self._steps)
            values.append(self._step(batch.to(self._processes.device), step))
            step += 1
        mean = StepValues(fmean(value.alignment for value in values), fmean(value.contrast for value in values))
        return mean, dataclasses.replace(counters, epoch=epoch + 1, step=step)

    def _step(self, batch: Batch, step: int) -> StepValues:
        config, optimisers = self._config, self._trainee.optimisers
        for group in itertools.chain(*(optimiser.param_groups for optimiser in optimisers)):
            group["lr"] = rate_at(step, self._steps * config.epochs, config)
        kind = self._processes.device.type
        low = config.precision == "bfloat16" or (config.precision == "auto" and kind == "cuda")
        with torch.autocast(kind, torch.bfloat16, enabled=low):
            features = self._module(batch.inputs, batch.pyramid)
        loss, values = objective(features, batch.wanted, config, (config.seed, step, self._processes.rank))
        self._trainee.module.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._trainee.module.parameters(), config.clip_norm)
        for optimiser in optimisers:
            optimiser.step()
        self._average.update(self._trainee.module)
        return values

    def _note(self, counters: Counters, mean: StepValues, shown: Validation | None, seconds: float) -> None:
        if not self._processes.leads:
            return
        rate = self._trainee.optimisers[0].param_groups[0]["lr"]
        validation = (math.nan,) * 3 if shown is None else (shown.mean, shown.bare, shown.apart)
        told = ("" if math.isnan(value) else f"{value:.5f}" for value in (mean.contrast, *validation))
        row = (counters.epoch, counters.step, f"{rate:.3g}", f"{mean.alignment:.5f}", *told, f"{seconds:.2f}")
        file = self._folder / CURVES
        new = counters.epoch == 1 or not file.exists()
        with file.open("w" if new else "a", newline="") as out:
            csv.writer(out).writerows([COLUMNS, row] if new else [row])


def recipe(
    cache: ObservationCache, data: MeshDataset, points: PointEncoderConfig, config: TrainConfig, processes: int
) -> dict[str, Any]:
    """All that decides a run's weights."""
    files = "\n".join(f"{mesh.id} {mesh.sha256}" for mesh in data.meshes)
    return {
        "points": _plain(points),
        "train": _plain(config),
        "observations": cache.header,
        "meshes": len(data),
        "meshes_sha256": hashlib.sha256(files.encode()).hexdigest(),
        "processes": processes,
    }


def _plain(config: Any) -> dict[str, Any]:
    """A dataclass as JSON gives it back: tuples are lists."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}
