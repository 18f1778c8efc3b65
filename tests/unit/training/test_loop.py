"""Training runs: they learn, repeat, go on after a kill as if nothing had happened, and refuse what does not fit."""

from __future__ import annotations

import csv
import dataclasses
import math
from pathlib import Path

import pytest
import torch

from pasr_perception.training.checkpoint import CHECKPOINT, TrainingError
from pasr_perception.training.config import CPU, PAPER, TrainConfig
from pasr_perception.training.loop import CURVES, Training, rate_at
from pasr_perception.training.processes import Processes

ALONE = Processes(0, 1, torch.device("cpu"))
SHORT = TrainConfig(
    epochs=6, batch_size=2, learning_rate=3e-3, schedule="cosine", ema_decay=0.5, validate_every=3, checkpoint_every_s=0
)


@pytest.fixture
def begin(cache, points_config, shared_parts):
    def make(folder: Path, config: TrainConfig = SHORT) -> Training:
        folder.mkdir(exist_ok=True)
        return Training(cache, points_config, config, folder, ALONE)

    return make


def weights(result) -> torch.Tensor:
    return torch.cat([p.flatten() for p in result.encoder.parameters()])


def curves(folder: Path) -> list[dict[str, str]]:
    with (folder / CURVES).open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("against", "optimiser"), [("views", "adamw"), ("points", "adamw"), ("points", "muon")])
def test_it_learns_and_notes_how(begin, tmp_path: Path, against: str, optimiser: str) -> None:
    longer = dataclasses.replace(SHORT, epochs=60, learning_rate=1e-2, against=against, optimiser=optimiser)
    result = begin(tmp_path, longer).run()
    rows = curves(tmp_path)
    assert [int(row["epoch"]) for row in rows] == list(range(1, 61))
    aligned = [float(row["alignment"]) for row in rows]
    assert sum(aligned[-10:]) / 10 > sum(aligned[:10]) / 10 + 0.04
    assert float(rows[-1]["validation"]) == pytest.approx(result.validation.mean, abs=1e-4)
    assert float(rows[-1]["validation_apart"]) == result.validation.apart == 0  # one mesh is watched
    assert rows[0]["validation"] == rows[0]["validation_apart"] == ""
    assert not math.isnan(result.validation.bare)


def test_contrast_is_noted_and_learnt(begin, tmp_path: Path) -> None:
    longer = dataclasses.replace(SHORT, epochs=40, learning_rate=1e-2, contrast_members=64)
    begin(tmp_path / "plain", longer).run()
    begin(tmp_path / "apart", dataclasses.replace(longer, contrast=0.1)).run()
    assert {row["contrast"] for row in curves(tmp_path / "plain")} == {""}
    apart = [float(row["contrast"]) for row in curves(tmp_path / "apart")]
    assert sum(apart[-10:]) < sum(apart[:10]) - 1


@pytest.mark.parametrize(("against", "contrast"), [("views", 0.0), ("views", 0.2), ("points", 0.2)])
def test_the_seed_decides_all(begin, tmp_path: Path, against: str, contrast: float) -> None:
    config = dataclasses.replace(SHORT, against=against, contrast=contrast, contrast_members=64)
    first, again = (begin(tmp_path / name, config).run() for name in ("a", "b"))
    other = begin(tmp_path / "c", dataclasses.replace(config, seed=1)).run()
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(other))


class KilledError(Exception):
    pass


@pytest.mark.parametrize(("optimiser", "contrast"), [("adamw", 0.0), ("adamw", 0.2), ("muon", 0.2)])
def test_a_killed_run_goes_on_as_if_it_had_not_been(begin, tmp_path: Path, optimiser: str, contrast: float) -> None:
    config = dataclasses.replace(SHORT, optimiser=optimiser, contrast=contrast, contrast_members=64)
    whole = begin(tmp_path / "whole", config).run()

    def kill(what: str, done: int, total: int) -> None:
        if what == "epoch 4":
            raise KilledError

    with pytest.raises(KilledError):
        begin(tmp_path / "cut", config).run(progress=kill)
    resumed = begin(tmp_path / "cut", config).run(resume=True)
    assert torch.equal(weights(whole), weights(resumed))
    assert resumed.counters.epoch == 6
    assert [row["epoch"] for row in curves(tmp_path / "cut")] == [str(i) for i in range(1, 7)]


