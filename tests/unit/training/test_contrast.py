"""Contrastive training: the loss against loops, no photo meets itself, and photos find their shapes."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn.functional import normalize

from pasr_perception.encoders.global_embedding import GlobalConfig
from pasr_perception.training.contrast import ContrastConfig, Pairs, contrast, train_global
from pasr_perception.training.point_targets import shape_features

SMALL = ContrastConfig(
    steps=150, batch_size=3, members=64, learning_rate=3e-3, model=GlobalConfig(hidden=24, embedding=8)
)


@pytest.fixture(autouse=True)
def _all_in_both_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three meshes are too few to share out: they are watched as they are trained on."""
    monkeypatch.setattr("pasr_perception.training.cache.meshes_of", lambda part, ids: list(ids))


def test_the_loss_is_cross_entropy_both_ways() -> None:
    g = torch.Generator().manual_seed(0)
    photo, shape = (normalize(torch.randn(4, 5, generator=g), dim=1) for _ in range(2))
    products, answer = photo @ shape.T * 7.0, torch.arange(4)
    expected = (
        torch.nn.functional.cross_entropy(products, answer) + torch.nn.functional.cross_entropy(products.T, answer)
    ) / 2
    torch.testing.assert_close(contrast(photo, shape, torch.tensor(7.0), torch.eye(4, dtype=torch.bool)), expected)


def test_several_right_answers_share_what_is_asked() -> None:
    photo = normalize(torch.randn(2, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    right = torch.ones(2, 2, dtype=torch.bool)
    log = torch.log_softmax(photo @ photo.T, 1)
    torch.testing.assert_close(contrast(photo, photo, torch.tensor(1.0), right), -log.mean(1).mean())


def test_a_shape_is_made_of_the_other_views(cache) -> None:
    pairs = Pairs(cache, "train")
    looks = cache.load(cache.meshes[0])
    photo, shape = pairs.pair(0, 1, 0)
    assert torch.equal(photo, looks[0].views[1].target.float())
    assert torch.equal(shape, shape_features(looks[0], [looks[0].views[0]])[1])
    painted, whole = pairs.pair(0, 0, 1)
    assert torch.equal(painted, looks[1].views[0].target.float())
    assert torch.equal(whole, shape_features(looks[0], looks[0].views)[1])


def test_photos_find_their_shapes_after_training_and_the_seed_decides(cache) -> None:
    module, scores = train_global(cache, SMALL)
    again, _ = train_global(cache, SMALL)
    assert scores.meshes == 3
    assert scores.top1 > 0.5  # chance: 0.33
    for a, b in zip(module.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match=r"contrast\.steps: expected at least 2, got 1"):
        dataclasses.replace(SMALL, steps=1)
