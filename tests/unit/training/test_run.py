"""From meshes to weights: whole runs with the tiny encoder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from pasr_perception.encoders.base import EncoderError
from pasr_perception.encoders.points.weights import load_point_encoder
from pasr_perception.library.files import sha256_of
from pasr_perception.training.config import TrainConfig
from pasr_perception.training.processes import Processes
from pasr_perception.training.run import WEIGHTS, TrainRequest, observed, train_points, training_sources

ALONE = Processes(0, 1, torch.device("cpu"))
BESIDE = ("colour-waves", "c0105")


@pytest.fixture
def request_(cache_path: Path, points_config, tmp_path: Path) -> TrainRequest:
    short = TrainConfig(epochs=2, batch_size=2, validate_every=2)
    return TrainRequest(tmp_path / "run", cache_path, short, dataclasses.replace(points_config, dim=7))


def test_training_leaves_weights_with_their_card(request_: TrainRequest, shared_parts) -> None:
    result = train_points(request_, ALONE)
    loaded = load_point_encoder(str(request_.folder / WEIGHTS), BESIDE, torch.device("cpu"))
    assert loaded.encoder.config.dim == 24  # the observations', not the request's
    assert loaded.card["recipe"]["meshes"] == 2
    assert loaded.card["trained_on"] == ["block", "truck"]
    assert loaded.card["recipe"]["train"]["seed"] == 0
    assert loaded.card["validation_alignment"]["bare"] == pytest.approx(result.validation.bare)
    assert loaded.card["begun_with"] == "random weights"
    again = train_points(
        dataclasses.replace(request_, folder=request_.folder / "b", begin_with=str(request_.folder / WEIGHTS)), ALONE
    )
    assert again.counters.epoch == 2
    begun = load_point_encoder(str(request_.folder / "b" / WEIGHTS), BESIDE, torch.device("cpu")).card["begun_with"]
    assert begun == f"{WEIGHTS}, sha256 {sha256_of(request_.folder / WEIGHTS)}"


def test_weights_of_another_image_encoder_are_no_beginning(
    request_: TrainRequest, shared_parts, tmp_path: Path
) -> None:
    with pytest.raises(EncoderError, match="is not a readable point encoder"):
        train_points(dataclasses.replace(request_, begin_with=str(tmp_path / "none.safetensors")), ALONE)


def test_only_training_and_validation_meshes_are_observed(
    bench, request_: TrainRequest, tmp_path: Path, monkeypatch
) -> None:
    parts = {"block": "train", "can": "test", "truck": "validation"}
    monkeypatch.setattr("pasr_perception.data.split.split_of", parts.__getitem__)
    monkeypatch.setattr("pasr_perception.training.run.load_encoder", lambda config: (bench.encoder, None))
    assert {s.id for s in training_sources(bench.sources, 0)} == {"block", "truck"}
    few = dataclasses.replace(request_.observe, points=100, own_views=1)
    wanted = dataclasses.replace(request_, cache=tmp_path / "new", observe=few)
    cache = observed(bench.sources, wanted)
    assert {mesh.id for mesh in cache.meshes} == {"block", "truck"}
    copied = dataclasses.replace(wanted, train=dataclasses.replace(wanted.train, copies=1))
    more = observed(bench.sources, copied)
    assert [(mesh.id, mesh.copy) for mesh in more.meshes if mesh not in cache.meshes] == [("block", 1)]
    points = dataclasses.replace(request_.points, input_points=100, scales=(48, 24, 12, 6))
    result = train_points(dataclasses.replace(copied, points=points), ALONE)
    assert result.meshes == ("block",)
    assert result.counters.recipe["meshes"] == 2
