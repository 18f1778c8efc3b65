"""Agreement of two searches on candidates made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pasr_perception.benchmark.agreement import agreement, rank_correlation, shares
from pasr_perception.geometry.viewpoints import look_at
from pasr_perception.types import Candidates

POSES = torch.as_tensor(np.stack([look_at(0.2, 0.3 * i) for i in range(8)]), dtype=torch.float32)


def candidates(*pairs: tuple[int, int]) -> Candidates:
    """(mesh, index of POSES), best first."""
    mesh, pose = (torch.tensor(column) for column in zip(*pairs, strict=True))
    value = torch.linspace(1, 0.5, len(pairs))
    return Candidates(mesh, POSES[pose], torch.zeros_like(mesh), value, value)


@pytest.mark.parametrize(
    ("found", "mesh", "pose"),
    [
        ([(3, 2)], True, True),
        ([(3, 1), (3, 2)], True, True),  # the right mesh in another pose first
        ([(4, 2), (3, 2)], False, True),  # another mesh first
        ([(3, 1), (3, 3), (4, 2), (5, 2), (6, 2), (3, 2)], True, False),  # only sixth
        ([(4, 2), (5, 2)], False, False),  # the pose, but of other meshes
    ],
)
def test_mesh_first_and_pose_among_the_first_five(found: list[tuple[int, int]], mesh: bool, pose: bool) -> None:
    result = agreement(candidates((3, 2)), candidates(*found))
    assert (result.mesh_top1, result.pose_top5) == (mesh, pose)
    assert shares([result]) == ([mesh], [pose])


def test_a_pose_half_a_step_off_is_another_pose() -> None:
    exact, found = candidates((0, 0)), candidates((0, 0))
    off = torch.as_tensor(look_at(0.2, np.radians(1.0)), dtype=torch.float32)
    assert not agreement(exact, Candidates(found.mesh_index, off[None], found.turn, found.value, found.value)).pose_top5


def test_no_candidates_are_refused() -> None:
    none = Candidates(torch.zeros(0, dtype=torch.long), POSES[:0], torch.zeros(0), torch.zeros(0), torch.zeros(0))
    with pytest.raises(ValueError, match="at least one candidate"):
        agreement(candidates((0, 0)), none)


def test_rank_correlation_is_spearmans() -> None:
    exact = torch.tensor([0.1, 0.2, 0.3, 0.4])
    assert rank_correlation(exact, exact**3) == pytest.approx(1.0)
    assert rank_correlation(exact, -exact) == pytest.approx(-1.0)
    # ranks 1 2 3 4 against 2 1 3 4: 1 - 6 * 2 / (4 * 15)
    assert rank_correlation(exact, torch.tensor([0.2, 0.1, 0.3, 0.4])) == pytest.approx(0.8)
    with pytest.raises(ValueError, match="equal shapes"):
        rank_correlation(exact, exact[:3])
