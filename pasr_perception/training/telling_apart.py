"""What alignment does not ask: that a feature be nearer to what it shall be like than what other meshes' are.

InfoNCE both ways between features and those wanted, of cells of views (PASR eq. 7) or of points. Those of one mesh are no wrong
answers to each other: what lies side by side, or mirrored, on one object may look alike. An addition to the paper
(docs/learned.md says what it gains).
"""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

EXCLUDED = -1e4  # a logit that softmax leaves nothing of


def drawn(members: int, at_most: int, seed: tuple[int, ...]) -> torch.Tensor:
    """Which members [n] int64 are told apart: `at_most`, or all where there are fewer; the same for one seed."""
    state = 0
    for part in seed:
        state = (state * 1_000_003 + part + 1) % 2**63
    return torch.randperm(members, generator=torch.Generator().manual_seed(state))[:at_most]


def contrast(target: torch.Tensor, predicted: torch.Tensor, cloud: torch.Tensor, temperature: float) -> torch.Tensor:
    """Mean InfoNCE of unit features [n, D] of the same n members, whose clouds are [n] int64; 0 where all are of one cloud."""
    similarity = target @ predicted.T / temperature
    own = torch.eye(len(cloud), dtype=torch.bool, device=cloud.device)
    similarity = similarity.masked_fill((cloud[:, None] == cloud) & ~own, EXCLUDED)
    right = torch.arange(len(cloud), device=cloud.device)
    return (cross_entropy(similarity, right) + cross_entropy(similarity.T, right)) / 2
