"""A tiny directory laid out as Pix3D is, whose models are the test library's."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from pasr_perception.evaluation.methods import Answer
from pasr_perception.evaluation.papers import ShapeJudge, judge_papers, paper_data, papers_report
from pasr_perception.evaluation.results_file import write_report
from pasr_perception.evaluation.tables import write_tables


class Always:
    """Says the same of every box: the box, unturned."""

    def ask(self, frame, detections, true_ids=None):
        return [Answer(("box", "slab"), np.diag([-1.0, -1.0, 1.0, 1.0])) for _ in detections]


@pytest.fixture
def root(tmp_path):
    common = {
        "img": "0.png",
        "rot_mat": np.eye(3).tolist(),
        "trans_mat": [0, 0, 2],
        "focal_length": 32,
        "bbox": [5, 6, 40, 30],
    }
    entries = [
        {**common, "category": "box", "model": f"model/{name}.obj"} for name in ("box", "slab", "not_in_the_library")
    ]
    (tmp_path / "pix3d.json").write_text(json.dumps(entries))
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((48, 64, 3), np.uint8))
    return tmp_path


def test_retrieval_pose_and_shape_of_annotated_objects(root, pipeline, tmp_path):
    photos, sources = paper_data("pix3d", root)
    assert [s.id for s in sources] == ["box", "slab", "not_in_the_library"]
    outcomes = judge_papers(photos, pipeline.library, Always())
    report = papers_report(outcomes, pipeline.library)
    assert set(report) == {"all", "box"}
    scores = report["all"]
    assert (scores["objects"], scores["top1"], scores["top5"], scores["category_top1"]) == (2, 0.5, 1.0, 1.0)
    assert scores["median_rotation_deg"] == pytest.approx(0, abs=1e-3)
    match = ShapeJudge(pipeline.library).match("box", "slab")
    assert 0 < match.iou < 0.9
    assert scores["iou_128"] == pytest.approx((1 + match.iou) / 2)
    assert scores["modified_hausdorff"] == pytest.approx(match.modified_hausdorff / 2)
    entry = {"kind": "papers", "data": "pix3d", "method": "chance", "about": "x", "command": "pasr evaluate papers"}
    write_report(tmp_path / "docs", "papers_pix3d_chance", {**entry, "parts": report})
    assert "| pix3d, chance: all | 2 | 0.500 | 1.000 |" in write_tables(tmp_path / "docs").read_text()


def test_photos_without_a_known_mesh_and_unknown_data_sets_are_named(root, pipeline):
    with pytest.raises(ValueError, match="expected some of the library's meshes"):
        judge_papers([], pipeline.library, Always())
    with pytest.raises(ValueError, match="expected one of pix3d, pascal3d, got 'kitti'"):
        paper_data("kitti", root)
    assert paper_data("pascal3d", root)[1] == []