def test_resuming_a_finished_run_gives_its_result(begin, tmp_path: Path) -> None:
    whole = begin(tmp_path).run()
    again = begin(tmp_path).run(resume=True)
    assert torch.equal(weights(whole), weights(again))
    assert again.validation.mean == pytest.approx(whole.validation.mean)


def test_another_recipe_cannot_go_on(begin, tmp_path: Path) -> None:
    begin(tmp_path).run()
    with pytest.raises(TrainingError, match="was begun with another train"):
        begin(tmp_path, dataclasses.replace(SHORT, learning_rate=1e-3)).run(resume=True)


def test_a_damaged_checkpoint_is_named(begin, tmp_path: Path) -> None:
    begin(tmp_path).run()
    (tmp_path / CHECKPOINT).write_bytes(b"nothing of the kind")
    with pytest.raises(TrainingError, match="is not a readable checkpoint"):
        begin(tmp_path).run(resume=True)


def test_a_run_can_begin_with_other_weights(begin, tmp_path: Path) -> None:
    learnt = begin(tmp_path / "a", dataclasses.replace(SHORT, epochs=12)).run()
    fresh, warm = begin(tmp_path / "b"), begin(tmp_path / "c")
    warm.start_from(learnt.encoder)
    one = dataclasses.replace(SHORT, epochs=1)
    assert one.epochs < SHORT.epochs
    fresh.run()
    warm.run()
    assert float(curves(tmp_path / "c")[0]["alignment"]) > float(curves(tmp_path / "b")[0]["alignment"])


def test_schedules() -> None:
    flat = dataclasses.replace(PAPER, warmup_steps=3)
    assert [rate_at(step, 100, flat) / PAPER.learning_rate for step in (0, 1, 2, 3, 99)] == [0.25, 0.5, 0.75, 1, 1]
    falling = dataclasses.replace(CPU, warmup_steps=0)
    rates = [rate_at(step, 100, falling) / CPU.learning_rate for step in (0, 50, 100)]
    assert rates == pytest.approx([1, 0.505, 0.01])


def test_the_papers_preset() -> None:
    assert (PAPER.learning_rate, PAPER.weight_decay, PAPER.batch_size, PAPER.epochs) == (1e-4, 1e-2, 8, 300)
    assert (PAPER.optimiser, PAPER.copies) == ("adamw", 0)
    with pytest.raises(ValueError, match=r"train\.schedule: expected one of constant, cosine, got 'steps'"):
        TrainConfig(schedule="steps")
    with pytest.raises(ValueError, match=r"train\.against: expected one of views, points, got 'cells'"):
        TrainConfig(against="cells")
    with pytest.raises(ValueError, match=r"train\.optimiser: expected one of adamw, muon, got 'sgd'"):
        TrainConfig(optimiser="sgd")
    with pytest.raises(ValueError, match=r"train\.copies: expected 0 or more, got -1"):
        TrainConfig(copies=-1)


def test_contrast_needs_something_to_tell_apart() -> None:
    assert PAPER.contrast == 0
    with pytest.raises(
        ValueError, match=r"train\.contrast: expected batches of at least 2 meshes .* got train\.batch_size 1"
    ):
        TrainConfig(contrast=0.1, batch_size=1)
    with pytest.raises(ValueError, match=r"train\.contrast_members: expected at least 2, got 1"):
        TrainConfig(contrast_members=1)
    with pytest.raises(ValueError, match=r"train\.contrast_temperature: expected more than 0, got 0"):
        TrainConfig(contrast_temperature=0)
