"""Training of the feature adapter: places of cells, the triplet loss against loops, and what training changes."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from pasr_perception.encoders.adapter import AdapterConfig
from pasr_perception.training.adapter import (
    AdaptConfig,
    PlacedCells,
    PlacedViews,
    card,
    match,
    train_adapter,
    triplet_loss,
)

SMALL = AdaptConfig(steps=80, batch_size=4, cells=32, model=AdapterConfig(hidden=48, adapted=16))


@pytest.fixture(autouse=True)
def _all_in_both_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three meshes are too few to share out: they are watched as they are trained on."""
    for place in ("adapter", "cache"):
        monkeypatch.setattr(f"pasr_perception.training.{place}.meshes_of", lambda part, ids: list(ids))


def test_a_cell_lies_at_the_splatted_mean_of_its_points(look) -> None:
    one = look()
    cells = PlacedCells.of(one, one.views[0])
    view = one.views[0]
    for m in range(len(cells.place)):
        weighted = [
            float(w) * one.cloud.points[int(i)] for i, w in zip(view.index[m], view.weight[m].float(), strict=True)
        ]
        torch.testing.assert_close(cells.place[m], torch.stack(weighted).sum(0))


def test_the_loss_is_the_mean_hinge_of_violating_triplets() -> None:
    g = torch.Generator().manual_seed(0)
    a, b = (normalize(torch.randn(2, n, 5, generator=g), dim=2) for n in (6, 7))
    distance = torch.rand(2, 6, 7, generator=g)
    config = AdaptConfig(margin=0.4, near=0.2, far=0.5)
    hinges = []
    for k in range(2):
        for i in range(6):
            j = int(distance[k, i].argmin())
            if distance[k, i, j] < 0.2:
                far = [float(a[k, i] @ b[k, m]) for m in range(7) if distance[k, i, m] > 0.5]
                hinges += [0.4 + f - float(a[k, i] @ b[k, j]) for f in far]
    hinges = [h for h in hinges if h > 0]
    assert len(hinges) > 5
    assert float(triplet_loss(a, b, distance, config)) == pytest.approx(sum(hinges) / len(hinges), abs=1e-5)


def test_views_without_a_place_in_common_teach_nothing() -> None:
    a = normalize(torch.ones(1, 3, 5), dim=2).requires_grad_()
    loss = triplet_loss(a, a, torch.ones(1, 3, 3), AdaptConfig())
    assert float(loss.detach()) == 0
    loss.backward()
    assert float(a.grad.abs().max()) == 0


def test_matches_of_a_mesh_with_itself(cache) -> None:
    views = PlacedViews(cache, "validation")
    assert match(views, lambda x: x, 3.0).near == 1  # nothing is further than two radii
    near = [match(views, lambda x: x, radius).near for radius in (0.1, 0.5, 1.0)]
    assert 0 < near[0] < near[1] < near[2] < 1


def test_training_parts_what_lies_apart_and_the_seed_decides(cache) -> None:
    module, again = train_adapter(cache, SMALL), train_adapter(cache, SMALL)
    for a, b in zip(module.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    barely = train_adapter(cache, dataclasses.replace(SMALL, steps=1))
    views, losses = PlacedViews(cache, "train"), []
    for adapter in (barely, module):
        rng = np.random.default_rng(5)
        total = 0.0
        for mesh in (0, 1, 2) * 4:
            first, second = (cells.drawn(32, rng) for cells in views.pair(mesh, rng))
            distance = torch.cdist(first.place, second.place)[None]
            total += float(triplet_loss(adapter(first.feature)[None], adapter(second.feature)[None], distance, SMALL))
        losses.append(total)
    assert losses[1] < losses[0]
    told = card(cache, SMALL, module)
    assert json.loads(json.dumps(told)) == told
    assert told["meshes"] == ["block", "can", "truck"]
    frozen = match(views, lambda x: x, 0.2)
    assert told["validation"]["frozen"]["near"] == pytest.approx(frozen.near, abs=0.02)


@pytest.mark.parametrize(("name", "value"), [("steps", 0), ("near", 0.5), ("margin", 0.0), ("noc_weight", -1.0)])
def test_bad_settings_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"adapt\.{name}: expected .*, got {value}"):
        dataclasses.replace(AdaptConfig(), **{name: value})
