"""Methods on a frame of coloured solids, whose colours a plain encoder tells apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from pasr_perception.boxes import Tight
from pasr_perception.crop import crop_detections
from pasr_perception.data.records import Truth
from pasr_perception.encoders.base import EncoderError
from pasr_perception.encoders.global_embedding import GlobalConfig, GlobalEmbedding, load_global, save_global
from pasr_perception.evaluation.methods import METHODS, load_ranker, make_method
from pasr_perception.types import Crop, Detection, Frame


class ByColour:
    """Ranks by the order of the library, reversed."""

    def __init__(self, pipeline) -> None:
        self.ids = [e.id for e in pipeline.library.entries][::-1]

    def rank(self, crops: list[Crop]) -> list[list[tuple[str, float]]]:
        return [[(i, 1.0) for i in self.ids] for _ in crops]


@pytest.fixture
def item(scene):
    truths = [Truth("1", "box", scene.pose(-0.1, 0)), Truth("2", "can_red", scene.pose(0.1, 0))]
    return scene.bag_frame(0, truths)


@pytest.mark.parametrize("name", ["chance", "pooled", "lifted"])
def test_each_names_meshes_with_poses_and_the_given_ones(pipeline, item, name):
    method = make_method(name, pipeline, seed=1)
    answers = method.ask(item.frame, item.detections, ["box", "can_red"])
    assert len(answers) == 2
    for answer in answers:
        assert len(set(answer.mesh_ids)) == len(answer.mesh_ids) >= 2
        assert answer.pose is not None
        assert answer.given is not None
        assert answer.given_before is not None
        assert 0.2 < answer.given[2, 3] < 2
    if name != "chance":
        assert [a.mesh_ids[0] for a in answers] == ["box", "can_red"]
        assert [a.mesh_ids_before[0] for a in answers] == ["box", "can_red"]
    assert all(a.given is None for a in method.ask(item.frame, item.detections))


@pytest.mark.parametrize("name", ["pooled", "lifted"])
def test_all_are_asked_about_the_boxes_that_are_looked_through(pipeline, item, name, monkeypatch):
    def exchanged(frame: Frame, detections: Sequence[Detection]) -> list[Tight]:
        return [Tight(replace(d, box=other.box)) for d, other in zip(detections, detections[::-1], strict=True)]

    monkeypatch.setattr(pipeline, "_tighten", exchanged)
    answers = make_method(name, pipeline).ask(item.frame, item.detections)
    assert [a.mesh_ids[0] for a in answers] == ["can_red", "box"]


def test_chance_follows_its_seed(pipeline, item):
    first, again, other = (make_method("chance", pipeline, seed=s).ask(item.frame, item.detections) for s in (3, 3, 4))
    np.testing.assert_array_equal(first[0].pose, again[0].pose)
    assert not np.array_equal(first[0].pose, other[0].pose)


def test_a_global_embedding_ranks_without_poses(pipeline, item, monkeypatch):
    monkeypatch.setattr("pasr_perception.evaluation.methods.load_ranker", lambda where, pipeline: ByColour(pipeline))
    answers = make_method("global", pipeline, "somewhere:rank").ask(item.frame, item.detections)
    assert answers[0].mesh_ids == tuple(e.id for e in pipeline.library.entries)[::-1]
    assert answers[0].pose is None


@pytest.mark.parametrize("where", ["json:nothing", "no.such.module:f"])
def test_a_ranker_that_is_not_there_is_named(pipeline, where):
    with pytest.raises(ValueError, match=r"ranker: expected module:function"):
        make_method("global", pipeline, where)


def test_unknown_methods_are_named(pipeline):
    with pytest.raises(ValueError, match=f"expected one of {', '.join(METHODS)}, got 'magic'"):
        make_method("magic", pipeline)


def test_crops_are_encoded_once_though_asked_about_twice(pipeline, item, monkeypatch):
    asked = []
    encode = pipeline.encode
    monkeypatch.setattr(pipeline, "encode", lambda crops: asked.append(len(crops)) or encode(crops))
    answers = make_method("lifted", pipeline).ask(item.frame, item.detections, ["box", "can_red"])
    assert asked == [2]
    told = pipeline.detect(item.frame, item.detections, ["box", "can_red"])
    for answer, estimate in zip(answers, told.objects, strict=True):
        np.testing.assert_array_equal(answer.given, estimate.best.T_cam_obj)


def test_a_global_embedding_of_a_file_ranks_every_mesh(pipeline, item, tmp_path):
    torch.manual_seed(0)
    module = GlobalEmbedding(GlobalConfig(dim=pipeline.encoder.dim, hidden=16, embedding=8)).eval()
    beside = (pipeline.encoder.name, pipeline.encoder.fingerprint)
    save_global(tmp_path / "global.safetensors", module, beside)
    ranker = load_ranker(str(tmp_path / "global.safetensors"), pipeline)
    crops = crop_detections(item.frame, item.detections, pipeline.crop_spec)[0]
    ranked = ranker.rank(crops)
    assert len(ranked) == 2
    loaded = load_global(tmp_path / "global.safetensors", beside)
    maps = pipeline.encode(crops)[:1, 0]
    box = torch.tensor(crops[0].box / len(crops[0].image), dtype=torch.float32)[None]
    for mesh_id, score in ranked[0]:
        mine = loaded.embed_mesh(pipeline.library.data(pipeline.library.index_of(mesh_id)).features.float())
        assert score == pytest.approx(float(loaded.embed_crops(maps, box)[0] @ mine), abs=1e-5)
    assert [s for _, s in ranked[0]] == sorted((s for _, s in ranked[0]), reverse=True)
    with pytest.raises(EncoderError, match="no global embedding ships"):
        load_ranker("", pipeline)
