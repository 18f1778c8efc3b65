"""Ablations: PASR's view grids, and every variant's scores on two photos of the four meshes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pasr_perception.data.records import Truth
from pasr_perception.data.synthetic.photo_set import PhotoRecord
from pasr_perception.evaluation.ablation import GRIDS, OFF, Asked, Beside, ablate, gridded, refined, searched, view_grid
from pasr_perception.evaluation.methods import make_method
from pasr_perception.evaluation.results_file import write_report
from pasr_perception.evaluation.tables import ABLATED, write_tables
from pasr_perception.geometry.viewpoints import base_poses
from pasr_perception.pipeline import Pipeline
from pasr_perception.types import Detection, Frame


def record(name: str, mesh_id: str, T: np.ndarray, level: str) -> PhotoRecord:
    return PhotoRecord(
        name=name,
        mesh_id=mesh_id,
        level=level,
        hidden=0.0,
        truncated=0.0,
        look="own",
        occluders=(),
        width=320,
        height=240,
        K=tuple(np.eye(3).reshape(-1).tolist()),
        T_cam_obj=tuple(T.reshape(-1).tolist()),
        box_visible=(0, 0, 1, 1),
        box_whole=(0, 0, 1, 1),
        center=(0, 0, 0),
        size=(1, 1, 1),
        depth_scale=1.0,
        files={},
    )


@dataclass(frozen=True)
class Photo:
    frame: Frame
    detection: Detection
    asked: Asked


@pytest.fixture
def photos(pipeline: Pipeline, scene: SimpleNamespace) -> list[Photo]:
    """A red can without and a blue one with something before it, as the records say."""
    found = []
    for mesh_id, level in (("can_red", "L0"), ("can_blue", "L2")):
        T = scene.pose(0.02, 0.0)
        item = scene.bag_frame(0, [Truth(mesh_id, mesh_id, T)])
        look = pipeline.look(item.frame, item.detections)
        assert look.maps is not None
        asked = Asked(record(mesh_id, mesh_id, T, level), item.frame.camera, look.crops[0], look.maps)
        found.append(Photo(item.frame, item.detections[0], asked))
    return found


@pytest.fixture
def asked(photos: list[Photo]) -> list[Asked]:
    return [photo.asked for photo in photos]


def test_the_grids_are_those_of_the_paper() -> None:
    assert [len(view_grid(n, "+y")) for n in GRIDS] == [24, 81, 192, 648]
    np.testing.assert_allclose(view_grid(4, "+z"), base_poses("upright", "+z"), atol=1e-12)


def test_answers_are_those_of_the_pipeline(pipeline: Pipeline, photos: list[Photo], asked: list[Asked]) -> None:
    found = searched(pipeline, asked)
    before, after = (refined(pipeline, asked, found, config) for config in (OFF, pipeline.config.refine))
    method = make_method("lifted", pipeline)
    for photo, one, other in zip(photos, before, after, strict=True):
        whole = method.ask(photo.frame, [photo.detection])[0]
        assert (one.mesh_ids, other.mesh_ids) == (whole.mesh_ids_before, whole.mesh_ids)
        assert one.mesh_ids[0] == photo.asked.record.mesh_id
        np.testing.assert_allclose(one.pose, whole.pose_before, atol=1e-6)
        np.testing.assert_allclose(other.pose, whole.pose, atol=1e-6)


def test_a_grid_gives_each_mesh_s_best_view(pipeline: Pipeline, asked: list[Asked]) -> None:
    found = gridded(pipeline, asked, 2)
    for one, candidates in zip(asked, found, strict=True):
        assert sorted(candidates.mesh_index.tolist()) == [0, 1, 2, 3]
        assert pipeline.library.entries[int(candidates.mesh_index[0])].id == one.record.mesh_id
        margin = pipeline.rivals.margin(candidates.value, candidates.mesh_index)
        assert torch.equal(margin, margin.sort(descending=True).values)


def test_every_variant_is_scored_at_every_level(
    pipeline: Pipeline, asked: list[Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pasr_perception.evaluation.ablation.GRIDS", (2,))
    monkeypatch.setattr("pasr_perception.evaluation.ablation.STEPS", (1, 2))
    told: list[tuple[str, int, int]] = []
    others = {"again": Beside(pipeline, asked), "of one photo": Beside(pipeline, [asked[0]] * len(asked))}
    table = {f: ablate(f, pipeline, others, asked, lambda *now: told.append(now)) for f in ABLATED}
    assert list(table["steps"]) == ["AdamW 0", "AdamW 1", "AdamW 2"]
    assert table["features"]["again"] == table["features"]["lifted"]
    assert table["features"]["of one photo"]["L0"]["top1"] == 1
    assert table["features"]["of one photo"]["L2"]["top1"] == 0  # it answers by its own look at the photos
    assert table["refinement"]["initial search"] == table["steps"]["AdamW 0"]
    for variants in table.values():
        for levels in variants.values():
            assert set(levels) == {"L0", "L2"}
            assert levels["L0"]["objects"] == levels["L2"]["objects"] == 1
    assert list(table["views"]) == ["24 views, initial search", "24 views, refined"]
    assert [done for _, done, _ in told] == [i for variants in table.values() for i in range(len(variants))]
    with pytest.raises(ValueError, match=r"family: expected one of refinement, steps, .*, got 'colour'"):
        ablate("colour", pipeline, {}, asked, lambda *now: None)


def test_the_report_becomes_tables(pipeline: Pipeline, asked: list[Asked], tmp_path: Path) -> None:
    variants = ablate("refinement", pipeline, {}, asked, lambda *now: None)
    entry = {"kind": "ablation", "method": "refinement", "about": "Four meshes.", "command": "pasr evaluate ablate"}
    write_report(tmp_path, "ablation_refinement", {**entry, "variants": variants})
    text = write_tables(tmp_path).read_text()
    assert "## Ablations" in text
    assert "### Refinement\n\nFour meshes." in text
    assert "| initial search, L0 | 1 | 1.000 |" in text
    assert "| Newton and polish (default), L2 | 1 |" in text
