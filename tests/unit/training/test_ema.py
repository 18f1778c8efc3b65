"""The running average: young ones follow, old ones settle."""

from __future__ import annotations

import torch
from torch import nn

from pasr_perception.training.ema import Averaged


def test_it_follows_the_published_recursion() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    average, expected = Averaged(module, decay=0.9), 0.0
    for n in range(1, 60):
        nn.init.constant_(module.weight, float(n))
        average.update(module)
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n
    torch.testing.assert_close(average.module.weight[0, 0], torch.tensor(expected))
    assert not average.module.weight.requires_grad


def test_no_decay_is_the_last_weights() -> None:
    module = nn.Linear(2, 2)
    average = Averaged(module, decay=0.0)
    nn.init.ones_(module.weight)
    average.update(module)
    assert torch.equal(average.module.weight, module.weight)
