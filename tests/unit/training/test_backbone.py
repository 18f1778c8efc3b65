"""Tuning of the backbone: the loss against loops and finite differences, what is drawn, what tuning changes and when it stops."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from pasr_perception.encoders.projection import FeatureProjection
from pasr_perception.encoders.tuned import Tail
from pasr_perception.library.lifted import sample_map
from pasr_perception.training.backbone import TuneConfig, drawn, tune, validated
from pasr_perception.training.mesh_views import PHOTO, MeshViews
from pasr_perception.training.telling_apart import places_apart
from pasr_perception.training.tuning_loss import (
    SOFTNESS,
    LossConfig,
    Pairs,
    Subject,
    features_at,
    meshes_apart,
    objective,
)

CHANNELS = (6, 8, 8)
SMALL = TuneConfig(
    steps=40,
    meshes=4,
    points=24,
    learning_rate=1e-2,
    warmup_steps=2,
    validate_every=10,
    patience=9,
    loss=LossConfig(meshes=0.3, pull=0.1),
)


class Block(nn.Module):
    """A depthwise convolution and one of a cell, with biases, as folded ones have."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(before, before, 3, padding=2, dilation=2, groups=before)
        self.convolution = nn.Conv2d(before, after, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.relu6(self.convolution(0.2 * self.depthwise(x) + x))


def tail() -> Tail:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        blocks = {i: Block(a, b) for i, (a, b) in enumerate(itertools.pairwise(CHANNELS), 11)}
    return Tail(blocks, (10, 11, 12)).requires_grad_(False)


class PlainEncoder:
    """All that tuning asks of an encoder."""

    def __init__(self) -> None:
        self.tail, self.projection = tail(), projection()


def seen_mesh(number: int, category: str = "thing", grid: int = 10, views: int = 3, points: int = 40) -> MeshViews:
    """A mesh whose places show themselves in three channels, and every view something else in the others."""
    g = torch.Generator().manual_seed(number)
    axis = (torch.arange(grid) + 0.5) / grid
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    own = torch.stack([u, v, torch.full_like(u, torch.rand((), generator=g).item())])
    noise = torch.randn(views, 3, grid, grid, generator=g)
    first = torch.cat([own.expand(views, -1, -1, -1) * 2, noise], 1)
    uv = torch.rand(points, 2, generator=g)
    place = torch.cat([uv * 2 - 1, torch.zeros(points, 1)], 1)
    seen = torch.ones(views, points, dtype=torch.bool)
    seen[-1, : points // 2] = False
    return MeshViews(f"mesh{number}", category, place, first.half(), uv.expand(views, -1, -1), seen)


def projection() -> FeatureProjection:
    mean, whitening = tuple(torch.zeros(c) for c in CHANNELS), tuple(torch.eye(c)[:, :5] for c in CHANNELS)
    return FeatureProjection(mean, whitening, torch.zeros(sum(CHANNELS)), torch.eye(sum(CHANNELS))[:, 6:14], 0.5)


def subjects(count: int, category: str = "thing", first: int = 0) -> list[Subject]:
    return [Subject.of(seen_mesh(first + i, category), tail(), projection()) for i in range(count)]


def test_the_loss_of_places_is_a_choice_among_those_that_are_not_near() -> None:
    g = torch.Generator().manual_seed(0)
    anchor, other = (normalize(torch.randn(9, 5, generator=g), dim=1) for _ in range(2))
    near = torch.rand(9, 9, generator=g) < 0.3
    near |= near.T.clone()
    total = 0.0
    for of, among in ((anchor, other), (other, anchor)):
        for i in range(9):
            allowed = [j for j in range(9) if j == i or not near[i, j]]
            right = float(of[i] @ among[i]) / 0.2
            total += math.log(sum(math.exp(float(of[i] @ among[j]) / 0.2) for j in allowed)) - right
    assert float(places_apart(anchor, other, near, 0.2)) == pytest.approx(total / 18, abs=1e-5)


def test_the_loss_of_meshes_is_a_choice_among_views_by_how_well_they_fit() -> None:
    g = torch.Generator().manual_seed(3)
    anchor, other = (normalize(torch.randn(3, 7, 5, generator=g), dim=2) for _ in range(2))
    total = 0.0
    for of, among in ((anchor, other), (other, anchor)):
        for i in range(3):
            fits = []
            for j in range(3):
                each = [SOFTNESS * math.log(sum(math.exp(float(p @ q) / SOFTNESS) for q in among[j])) for p in of[i]]
                fits.append(sum(each) / len(each))
            total += math.log(sum(math.exp(fit / 0.1) for fit in fits)) - fits[i] / 0.1
    assert float(meshes_apart(anchor, other, 0.1)) == pytest.approx(total / 6, abs=1e-4)


def test_gradients_are_those_of_finite_differences() -> None:
    g = torch.Generator().manual_seed(1)
    anchor, other = (torch.randn(6, 4, generator=g, dtype=torch.float64).requires_grad_() for _ in range(2))
    near = torch.eye(6, dtype=torch.bool)
    near[0, 1] = near[1, 0] = True

    def of_places(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return places_apart(normalize(a, dim=1), normalize(b, dim=1), near, 0.3)

    def of_meshes(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return meshes_apart(normalize(a, dim=1).view(2, 3, 4), normalize(b, dim=1).view(2, 3, 4), 0.3)

    assert torch.autograd.gradcheck(of_places, (anchor, other))
    assert torch.autograd.gradcheck(of_meshes, (anchor, other))


def test_features_are_read_where_points_are() -> None:
    g = torch.Generator().manual_seed(2)
    maps, uv = torch.randn(2, 5, 7, 7, generator=g), torch.rand(2, 11, 2, generator=g)
    for i, at in enumerate(features_at(maps, uv)):
        torch.testing.assert_close(at, normalize(sample_map(maps[i], uv[i]), dim=1))


def test_pairs_are_of_points_that_both_views_show() -> None:
    some = subjects(2)
    pairs = Pairs.of([(some[0], 0, 2), (some[1], 2, 1)], 30, np.random.default_rng(0))
    assert (pairs.first.shape[0], pairs.uv.shape, pairs.mesh.tolist()) == (4, (4, 30, 2), [0] * 30 + [1] * 30)
    shown = some[0].views.place[some[0].views.seen[2]]
    assert torch.cdist(pairs.place[:30], shown).amin(1).max() < 1e-3  # as near as cdist gets
    torch.testing.assert_close(pairs.uv[0], pairs.uv[2])  # of one mesh: these views show it at the same places
    near = pairs.near(0.5)
    assert not near[:30, 30:].any()
    close = [[float((a - b).norm()) <= 0.5 for b in pairs.place[:30]] for a in pairs.place[:30]]
    assert near[:30, :30].tolist() == close


def test_the_pull_is_away_from_published_features() -> None:
    pairs = Pairs.of([(s, 0, 1) for s in subjects(3)], 24, np.random.default_rng(0))
    moved = tail()
    with torch.no_grad():
        moved.blocks[0].convolution.weight.neg_()
    for of, strays in ((tail(), False), (moved, True)):
        loss = [float(objective(of, projection(), pairs, LossConfig(pull=w)).total) for w in (0.0, 10.0)]
        assert (loss[1] - loss[0] > 0.1) == strays
        assert loss[1] >= loss[0] - 1e-3


def test_half_of_a_step_is_of_one_category() -> None:
    meshes = [*subjects(2, "cup"), *subjects(10, "object", first=2)]
    chosen = [len(set(drawn(meshes, SMALL, np.random.default_rng(seed)).mesh.tolist())) for seed in range(10)]
    assert chosen == [4] * 10
    cups = [mesh.views.first[0, 2, 0, 0].float() for mesh in meshes[:2]]
    together = 0
    for seed in range(100):
        first = drawn(meshes, SMALL, np.random.default_rng(seed)).first[:, 2, 0, 0]
        together += all((first == cup).any() for cup in cups)
    assert 16 < together < 40  # 4 of 12 at random have both in 9 of 100


def test_two_photos_of_a_mesh_are_never_rivals() -> None:
    twice = [*subjects(3, "cup"), *subjects(3, "cup"), *subjects(2, "object", first=3)]
    for seed in range(20):
        assert len(set(drawn(twice, SMALL, np.random.default_rng(seed)).mesh.tolist())) == 4


def test_most_pairs_are_of_a_photo_and_a_rendering() -> None:
    (mesh,) = subjects(1)
    photo, one = mesh.views.first[PHOTO].float(), dataclasses.replace(SMALL, meshes=1, points=1, photo_share=0.7)
    with_photo = sum(
        any(torch.equal(first, photo) for first in drawn([mesh], one, np.random.default_rng(seed)).first)
        for seed in range(200)
    )
    assert mesh.pairs == ((0, 1), (0, 2), (1, 2))
    assert with_photo / 200 == pytest.approx(0.7 + 0.3 * 2 / 3, abs=0.06)


def test_tuning_matches_more_places_and_the_seed_decides() -> None:
    train, watched = [seen_mesh(i) for i in range(6)], [seen_mesh(i) for i in (6, 7, 8)]
    first, again = (tune(PlainEncoder(), train, watched, SMALL) for _ in range(2))  # type: ignore[arg-type]
    for name, before in tail().state_dict().items():
        assert torch.equal(first.tail[name], again.tail[name])
        kept = name.endswith("bias") or "depthwise" in name  # as batch norms left them, and kernels
        assert torch.equal(first.tail[name], before) == kept
    told = json.loads(json.dumps(first.card))
    scores = told["validation"]
    assert scores["tuned"]["matched"] > scores["published"]["matched"] + 0.03
    assert scores["tuned"]["loss"] < scores["published"]["loss"]
    assert [of["step"] for of in told["curve"]] == [10, 20, 30, 40]
    assert told["watched"] == ["mesh6", "mesh7", "mesh8"]


def test_without_steps_weights_are_the_published_ones() -> None:
    meshes = [seen_mesh(i) for i in range(3)]
    tuned = tune(PlainEncoder(), meshes, meshes, dataclasses.replace(SMALL, steps=0))  # type: ignore[arg-type]
    assert all(torch.equal(tuned.tail[name], before) for name, before in tail().state_dict().items())
    assert tuned.card["validation"]["tuned"] == tuned.card["validation"]["published"]


def test_the_best_weights_are_kept_and_training_ends_when_none_are_better() -> None:
    meshes, encoder = [seen_mesh(i) for i in range(4)], PlainEncoder()
    encoder.tail.load_state_dict(tune(encoder, meshes, meshes, SMALL).tail)  # type: ignore[arg-type]
    good = {name: weight.clone() for name, weight in encoder.tail.state_dict().items()}
    wild = dataclasses.replace(SMALL, learning_rate=50.0, warmup_steps=0, patience=2)
    tuned = tune(encoder, meshes, meshes, wild)  # type: ignore[arg-type]
    assert len(tuned.card["curve"]) == 2
    assert all(torch.equal(tuned.tail[name], weight) for name, weight in good.items())


def test_scores_are_of_the_photo_with_each_rendering() -> None:
    some = subjects(3)
    scores = validated(tail(), projection(), some, SMALL)
    again = validated(tail(), projection(), some, dataclasses.replace(SMALL, meshes=2))
    assert 0 < scores.matched <= 1
    assert again.matched >= scores.matched  # fewer meshes to take one for
    assert again.found == scores.found  # among all of them in either case
    assert 0 <= scores.found <= 1


def test_a_photo_is_found_where_its_mesh_fits_best() -> None:
    meshes = [seen_mesh(i) for i in range(3)]
    alike = [dataclasses.replace(mesh, first=mesh.first[:1].expand(3, -1, -1, -1)) for mesh in meshes]
    same = [Subject.of(mesh, tail(), projection()) for mesh in alike]
    assert validated(tail(), projection(), same, SMALL).found == 1
    swapped = [
        dataclasses.replace(mesh, first=torch.cat([mesh.first[:1], other.first[1:]]))
        for mesh, other in zip(alike, alike[1:] + alike[:1], strict=True)
    ]
    others = [Subject.of(mesh, tail(), projection()) for mesh in swapped]
    assert validated(tail(), projection(), others, SMALL).found == 0


@pytest.mark.parametrize(
    ("name", "value"), [("points", 0), ("steps", -1), ("learning_rate", 0.0), ("photo_share", 2.0)]
)
def test_bad_settings_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"tune\.{name}: expected .*, got {value}"):
        dataclasses.replace(TuneConfig(), **{name: value})


@pytest.mark.parametrize(("name", "value"), [("far", 0.0), ("meshes", -1.0), ("pull", -0.5)])
def test_bad_weights_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"tune\.loss\.{name}: expected .*, got {value}"):
        dataclasses.replace(LossConfig(), **{name: value})
