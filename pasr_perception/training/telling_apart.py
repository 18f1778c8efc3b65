"""What alignment does not ask: that a feature be nearer to what it shall be like than what other meshes' are.

InfoNCE both ways, of the backbone's features (`tuning_loss.py`) as of the point encoder's and those wanted, of cells of views (PASR
eq. 7) or of points. The latter of one mesh are no wrong answers to each other: what lies side by side, or mirrored, on one object
may look alike. An addition to the paper (docs/learned.md says what it gains).
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cross_entropy


def drawn(members: int, at_most: int, seed: tuple[int, ...]) -> torch.Tensor:
    """Which members [n] int64 are told apart: `at_most`, or all where there are fewer; the same for one seed."""
    return torch.as_tensor(np.random.default_rng(seed).permutation(members)[:at_most])


def both_ways(forth: torch.Tensor, back: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of logits [n, n] there and back, where each is its own right answer."""
    right = torch.arange(len(forth), device=forth.device)
    return (cross_entropy(forth, right) + cross_entropy(back, right)) / 2


def places_apart(anchor: torch.Tensor, other: torch.Tensor, near: torch.Tensor, temperature: float) -> torch.Tensor:
    """InfoNCE both ways of unit features [n, D] of the same n points.

    Points `near` [n, n] bool one another are neither right nor wrong, except each for itself.
    """
    same = torch.eye(len(anchor), dtype=torch.bool, device=anchor.device)
    products = (anchor @ other.T / temperature).masked_fill(near & ~same, -torch.inf)
    return both_ways(products, products.T)


def contrast(target: torch.Tensor, predicted: torch.Tensor, cloud: torch.Tensor, temperature: float) -> torch.Tensor:
    """Mean InfoNCE of unit features [n, D] of the same n members, whose clouds are [n] int64; 0 where all are of one cloud."""
    return places_apart(target, predicted, cloud[:, None] == cloud, temperature)
