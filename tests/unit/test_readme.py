"""The README's Python example runs as it stands, on a library and an image of the names that it uses."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pasr_perception.geometry.se3 import make_T
from pasr_perception.geometry.viewpoints import look_at
from pasr_perception.types import Camera

ROOT = Path(__file__).parents[2]


def example() -> str:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    found = [block for block in blocks if "Pipeline" in block]
    assert found, "README.md holds no ```python block that uses Pipeline"
    return found[0]


def test_the_python_example_runs(
    bench: Any, library_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = example()
    x0, y0, x1, y1 = (float(x) for x in re.search(r"Detection\(np\.array\(\[(.*?)\]\)", code)[1].split(","))
    K = np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]])
    R = look_at(0.4, 0.8)
    middle = np.array([((x0 + x1) / 2 - 320) / 600, ((y0 + y1) / 2 - 240) / 600, 1.0]) * 1.05
    T = make_T(R, middle - R @ bench.meshes["block"].bounds.mean(0))
    frame, _ = bench.photograph("block", T, Camera(640, 480, K))
    cv2.imwrite(str(tmp_path / "image.png"), frame.image[..., ::-1])
    shutil.copytree(library_path, tmp_path / "lib")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "pasr_perception.library.opening.load_encoder", lambda config: (bench.encoder, torch.device("cpu"))
    )
    namespace: dict[str, Any] = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), namespace)
    found = namespace["found"].best
    assert found.mesh_id == "block"
    np.testing.assert_allclose(
        found.T_cam_obj[:3, :3] @ bench.meshes["block"].bounds.mean(0) + found.T_cam_obj[:3, 3], middle, atol=0.25
    )
    assert capsys.readouterr().out.startswith("block blocks ")
