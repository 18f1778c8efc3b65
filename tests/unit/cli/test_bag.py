from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import trimesh
from typer.testing import CliRunner

from pasr_perception.cli.bag import bag_app
from pasr_perception.data.bagio import read_frames


def run(*arguments):
    return CliRunner().invoke(bag_app, [str(a) for a in arguments])


@pytest.fixture
def meshes(tmp_path):
    folder = tmp_path / "meshes"
    folder.mkdir()
    for number in range(3):
        trimesh.creation.box(0.2 + 0.1 * number * np.arange(3) / 3).export(folder / f"box{number}.ply")
    (folder / "broken.ply").write_text("no mesh")
    return folder


def test_simulate_writes_a_bag_and_leaves_out_a_broken_mesh(meshes, tmp_path):
    bag = tmp_path / "bag"
    arguments = ("simulate", meshes, "-o", bag, "--frames", 2, "--objects", 3, "--size", "128x96", "--rate", 5)
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "2 frames" in result.output
    first, second = read_frames(bag)
    assert second.frame.stamp_ns - first.frame.stamp_ns == 200_000_000
    assert first.frame.image.shape == (96, 128, 3)
    assert {t.mesh_id for t in first.truths} <= {"box0", "box1", "box2"}
    again = run(*arguments)
    assert again.exit_code == 1
    assert "exists already" in again.output
    assert run(*arguments, "--force", "--jpeg", 90).exit_code == 0
    assert len(list(read_frames(bag))) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--size", "big"), "WIDTHxHEIGHT"),
        (("--rate", "0"), "rate_hz"),
        (("--jitter", "0.9"), "jitter"),
    ],
)
def test_simulate_says_what_is_wrong(meshes, tmp_path, arguments, words):
    result = run("simulate", meshes, "-o", tmp_path / "bag", *arguments)
    assert result.exit_code == 1
    assert words in result.output
    assert not (tmp_path / "bag").exists()


def test_from_images_with_annotations(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((60, 80, 3), np.uint8))
    frame = {
        "image": "a.png",
        "K": [[90, 0, 40], [0, 90, 30], [0, 0, 1]],
        "objects": [{"id": "b", "box": [10, 10, 50, 40]}],
    }
    (tmp_path / "notes.json").write_text(json.dumps({"frames": [frame]}))
    result = run(
        "from-images", tmp_path, "--annotations", tmp_path / "notes.json", "-o", tmp_path / "bag", "--jitter", 0
    )
    assert result.exit_code == 0, result.output
    (item,) = read_frames(tmp_path / "bag")
    np.testing.assert_allclose(item.detections[0].box, [10, 10, 50, 40])


def test_from_images_wants_one_source(tmp_path):
    result = run("from-images", "-o", tmp_path / "bag")
    assert result.exit_code == 1
    assert "FOLDER or --bop" in result.output
    result = run("from-images", "--bop", tmp_path, "-o", tmp_path / "bag")
    assert result.exit_code == 1
    assert "scene_gt.json" in result.output
