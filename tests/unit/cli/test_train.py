"""`pasr train`: what is asked for arrives, and errors are said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pasr_perception.boxes.network import EdgeHead
from pasr_perception.boxes.shown import ShownHead
from pasr_perception.boxes.weights import load_head
from pasr_perception.cli.train import train_app
from pasr_perception.data.synthetic.photo_set import PhotoSet
from pasr_perception.encoders.efficientnet_lite import NAME, TAPS, EfficientNetLite, unprojected
from pasr_perception.encoders.tuned import TunedBackbone, load_backbone
from pasr_perception.training.backbone import TuneConfig
from pasr_perception.training.boxes import BoxTraining
from pasr_perception.training.loop import TrainingResult
from pasr_perception.training.run import TrainRequest
from pasr_perception.training.validation import Validation


def pasr(*arguments: object):
    return CliRunner().invoke(train_app, [str(a) for a in arguments])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], TrainRequest]]:
    """Requests as they reach the training, which is not run."""
    seen: list[tuple[list[str], TrainRequest]] = []

    def observed(sources, request: TrainRequest, progress) -> None:
        seen.append(([source.id for source in sources], request))

    def train(request: TrainRequest, processes, progress) -> TrainingResult:
        assert request == seen[-1][1]
        return TrainingResult(None, (), None, Validation(0.5, 0.25, 4.0))  # type: ignore[arg-type]

    monkeypatch.setattr("pasr_perception.training.run.observed", observed)
    monkeypatch.setattr("pasr_perception.training.run.train_points", train)
    return seen


def test_presets_and_exclusions_reach_the_training(bench, asked, tmp_path: Path) -> None:
    folder = bench.source("can").path.parent
    done = pasr(
        "points", folder, "-o", tmp_path / "run", "--cache", tmp_path / "cache", "--preset", "paper", "--seed", 3,
        "--exclude", bench.source("can").path,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "alignment on held-out meshes 0.500, without colours 0.250" in done.output
    ids, request = asked[0]
    assert sorted(ids) == ["block", "truck"]
    assert (request.train.epochs, request.train.learning_rate, request.train.seed) == (300, 1e-4, 3)
    assert not request.resume


@pytest.mark.parametrize(("said", "epochs", "copies"), [((), 20, 1), (("--epochs", 7, "--copies", 0), 7, 0)])
def test_epochs_and_copies_can_be_said(bench, asked, tmp_path: Path, said, epochs: int, copies: int) -> None:
    done = pasr("points", bench.source("can").path, "-o", tmp_path, "--cache", tmp_path, "--resume", *said)
    assert done.exit_code == 0, done.output
    assert (asked[0][1].train.epochs, asked[0][1].train.copies) == (epochs, copies)
    assert asked[0][1].resume


SCORES = (0.5, 0.625, 1.0), (0.75, 0.875, 0.5)  # before and after tuning


def test_a_backbone_is_tuned_on_one_part_and_watched_on_the_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    looked: list[tuple[Path, str]] = []

    def look(photos: Path, part: str, *more: object) -> list[str]:
        looked.append((photos, part))
        return [part]

    def tune(encoder: EfficientNetLite, train, watched, config: TuneConfig, progress) -> TunedBackbone:
        assert (train, watched) == (["train"], ["validation"])
        assert (config.steps, config.learning_rate, config.seed) == (7, 1e-4, 2)
        published, tuned = (dict(zip(("matched", "found", "loss"), of, strict=True)) for of in SCORES)
        scores = {"published": published, "tuned": tuned}
        return TunedBackbone(dict(encoder.tail.state_dict()), unprojected(), {"validation": scores})

    monkeypatch.setattr(PhotoSet, "open", lambda path: path)
    monkeypatch.setattr("pasr_perception.training.mesh_views.look_at_meshes", look)
    monkeypatch.setattr("pasr_perception.training.backbone.tune", tune)
    out, mine, theirs = tmp_path / "b.safetensors", tmp_path / "a", tmp_path / "b"
    done = pasr(
        "backbone", mine, "-o", out, "--watched", theirs, "--steps", 7, "--learning-rate", 1e-4, "--seed", 2
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert looked == [(mine, "train"), (theirs, "validation")]
    said = " ".join(done.output.split())
    assert "tuned: of held-out meshes 0.750 of points matched, 0.875 of photos found, loss 0.500" in said
    assert load_backbone(out, NAME, len(TAPS)).card["validation"]["tuned"]["matched"] == 0.75


@pytest.fixture
def told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut-outs that are folder and part of the split."""
    monkeypatch.setattr(PhotoSet, "open", lambda path: path)
    monkeypatch.setattr("pasr_perception.training.collage.cutouts", lambda photos, part: (photos, part))


@pytest.mark.usefixtures("told_apart")
def test_the_box_network_is_trained_on_one_part_and_judged_by_the_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scores = {"said": {"error": 0.05, "iou": 0.8}, "tightened": {"error": 0.03, "iou": 0.9}}

    def train(things, held_out, config: BoxTraining, progress) -> tuple[EdgeHead, dict]:
        assert (things, held_out) == ((tmp_path / "a", "train"), (tmp_path / "a", "validation"))
        assert (config.crops, config.steps, config.seed) == (9, 7, 2)
        return EdgeHead(), {"held_out": scores}

    monkeypatch.setattr("pasr_perception.training.boxes.train_boxes", train)
    out = tmp_path / "boxes.safetensors"
    done = pasr("boxes", tmp_path / "a", "-o", out, "--crops", 9, "--steps", 7, "--seed", 2)
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "held-out boxes: edges off by 0.050 -> 0.030 of a side, overlap 0.800 -> 0.900" in said
    assert load_head(out, EdgeHead)[1] == {"held_out": scores}


@pytest.mark.usefixtures("told_apart")
def test_what_cells_show_is_learnt_from_the_same_collages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    scores = {"box": 0.4, "shown": 0.7}

    def train(things, held_out, config: BoxTraining, progress) -> tuple[ShownHead, dict]:
        assert (things, held_out) == ((tmp_path / "a", "train"), (tmp_path / "b", "validation"))
        assert (config.crops, config.steps, config.seed) == (12000, 7, 2)
        return ShownHead(), {"held_out": scores}

    monkeypatch.setattr("pasr_perception.training.boxes.train_shown", train)
    out = tmp_path / "shown.safetensors"
    done = pasr("shown", tmp_path / "a", "-o", out, "--watched", tmp_path / "b", "--steps", 7, "--seed", 2)
    assert done.exit_code == 0, done.output
    assert "0.700 are both; 0.400 if it were all of the box" in " ".join(done.output.split())
    assert load_head(out, ShownHead)[1] == {"held_out": scores}


def test_errors_are_one_line(bench, tmp_path: Path) -> None:
    done = pasr("points", bench.source("can").path, "-o", tmp_path, "--cache", tmp_path, "--preset", "huge")
    assert done.exit_code == 1
    assert "error: --preset: expected one of paper, cpu, got 'huge'" in done.output
    done = pasr("global", tmp_path / "none", "-o", tmp_path / "global.safetensors")
    assert done.exit_code == 1
    assert "holds no readable observations" in done.output
