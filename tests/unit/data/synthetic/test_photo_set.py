"""Sets of photos: written, gone on with, read and checked."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from pasr_perception.data.annotation import DatasetError
from pasr_perception.data.synthetic.generate import PhotoPlan, generate_photos, photo_name
from pasr_perception.data.synthetic.photo_set import LINES, PhotoSet


@pytest.fixture(scope="module")
def plan(spec):
    return PhotoPlan(("L0", "L2"), 1, spec=spec, seed=3)


@pytest.fixture(scope="module")
def photos(tmp_path_factory, sources, plan):
    folder = tmp_path_factory.mktemp("photos") / "set"
    told = []
    made = generate_photos(folder, sources, plan, 1, lambda *what: told.append(what))
    assert (made.photos, made.made, made.failed) == (6, 6, ())
    assert told[-1][1:] == (6, 6)
    return folder


def test_a_set_reads_as_it_was_written(photos):
    opened = PhotoSet.open(photos)
    assert [m.id for m in opened.meshes] == ["block", "post", "slab"]
    assert [r.name for r in opened.records[:2]] == [photo_name("block", "L0", 0), photo_name("block", "L2", 0)]
    assert opened.verify() == []
    record = opened.of_level("L2")[0]
    item = opened.frame(record)
    assert item.frame.image.shape == (72, 96, 3)
    truth = item.truths[0]
    assert (truth.mesh_id, truth.visible_fraction) == ("block", 1 - record.hidden)
    visible, whole = opened.mask(record)
    rows, columns = np.nonzero(whole)
    np.testing.assert_array_equal(truth.box, [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    smaller = opened.frame(record, "visible").truths[0].box
    assert (smaller[:2] >= truth.box[:2]).all()
    assert (smaller[2:] <= truth.box[2:]).all()
    assert 0 < visible.sum() < whole.sum()


def test_noc_is_where_pose_and_depth_say(photos):
    opened = PhotoSet.open(photos)
    record = opened.of_level("L0")[0]
    noc, depth = opened.noc(record), opened.depth(record)
    rows, columns = np.nonzero(opened.mask(record)[0])
    radius = np.linalg.norm(record.size) / 2
    points = noc[rows, columns] * radius + np.array(record.center)
    seen = points @ record.pose[:3, :3].T + record.pose[:3, 3]
    np.testing.assert_allclose(seen[:, 2], depth[rows, columns], atol=1e-3)
    uv = seen @ record.camera.K.T
    np.testing.assert_allclose(uv[:, :2] / uv[:, 2:], np.stack([columns, rows], 1) + 0.25, atol=0.05)
    # the block's surface is that of a box
    inside = np.abs(points - np.array(record.center)) / (np.array(record.size) / 2)
    np.testing.assert_allclose(inside.max(1), 1, atol=2e-3)
    assert np.isnan(noc[~opened.mask(record)[0]]).all()


def test_a_stopped_set_goes_on_and_is_the_same(photos, sources, plan, tmp_path):
    folder = tmp_path / "set"
    generate_photos(folder, sources, plan, 1)
    lines = (folder / LINES).read_text().splitlines(keepends=True)
    (folder / LINES).write_text("".join(lines[:3]) + lines[3][:40])  # killed while it wrote
    again = generate_photos(folder, sources, plan, 2)
    assert (again.photos, again.made) == (6, 3)
    first, second = PhotoSet.open(photos), PhotoSet.open(folder)
    assert [dataclasses.asdict(r) for r in first.records] == [dataclasses.asdict(r) for r in second.records]


def test_other_settings_and_damage_are_named(photos, sources, plan, tmp_path):
    with pytest.raises(DatasetError, match="other settings"):
        generate_photos(photos, sources, dataclasses.replace(plan, seed=9), 1)
    with pytest.raises(DatasetError, match="no such file"):
        PhotoSet.open(tmp_path)
    (tmp_path / "photos.json").write_text(json.dumps({"format": "else", "version": 1}))
    with pytest.raises(DatasetError, match="expected pasr-photos version 1, got else 1"):
        PhotoSet.open(tmp_path)
    with pytest.raises(ValueError, match="boxes"):
        PhotoSet.open(photos).frame(PhotoSet.open(photos).records[0], "amodal")


def test_verify_tells_missing_and_changed_files(sources, plan, tmp_path):
    generate_photos(tmp_path / "set", sources[:1] + sources[1:2], dataclasses.replace(plan, levels=("L0",)), 1)
    opened = PhotoSet.open(tmp_path / "set")
    (opened.root / "depth" / f"{opened.records[0].name}.png").unlink()
    (opened.root / "rgb" / f"{opened.records[1].name}.jpg").write_bytes(b"")
    problems = opened.verify()
    assert [p.rsplit(": ")[-1] for p in problems] == ["is missing", "its content has changed"]
    with pytest.raises(DatasetError, match="no readable image"):
        opened.depth(opened.records[0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"levels": ("L9",)}, "levels"), ({"per_mesh": 0}, "per_mesh"), ({"layers": ("rgb",)}, "layers")],
)
def test_bad_plans_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        PhotoPlan(**changes)
