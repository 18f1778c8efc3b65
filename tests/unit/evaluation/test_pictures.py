"""Pictures: colours of features, tiles at poses, causes of failures, and the files of a whole run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from pasr_perception.crop import crop_detections
from pasr_perception.data.records import Truth
from pasr_perception.data.synthetic.photo_set import PhotoRecord
from pasr_perception.evaluation.ablation import Asked
from pasr_perception.evaluation.page import RIGHT, WRONG
from pasr_perception.evaluation.pictures import (
    CAUSES,
    GAP,
    TEXT,
    TILE,
    Found,
    Tiles,
    cause_of,
    draw_points,
    feature_sheet,
    found_in,
    principal_colours,
    samples,
    stacked,
    write_pictures,
)
from pasr_perception.evaluation.retrieval import MeshKind
from pasr_perception.geometry.symmetry import NO_SYMMETRY
from pasr_perception.pipeline import Pipeline


def record(mesh_id: str, T: np.ndarray) -> PhotoRecord:
    values = {f.name: None for f in dataclasses.fields(PhotoRecord)}
    told = {"name": mesh_id, "mesh_id": mesh_id, "level": "L0", "hidden": 0.0, "look": "own"}
    return PhotoRecord(**(values | told | {"T_cam_obj": tuple(T.reshape(-1).tolist())}))


@pytest.fixture
def asked(pipeline: Pipeline, scene: SimpleNamespace) -> list[Asked]:
    """Two photos: one says what it shows, the other is said to show something else."""
    found = []
    for mesh_id, said in (("can_red", "can_red"), ("box", "can_blue")):
        T = scene.pose(0.0, 0.0)
        item = scene.bag_frame(0, [Truth(mesh_id, mesh_id, T)])
        crop = crop_detections(item.frame, item.detections, pipeline.crop_spec)[0][0]
        found.append(Asked(record(said, T), item.frame.camera, crop, pipeline.encode([crop])))
    return found


def test_principal_colours_follow_the_loudest_direction() -> None:
    t = torch.linspace(-1, 1, 200)
    features = torch.stack([t, 0.2 * t.square(), 0.01 * torch.sin(9 * t), torch.zeros(200)], 1)
    red = principal_colours(features)[:, 0].astype(int)
    assert red.min() == 0
    assert red.max() == 255
    assert (np.diff(red) >= 0).all() or (np.diff(red) <= 0).all()


def test_the_nearest_point_is_drawn_last() -> None:
    points = np.array([[0.0, 0, -0.5], [0.0, 0, 0.5]])
    tile = draw_points(points, np.array([[255, 0, 0], [0, 0, 255]], np.uint8), np.eye(3))
    assert tile[TILE // 2, TILE // 2].tolist() == [255, 0, 0]
    assert tile[0, 0].tolist() == [255, 255, 255]


def test_a_category_that_is_not_there_is_named(pipeline: Pipeline) -> None:
    assert feature_sheet(pipeline.library, ["can", "box"]).shape == (2 * (TILE + TEXT), 4 * TILE, 3)
    with pytest.raises(ValueError, match="got 'boat'"):
        feature_sheet(pipeline.library, ["boat"])


def test_a_tile_shows_the_mesh_in_its_border(pipeline: Pipeline) -> None:
    tile = Tiles(pipeline.library).mesh("can_red", np.eye(3), RIGHT)
    assert tile.shape == (TILE + TEXT, TILE, 3)
    assert tile[2, TILE // 2].tolist() == list(RIGHT)
    red, green, blue = tile[TILE // 2, TILE // 2].tolist()
    assert red > 3 * green
    assert red > 3 * blue


@pytest.mark.parametrize(
    ("true", "best", "degrees", "changes", "cause"),
    [
        ("can_red", "can_red", 3.0, {}, ""),
        ("can_red", "can_red", 40.0, {}, "turned"),
        ("can_red", "can_red", 175.0, {}, "front for back"),
        ("can_red", "can_blue", 3.0, {"hidden": 0.5}, "look-alike"),
        ("box", "can_blue", 3.0, {"hidden": 0.25, "look": "recoloured"}, "much hidden"),
        ("box", "can_blue", 3.0, {"look": "recoloured"}, "other colours"),
        ("box", "slab", 3.0, {}, "same category"),
        ("box", "can_red", 3.0, {}, "none of these"),
        ("box", "can_red", 3.0, {"name": "seen from behind"}, "same picture"),
        ("slab", "can_red", 3.0, {}, "bare mesh"),
    ],
)
def test_causes(pipeline, asked, true, best, degrees, changes, cause) -> None:
    kinds = {
        e.id: MeshKind(e.category, NO_SYMMETRY, 0 if e.category == "can" else None) for e in pipeline.library.entries
    }
    told = dataclasses.replace(record(true, np.eye(4)), **changes)
    ranking = SimpleNamespace(mesh_index=(pipeline.library.index_of(best),))
    found = Found(dataclasses.replace(asked[0], record=told), ranking, degrees)
    assert cause_of(found, pipeline.library, kinds, lambda photo, _: photo.name == "seen from behind") == cause


def test_samples_are_of_every_cause_before_more_of_one(asked: list[Asked]) -> None:
    one, two, three, four = (Found(asked[0], None, degrees) for degrees in (1.0, 2.0, 3.0, 4.0))
    failures = {"": [four], "bare mesh": [one, two], "turned": [three]}
    assert samples(failures, 2) == [(three, "turned"), (one, "bare mesh")]
    assert samples(failures, 9) == [(three, "turned"), (one, "bare mesh"), (two, "bare mesh")]


def test_a_run_writes_its_pictures(pipeline: Pipeline, asked: list[Asked], tmp_path: Path) -> None:
    causes = write_pictures(tmp_path, pipeline, asked, ["can"], 2)
    assert causes.total() == 2
    assert set(causes) == {"", *CAUSES}
    assert cv2.imread(str(tmp_path / "strips.jpg")).shape == (2 * (TILE + TEXT), 6 * TILE, 3)
    assert cv2.imread(str(tmp_path / "features.jpg")).shape == (TILE + TEXT, 4 * TILE, 3)
    failures = cv2.imread(str(tmp_path / "failures.jpg"))[..., ::-1].astype(int)
    answer_border = failures[2, 2 * TILE + TILE // 2]
    assert np.abs(answer_border - WRONG).max() < 60
    first = found_in(pipeline, asked[:1])[0]
    assert pipeline.library.entries[first.ranking.mesh_index[0]].id == "can_red"


def test_rows_stand_in_columns() -> None:
    rows = [np.full((2, 3, 3), k, np.uint8) for k in range(3)]
    sheet = stacked(rows, columns=2)
    assert sheet.shape == (4, 6 + GAP, 3)
    white = [255] * GAP
    assert sheet[:, :, 0].tolist() == [[0] * 3 + white + [1] * 3] * 2 + [[2] * 3 + white + [255] * 3] * 2
    with pytest.raises(ValueError, match="expected at least one picture"):
        stacked([])
