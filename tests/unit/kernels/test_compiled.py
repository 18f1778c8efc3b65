"""Kernels are compiled before the first frame, said once, and where nothing can be kept as well."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time

import numba
import numpy as np
import pytest

from pasr_perception.kernels import (
    chroma,
    compiled,
    contour,
    missing,
    newton,
    outline,
    placement,
    poses,
    prepare,
    products,
    projection,
    splat,
    visit,
)

KERNELS = (
    products._values,
    projection._product,
    poses._scores,
    placement.place_one,
    placement.project_one,
    splat.take_one,
    chroma._of_templates,
    chroma._of_splat,
    visit._visit,
    newton._next_one,
    newton._model_one,
    missing._costs,
    outline.outline_one,
    contour.shades,
    contour.strongest_edges,
    contour.look,
    contour._look_at,
)


def test_all_are_compiled_by_prepare() -> None:
    prepare()
    assert all(len(kernel.signatures) >= 1 for kernel in KERNELS)


def test_slow_compilation_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(compiled, "WORTH_SAYING_S", 0.01)
    monkeypatch.setattr(compiled, "_trials", [lambda: time.sleep(0.02)] * 3)
    with caplog.at_level(logging.INFO):
        prepare()
    assert caplog.text.count("compiling the CPU's kernels") == 1  # while it goes on
    assert "compiled the CPU's kernels" in caplog.text


def test_a_full_disk_costs_no_kernel(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """numba keeps what it compiled for this process before it writes it down."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    @compiled.kernel
    def double(values: np.ndarray) -> None:
        for i in range(len(values)):
            values[i] *= 2

    monkeypatch.setattr(double._cache, "save_overload", full)
    values = np.ones(3)
    monkeypatch.setattr(compiled, "_trials", [lambda: double(values)])
    prepare()
    assert values.tolist() == [2, 2, 2]
    assert "No space left on device" in caplog.text


def test_a_kernel_works_where_nothing_can_be_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    njit = numba.njit

    def refusing(*args, cache: bool = False, **options):
        if cache:
            return lambda function: (_ for _ in ()).throw(RuntimeError("cannot cache: no locator available"))
        return njit(*args, **options)

    monkeypatch.setattr(numba, "njit", refusing)

    @compiled.kernel
    def double(values: np.ndarray) -> None:
        for i in range(len(values)):
            values[i] *= 2

    values = np.ones(3)
    double(values)
    assert values.tolist() == [2, 2, 2]
    assert "no locator available" in caplog.text
    assert "NUMBA_CACHE_DIR" in caplog.text


def test_equally_deep_points_are_taken_by_index_and_those_behind_the_band_are_hidden() -> None:
    uv = np.full((5, 2), 0.5, np.float32)
    depth = np.array([1.0, 3.0, 1.0, 1.4, -1.0], np.float32)
    taken = splat.take(uv, depth, splat.Splatting(size=1, radius=0.5, points_per_pixel=4, band=0.5))
    assert taken.index.tolist() == [[0, 2, 3, -1]]
    assert taken.count.tolist() == [3]


def test_arrays_with_steps_are_no_other_kind() -> None:
    """What tensors are cut from others must not be compiled for once more, in the middle of a frame."""
    prepare()
    known = len(splat.take_one.signatures)
    points = np.full((5, 3), 0.5, np.float32)
    splat.take(points[:, :2], points[:, 2], splat.Splatting(size=1, radius=0.5, points_per_pixel=4, band=0.5))
    assert len(splat.take_one.signatures) == known


def test_a_mean_cosine_by_hand() -> None:
    """Two pixels are covered: one shows what the crop shows, the other something across it; a third point is outside."""
    uv = np.array([[0.5, 0.5], [1.5, 0.5], [9.0, 9.0]], np.float32)
    features = np.array([[3.0, 0.0], [0.0, 2.0], [1.0, 1.0]], np.float32)
    cells = np.tile(np.array([1.0, 0.0], np.float32), (4, 1))
    splatting = splat.Splatting(size=2, radius=0.4, points_per_pixel=2, band=np.inf)
    taken, found = splat.take(uv, np.ones(3, np.float32), splatting), np.empty(2, np.float32)
    for counts, expected in ((np.ones(4), 0.5), (np.array([3.0, 1.0, 9.0, 9.0]), 0.75), (np.zeros(4), 0.0)):
        splat.mean_cosines(uv, taken.index, taken.count, features, cells, counts.astype(np.float32), 2, 0.4**2, found)
        assert found == pytest.approx([0.5, expected])


HALVES = """
import numpy as np, torch
from pasr_perception.kernels import splat
from pasr_perception.kernels.compiled import as_numbers

half = torch.tensor([[3.0, 0.1], [0.0, 2.0]], dtype=torch.float16)
cells, index, found = np.tile(np.array([0.6, 0.8], np.float32), (1, 1)), np.array([[0, 1]], np.int32), np.empty(2, np.float32)
uv = np.array([[0.5, 0.5], [0.5, 0.7]], np.float32)
counts = np.ones(1, np.float32)
splat.mean_cosines(uv, index, np.full(1, 2, np.int32), as_numbers(half), cells, counts, 1, 0.16, found)
print(float(found[0]))
"""


@pytest.mark.parametrize("jit", [True, False])
def test_halves_are_read_as_the_numbers_that_they_are(jit: bool) -> None:
    """Also where loops are stepped through as Python."""
    environment = os.environ | {"NUMBA_DISABLE_JIT": str(int(not jit))}
    told = subprocess.run([sys.executable, "-c", HALVES], env=environment, capture_output=True, text=True, check=True)
    weight = np.array([1.0, 1 - 0.2**2 / 0.16])
    shown = weight @ np.array([[3.0, 0.1], [0.0, 2.0]], np.float16).astype(float)
    assert float(told.stdout) == pytest.approx(shown @ [0.6, 0.8] / np.linalg.norm(shown), abs=1e-5)
