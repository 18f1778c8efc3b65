"""`pasr detect`: a photo of a known object, and every argument that cannot be used, in words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from pasr_perception.cli import app
from pasr_perception.geometry.se3 import make_T
from pasr_perception.geometry.viewpoints import look_at


def pasr_detect(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["detect", *(str(a) for a in arguments)], env={"COLUMNS": "200"})


@pytest.fixture(autouse=True)
def colour_encoder(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "pasr_perception.library.opening.load_encoder", lambda config: (bench.encoder, torch.device("cpu"))
    )


@pytest.fixture
def photo(bench: Any, tmp_path: Path) -> tuple[Path, str]:
    """An image file with the block 1.5 m away, and its box as an option."""
    R = look_at(0.4, 0.8)
    T = make_T(R, np.array([0.1, -0.05, 1.5]) - R @ bench.meshes["block"].bounds.mean(0))
    frame, detection = bench.photograph("block", T)
    cv2.imwrite(str(tmp_path / "photo.png"), frame.image[..., ::-1])
    return tmp_path / "photo.png", ",".join(f"{x:.2f}" for x in detection.box)


def row(output: str, first: str) -> list[str]:
    """The cells of the table's row that begins with `first`, e.g. box 0, rank 1."""
    rows = [re.split(r"\s*│\s*", line.strip("│ \n")) for line in output.splitlines() if "│" in line]
    return next(cells for cells in rows if cells[:2] == first.split())


def test_what_is_in_the_box_is_printed_and_drawn(photo: tuple[Path, str], library_path: Path, tmp_path: Path) -> None:
    image, box = photo
    overlay = tmp_path / "overlay.png"
    result = pasr_detect(image, "--box", box, "-l", library_path, "--intrinsics", "320,320,160,120", "-o", overlay)
    assert result.exit_code == 0, result.output
    cells = row(result.stdout, "0 1")
    assert cells[2:4] == ["block", "blocks"]
    assert 0.4 < float(cells[4]) <= 1  # calibrated for the default encoder, which this one is not
    place = [float(x) for x in cells[5].split(",")]
    assert 0.6 < place[2] < 2.4  # of the file's origin, which lies 0.5 m beside the block
    assert "60 degree" not in result.stdout
    drawn, plain = cv2.imread(str(overlay)), cv2.imread(str(image))
    assert drawn.shape == plain.shape
    assert (drawn != plain).any(-1).mean() > 0.01


def test_several_boxes_and_a_useless_one(photo: tuple[Path, str], library_path: Path, tmp_path: Path) -> None:
    image, box = photo
    arguments = ("--box", box, "--box", "900,900,950,950", "--box", box, "-o", tmp_path / "overlay.png")
    result = pasr_detect(image, *arguments, "-l", library_path)
    assert result.exit_code == 0, result.output
    assert row(result.stdout, "0 1")[2:] == row(result.stdout, "2 1")[2:]
    assert re.search(r"box 1: .*outside the 320 x 240 image", result.stdout)
    assert "a 60 degree horizontal view is assumed" in result.stdout


def test_settings_come_from_a_file(photo: tuple[Path, str], library_path: Path, tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("rank: {hypotheses: 1}\nrefine: {steps: 2}\n")
    arguments = ("--box", photo[1], "-o", tmp_path / "overlay.png", "--config", tmp_path / "one.yaml")
    result = pasr_detect(photo[0], *arguments, "-l", library_path)
    assert result.exit_code == 0, result.output
    assert row(result.stdout, "0 1")
    with pytest.raises(StopIteration):
        row(result.stdout, "0 2")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"--box": "1,2,3"}, "--box: expected four numbers with commas between, got '1,2,3'"),
        ({"--box": "a,b,c,d"}, "--box: expected four numbers with commas between, got 'a,b,c,d'"),
        ({"--intrinsics": "600"}, "--intrinsics: expected four numbers with commas between, got '600'"),
        ({"--intrinsics": "0,0,160,120"}, "camera.K: expected positive focal lengths"),
        ({"--library": "nowhere"}, "nowhere: holds no mesh library"),
        ({"image": "none.png"}, "none.png: cannot be read as an image"),
        ({"--config": "none.yaml"}, "none.yaml"),
        ({"--config": "bad.yaml"}, "refine.step: unknown key"),
        ({"--out": "missing/overlay.png"}, "overlay.png: cannot be written"),
        ({"--out": "overlay.strange"}, "overlay.strange: cannot be written"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(
    photo: tuple[Path, str], library_path: Path, tmp_path: Path, options: dict[str, str], words: str
) -> None:
    (tmp_path / "bad.yaml").write_text("refine: {step: 2}\n")
    given = {
        "image": photo[0].name,
        "--box": photo[1],
        "--library": str(library_path),
        "--out": "overlay.png",
        **options,
    }
    for name in ("image", "--library", "--out", "--config"):
        if name in given:
            given[name] = str(tmp_path / given[name])
    image = given.pop("image")
    result = pasr_detect(image, *(part for pair in given.items() for part in pair))
    assert result.exit_code == 1
    assert words in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert "overlay:" not in result.stdout


@pytest.mark.parametrize("missing", ["--box", "--library"])
def test_box_and_library_must_be_given(photo: tuple[Path, str], library_path: Path, missing: str) -> None:
    options = {"--box": photo[1], "--library": str(library_path)}
    del options[missing]
    result = pasr_detect(photo[0], *(part for pair in options.items() for part in pair))
    assert result.exit_code == 2
    assert missing in result.stderr
