"""Muon: what a singular value decomposition says of its steps, torch's own where there is one, and who moves which parameter."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from pasr_perception.training.config import CPU
from pasr_perception.training.optimisers import ADAMW_RMS, Muon, optimisers_of, orthogonalised


def matrix(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (7, 7), (1, 6)])
def test_singular_vectors_stay_and_singular_values_become_alike(shape: tuple[int, int]) -> None:
    given = matrix(*shape)
    u, s, vt = torch.linalg.svd(given, full_matrices=False)
    spread = u @ torch.diag(torch.logspace(0, -1.5, len(s))) @ vt  # the smallest a thirtieth of the largest
    found = u.T @ orthogonalised(spread) @ vt.T
    diagonal = found.diagonal()
    torch.testing.assert_close(found, torch.diag(diagonal), atol=1e-4, rtol=0)
    assert 0.6 < float(diagonal.min()) <= float(diagonal.max()) < 1.3


def test_nothing_is_made_of_nothing() -> None:
    assert not orthogonalised(torch.zeros(3, 4)).any()


def test_a_first_step_is_as_large_as_adamws() -> None:
    weight = nn.Parameter(torch.zeros(64, 256))
    weight.grad = matrix(64, 256) * 1e-3
    Muon([weight], lr=0.1, weight_decay=0.0).step()
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.1 * ADAMW_RMS, rel=0.15)


def test_weights_decay_by_rate_and_decay() -> None:
    weight = nn.Parameter(matrix(4, 6))
    weight.grad = torch.zeros(4, 6)
    Muon([weight], lr=0.5, weight_decay=0.1).step()
    torch.testing.assert_close(weight.detach(), matrix(4, 6) * 0.95)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has no Muon before 2.9")
def test_it_goes_where_torchs_own_goes() -> None:
    ours, theirs = (nn.Parameter(matrix(12, 30)) for _ in range(2))
    options = {"lr": 0.02, "weight_decay": 0.1}
    moving = Muon([ours], **options), torch.optim.Muon([theirs], **options, adjust_lr_fn="match_rms_adamw")
    for step in range(3):
        for weight, optimiser in zip((ours, theirs), moving, strict=True):
            weight.grad = matrix(12, 30, seed=step + 1)
            optimiser.step()
    moved = (theirs - matrix(12, 30)).norm()
    assert float(((ours - theirs).norm() / moved).detach()) < 0.03  # theirs are products in bfloat16


def test_other_than_matrices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"matrices: expected tensors of two dimensions, got \[\(3,\)\]"):
        Muon([nn.Parameter(torch.zeros(3))], lr=0.1, weight_decay=0.0)


@pytest.mark.parametrize(("name", "kinds"), [("adamw", [torch.optim.AdamW]), ("muon", [Muon, torch.optim.AdamW])])
def test_every_parameter_is_moved_by_one(name: str, kinds: list[type]) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    made = optimisers_of(module, dataclasses.replace(CPU, optimiser=name, learning_rate=0.1))
    assert [type(optimiser) for optimiser in made] == kinds
    moved = [p for optimiser in made for group in optimiser.param_groups for p in group["params"]]
    assert sorted(map(id, moved)) == sorted(map(id, module.parameters()))
    assert {group["lr"] for optimiser in made for group in optimiser.param_groups} == {0.1}
