"""Which points stand for a cloud, and which are near which: farthest points, balls, nearest neighbours. Nothing here is learnt.

All of it depends on positions only, so it is done once per mesh (`pyramid.py`).
"""

from __future__ import annotations

import torch

PAIRS_PER_BLOCK = 2**22  # distances held at a time: 16 MB


def farthest_points(points: torch.Tensor, count: int) -> torch.Tensor:
    """Indices [count] of points [N, 3], each farthest from those before it, beginning with the first (PointNet++ 3.2).

    Any beginning of the list is what a smaller count would give: one list serves all scales. Raises ValueError for more than N.
    """
    if not 1 <= count <= len(points):
        raise ValueError(f"count: expected 1..{len(points)} (the number of points), got {count}")
    chosen = torch.zeros(count, dtype=torch.long, device=points.device)
    nearest = torch.full((len(points),), torch.inf, device=points.device)
    for i in range(1, count):
        nearest = torch.minimum(nearest, (points - points[chosen[i - 1]]).square().sum(1))
        chosen[i] = nearest.argmax()
    return chosen


def ball_query(centres: torch.Tensor, points: torch.Tensor, radius: float, count: int) -> torch.Tensor:
    """The first `count` of points [N, 3], in their order, within the radius of each of centres [M, 3]: indices [M, count].

    Where there are fewer, the first fills the rest; where there is none, the nearest does. Points in farthest-point order
    thus give neighbours that spread over the ball (PointNet++'s rule).
    """
    found = []
    order = torch.arange(len(points), device=points.device)
    for block in centres.split(max(1, PAIRS_PER_BLOCK // len(points))):
        d2 = squared_distances(block, points)
        key = torch.where(d2 < radius * radius, order, len(points))
        taken = key.topk(min(count, len(points)), dim=1, largest=False).values  # sorted
        taken = torch.nn.functional.pad(taken, (0, count - taken.shape[1]), value=len(points))
        first = torch.where(taken[:, 0] < len(points), taken[:, 0], d2.argmin(1))
        found.append(torch.where(taken < len(points), taken, first[:, None]))
    return torch.cat(found)


def nearest_points(queries: torch.Tensor, points: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `count` nearest of points [N, 3] to each of queries [M, 3], nearest first: indices and squared distances [M, count]."""
    index, distance = [], []
    for block in queries.split(max(1, PAIRS_PER_BLOCK // len(points))):
        found = squared_distances(block, points).topk(count, dim=1, largest=False)
        index.append(found.indices)
        distance.append(found.values)
    return torch.cat(index), torch.cat(distance)


def squared_distances(queries: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """[M, N] between queries [M, 3] and points [N, 3], from differences: products would lose the digits that count."""
    return sum((queries[:, None, i] - points[:, i]).square() for i in range(3))  # type: ignore[return-value]
