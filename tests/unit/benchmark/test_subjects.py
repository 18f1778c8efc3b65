"""The baselines compute what the search computes, so that only their cost differs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pasr_perception.benchmark.searching import BASELINES, TOLERANCE, Ways
from pasr_perception.benchmark.subjects import (
    DenseRenderAndCompare,
    DenseTemplates,
    MeshModel,
    RenderAndCompare,
    SparseExact,
    pytorch3d_renderer,
)
from pasr_perception.library.store import MeshLibrary
from pasr_perception.render.splat import splat


@pytest.fixture(scope="module", params=["block", "truck"])  # so3 with four turns, upright with one
def model(request: pytest.FixtureRequest, library_path: Path) -> MeshModel:
    library = MeshLibrary.open(library_path)
    return MeshModel.load(library, library.index_of(request.param), torch.device("cpu"))


@pytest.fixture(scope="module")
def maps(model: MeshModel) -> torch.Tensor:
    shape = (2, 4, model.features.shape[1], model.splat.size, model.splat.size)
    return torch.nn.functional.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(0)), dim=2)


@pytest.mark.parametrize("way", ["render", "whole images", "dense", "pytorch3d"])
def test_every_way_gives_the_exact_scores(way: str, model: MeshModel, maps: torch.Tensor) -> None:
    expected = SparseExact(model)(maps)
    assert expected.shape == (2, len(model.turns) * len(model.templates.rotation))
    if way == "pytorch3d":
        pytest.importorskip("pytorch3d")
        renderer = pytorch3d_renderer()
        assert renderer is not None
        scores = DenseRenderAndCompare(model, renderer)(maps)
    else:
        make = {"render": RenderAndCompare, "dense": DenseTemplates}
        scores = (make[way](model) if way in make else DenseRenderAndCompare(model, splat))(maps)
    torch.testing.assert_close(scores, expected, atol=1e-3 if way == "dense" else 1e-5, rtol=0)


def test_dense_templates_take_the_bytes_they_say(model: MeshModel) -> None:
    poses, cells = len(model.templates.rotation), model.splat.size**2
    assert DenseTemplates(model).nbytes == poses * cells * model.features.shape[1] * 2 + poses * 8


def test_ways_are_checked_against_each_other(model: MeshModel, maps: torch.Tensor) -> None:
    ways = Ways.of([model])
    assert set(ways.scorers) <= set(BASELINES)
    ways.check(maps)
    wrong = Ways({**ways.scorers, "render": [lambda m: SparseExact(model)(m) + 2 * TOLERANCE]}, ways.bytes_per_mesh)
    with pytest.raises(RuntimeError, match="render: scores differ"):
        wrong.check(maps)
