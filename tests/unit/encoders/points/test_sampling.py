"""Farthest points, balls and nearest neighbours against loops that do the obvious thing."""

from __future__ import annotations

import pytest
import torch

from pasr_perception.encoders.points.sampling import ball_query, farthest_points, nearest_points, squared_distances


@pytest.fixture
def points() -> torch.Tensor:
    return torch.rand(60, 3, generator=torch.Generator().manual_seed(1))


def slow_farthest(points: torch.Tensor, count: int) -> list[int]:
    chosen = [0]
    while len(chosen) < count:
        gaps = [min(float((p - points[c]).square().sum()) for c in chosen) for p in points]
        chosen.append(gaps.index(max(gaps)))
    return chosen


def slow_ball(centres: torch.Tensor, points: torch.Tensor, radius: float, count: int) -> list[list[int]]:
    rows = []
    for centre in centres:
        gaps = [float((p - centre).square().sum()) for p in points]
        inside = [i for i, gap in enumerate(gaps) if gap < radius * radius][:count]
        first = inside[0] if inside else gaps.index(min(gaps))
        rows.append(inside + [first] * (count - len(inside)))
    return rows


def test_farthest_points_are_those_of_the_slow_twin(points: torch.Tensor) -> None:
    assert farthest_points(points, 25).tolist() == slow_farthest(points, 25)


def test_fewer_farthest_points_are_the_beginning_of_more(points: torch.Tensor) -> None:
    many = farthest_points(points, 40)
    assert farthest_points(points, 15).tolist() == many[:15].tolist()
    kept = points[many[:20]]
    assert farthest_points(kept, 12).tolist() == list(range(12))  # sampling the sample again changes nothing


def test_more_farthest_points_than_there_are_is_an_error(points: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"count: expected 1\.\.60"):
        farthest_points(points, 61)


@pytest.mark.parametrize("radius", [0.02, 0.2, 0.5, 3.0])
def test_balls_are_those_of_the_slow_twin(points: torch.Tensor, radius: float) -> None:
    centres = torch.cat([points[:8], torch.full((1, 3), 5.0)])  # the last one's ball may hold nothing
    assert ball_query(centres, points, radius, 7).tolist() == slow_ball(centres, points, radius, 7)


def test_a_ball_may_be_asked_for_more_than_there_are(points: torch.Tensor) -> None:
    found = ball_query(points[:3], points[:4], 10.0, 6)
    assert found.tolist() == [[0, 1, 2, 3, 0, 0]] * 3


def test_nearest_points_are_sorted_and_those_of_the_slow_twin(points: torch.Tensor) -> None:
    queries = points[:5] + 0.01
    index, d2 = nearest_points(queries, points, 4)
    for row, query in enumerate(queries):
        gaps = [(float((p - query).square().sum()), i) for i, p in enumerate(points)]
        expected = sorted(gaps)[:4]
        assert index[row].tolist() == [i for _, i in expected]
        torch.testing.assert_close(d2[row], torch.tensor([gap for gap, _ in expected]))


def test_blocks_of_queries_change_nothing(points: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ball_query(points, points, 0.3, 5), nearest_points(points, points, 3)[0]
    monkeypatch.setattr("pasr_perception.encoders.points.sampling.PAIRS_PER_BLOCK", 200)
    assert torch.equal(ball_query(points, points, 0.3, 5), whole[0])
    assert torch.equal(nearest_points(points, points, 3)[0], whole[1])


def test_near_points_far_from_the_origin_keep_their_distance() -> None:
    at = torch.tensor([[100.0, 0, 0], [100.0, 0, 1e-3]])
    torch.testing.assert_close(squared_distances(at, at), torch.tensor([[0, 1e-6], [1e-6, 0]]), rtol=1e-3, atol=0)
