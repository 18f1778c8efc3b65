"""Ranking: offsets decide between meshes, each mesh answers once, scores are shares."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from pasr_perception.confidence import probabilities
from pasr_perception.config import ConfidenceConfig, RankConfig
from pasr_perception.rank import Attraction, Ranked
from pasr_perception.rank import rank as ranked_with
from pasr_perception.types import Candidates

MEAN, STD = torch.tensor([0.5, 0.3, 0.4]), torch.tensor([0.05, 0.05, 0.1])
ATTRACTION = Attraction(MEAN, STD, torch.tensor([False, False, False]))
ROTATIONS = torch.eye(3).repeat(4, 1, 1) * torch.arange(1, 5)[:, None, None]


def rank(found: Candidates, attraction: Attraction, config: RankConfig) -> Ranked:
    return ranked_with(found, attraction.rivals(config), config, ConfidenceConfig())


def candidates(meshes: list[int], similarity: torch.Tensor, mismatch: torch.Tensor | None = None) -> Candidates:
    value = similarity if mismatch is None else similarity - mismatch
    turn = torch.zeros(len(meshes), dtype=torch.long)
    return Candidates(torch.tensor(meshes), ROTATIONS[: len(meshes)], turn, similarity, value)


def test_the_margin_over_the_own_offset_decides():
    ranked = rank(candidates([0, 1, 2, 1], torch.tensor([0.60, 0.45, 0.45, 0.35])), ATTRACTION, RankConfig())
    assert ranked.mesh_index == (1, 0, 2)
    assert ranked.similarity == pytest.approx((0.45, 0.60, 0.45))
    assert torch.equal(ranked.rotation[0], ROTATIONS[1])


def test_a_margin_counts_in_spreads():
    attraction = Attraction(torch.tensor([0.4, 0.4]), torch.tensor([0.10, 0.02]), torch.tensor([False, False]))
    rivals = attraction.rivals(RankConfig(known_margin=0, own_spread=1))
    assert torch.allclose(rivals.margin(torch.tensor([0.5, 0.5]), torch.tensor([0, 1])), torch.tensor([1.0, 5.0]))
    ranked = rank(candidates([0, 1], torch.tensor([0.50, 0.43])), attraction, RankConfig(own_spread=1))
    assert ranked.mesh_index == (1, 0)


@pytest.mark.parametrize(
    ("own", "spread"), [(1.0, [0.04, 0.01, 0.02]), (0.5, [0.02 * 2**0.5, 0.02 / 2**0.5, 0.02]), (0.0, [0.02] * 3)]
)
def test_a_spread_is_drawn_to_the_librarys_typical_one(own: float, spread: list[float]) -> None:
    attraction = Attraction(torch.zeros(3), torch.tensor([0.04, 0.01, 0.02]), torch.zeros(3, dtype=torch.bool))
    torch.testing.assert_close(attraction.rivals(RankConfig(own_spread=own)).spread, torch.tensor(spread))


def test_known_colours_have_to_say_more():
    attraction = Attraction(torch.tensor([0.4, 0.4]), torch.tensor([0.1, 0.1]), torch.tensor([True, False]))
    assert torch.allclose(attraction.rivals(RankConfig(known_margin=0.03)).offset, torch.tensor([0.43, 0.4]))
    similarity = torch.tensor([0.52, 0.50])
    for margin, winner in ((0.0, 0), (0.01, 0), (0.03, 1)):
        ranked = rank(candidates([0, 1], similarity), attraction, RankConfig(known_margin=margin))
        assert ranked.mesh_index[0] == winner
        assert ranked.similarity[0] == pytest.approx(float(similarity[winner]))


def test_an_outline_that_does_not_fit_the_box_counts():
    similarity = torch.tensor([0.60, 0.45, 0.45])
    ranked = rank(candidates([0, 1, 2], similarity, torch.tensor([0.0, 0.2, 0.0])), ATTRACTION, RankConfig())
    assert ranked.mesh_index == (0, 2, 1)
    assert ranked.similarity == pytest.approx((0.60, 0.45, 0.45))


def test_where_refinement_put_them_goes_along():
    found = candidates([0, 1, 2], torch.tensor([0.60, 0.45, 0.45]))
    assert not rank(found, ATTRACTION, RankConfig()).displacement.any()
    displacement = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.7, 0.8, 0.9]])
    ranked = rank(dataclasses.replace(found, displacement=displacement), ATTRACTION, RankConfig())
    assert torch.equal(ranked.displacement, displacement[list(ranked.mesh_index)])


def test_as_many_hypotheses_as_asked_for():
    ranked = rank(candidates([0, 1, 2, 1], torch.rand(4)), ATTRACTION, RankConfig(hypotheses=2))
    assert len(ranked.mesh_index) == len(ranked.score) == len(ranked.rotation) == 2


def test_scores_are_the_calibrated_probabilities_and_leave_room_for_none_of_them():
    ranked = rank(candidates([0, 1, 2], torch.tensor([0.60, 0.45, 0.45])), ATTRACTION, RankConfig(own_spread=1))
    assert ranked.margin == pytest.approx((3.0, 2.0, 0.5), abs=1e-5)
    expected, unknown = probabilities(ranked.margin, ConfidenceConfig())
    assert ranked.score == pytest.approx(expected)
    assert ranked.unknown == pytest.approx(unknown)
    assert sum(ranked.score) + ranked.unknown == pytest.approx(1.0)
