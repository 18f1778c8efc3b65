"""The bank: pooled templates are eq. 8 with averaged crops, and compression keeps most of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import pasr_perception.bank as bank_module
from pasr_perception.bank import (
    LOOKS,
    Bank,
    BankMesh,
    BankRows,
    Basis,
    CompressedCrops,
    Look,
    bank_rows,
    cover_order,
    fit_basis,
    moved,
    pool_maps,
    quantised,
)
from pasr_perception.config import BankConfig
from pasr_perception.geometry.placement import ViewSpec
from pasr_perception.geometry.viewpoints import (
    POSE_SETS,
    QUARTER_TURNS,
    base_poses,
    quarter_turn,
    random_rotations,
    roll,
)
from pasr_perception.render.splat import SplatConfig
from pasr_perception.templates import Templates, build_templates, pool_templates, score_templates

GRID, DIM, POINTS, BLOCKS = 12, 16, 500, 4
SPLAT = SplatConfig(GRID, 0.12, 8, 0.2)


def cloud(seed: int) -> tuple[Templates, torch.Tensor]:
    """Templates of an ellipsoid whose features vary smoothly over its surface."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(POINTS, 3))
    points = points / np.linalg.norm(points, axis=1, keepdims=True) * rng.uniform(0.3, 0.9, 3)
    features = torch.as_tensor(np.sin(points @ rng.normal(size=(3, DIM)) * 2), dtype=torch.float32)
    features = torch.nn.functional.normalize(features, dim=1)
    rotations = torch.as_tensor(random_rotations(20, rng), dtype=torch.float32)
    return build_templates(
        torch.as_tensor(points, dtype=torch.float32), features, rotations, ViewSpec(), SPLAT
    ), features


def maps(count: int) -> torch.Tensor:
    noise = torch.randn(count, DIM, GRID, GRID, generator=torch.Generator().manual_seed(3))
    return torch.nn.functional.normalize(noise, dim=1)


def averaged(maps: torch.Tensor) -> torch.Tensor:
    """Every cell replaced by its block's mean."""
    side = GRID // BLOCKS
    pooled = torch.nn.functional.avg_pool2d(maps, side)
    return pooled.repeat_interleave(side, 2).repeat_interleave(side, 3)


def test_pooled_products_are_eq_8_of_block_averages() -> None:
    templates, features = cloud(1)
    pooled = pool_templates(templates, features, GRID, BLOCKS).flatten(1)
    products = pool_maps(maps(3), BLOCKS).flatten(1) @ pooled.T
    assert torch.allclose(products, score_templates(averaged(maps(3)), features, templates), atol=1e-5)


def test_grids_that_the_blocks_do_not_divide_lose_no_cell() -> None:
    templates, features = cloud(1)
    whole = pool_templates(templates, features, GRID, 1).flatten(1)
    assert torch.allclose(pool_templates(templates, features, GRID, 5).sum(1), whole, atol=1e-5)


def test_full_rank_loses_only_what_int8_costs() -> None:
    clouds = [cloud(seed) for seed in range(3)]
    basis = fit_basis(clouds, GRID, BankConfig(BLOCKS, DIM, 60))
    assert basis.rank == 60  # as many as there are templates
    query = basis.project(pool_maps(maps(4), BLOCKS))
    for templates, features in clouds:
        rows = bank_rows(templates, features, GRID, basis)
        exact = score_templates(averaged(maps(4)), features, templates)
        decoded = rows.code * rows.step[:, None]
        rounding = query.abs().sum(1, keepdim=True) * rows.step / 2  # every number is off by half a step at most
        assert ((query @ decoded.T - exact).abs() <= rounding + 1e-5).all()
        assert rounding.max() < 0.2 * exact.abs().max()
        log = templates.outline.log()
        assert torch.allclose(rows.aspect, log[:, 0] - log[:, 1])


def test_a_low_rank_keeps_the_order_of_what_the_library_looks_like() -> None:
    clouds = [cloud(seed) for seed in range(4)]
    basis = fit_basis(clouds, GRID, BankConfig(BLOCKS, 8, 24))
    shown = torch.cat([pool_templates(t, f, GRID, BLOCKS) for t, f in clouds])  # [80, b*b, D]
    rows = torch.cat([(r.code * r.step[:, None]) for r in (bank_rows(t, f, GRID, basis) for t, f in clouds)])
    exact, approximate = shown.flatten(1) @ shown.flatten(1).T, basis.project(shown) @ rows.T
    correlation = np.corrcoef(exact.flatten().numpy(), approximate.flatten().numpy())[0, 1]
    assert correlation > 0.95


def test_the_basis_is_the_same_every_time() -> None:
    clouds = [cloud(seed) for seed in range(2)]
    state = torch.random.get_rng_state()
    first, again = (fit_basis(clouds, GRID, BankConfig(BLOCKS, 8, 10), seed=4) for _ in range(2))
    assert torch.equal(first.directions, again.directions)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_quantised_rows_by_hand() -> None:
    code, step = quantised(torch.tensor([[1.27, -0.64, 0.0], [0.0, 0.0, 0.0]]))
    assert code.tolist() == [[127, -64, 0], [0, 0, 0]]
    assert step[0] == pytest.approx(0.01)
    assert torch.isfinite(step).all()


def test_values_are_exact_products_of_the_first_numbers_of_chosen_rows_less_what_aspects_are_off() -> None:
    generator = torch.Generator().manual_seed(0)
    code = torch.randint(-127, 128, (3, 2, 1100), generator=generator, dtype=torch.int8)
    right = torch.randint(-127, 128, (11, 1100), generator=generator, dtype=torch.int8)
    code[0, 0], right[0] = 127, 127  # the largest product that there is
    crops = CompressedCrops(code, torch.full((3, 2), 0.5))
    rows = BankRows.of(right, torch.linspace(1, 2, 11), torch.linspace(-1, 1, 11))
    index, aspect = torch.tensor([0, 10, 4, 4]), torch.tensor([[0.0, 1.0], [0.5, -0.5], [0.0, 0.0]])
    for ask in (crops.values, crops.values_in_tensors):
        found = ask(rows, index, 1040, aspect, 1000.0)
        product = code[..., :1040].double() @ right[index, :1040].double().T
        off = (aspect[..., None] - rows.aspect[index]).abs()
        torch.testing.assert_close(found, (product * 0.5 * rows.step[index] - 1000 * off).float())
        plain = ask(rows, index, 1040, torch.zeros(3, 2), 0.0)
        torch.testing.assert_close(plain, crops.similarity(rows, index, 1040))


def test_crops_are_projected_as_by_a_product() -> None:
    generator = torch.Generator().manual_seed(0)
    basis = Basis(torch.randn(24, 16, generator=generator), torch.randn(49 * 16, 40, generator=generator), 7)
    pooled = torch.randn(2, 3, 49, 24, generator=generator)
    expected = (pooled @ basis.channels).flatten(2) @ basis.directions
    torch.testing.assert_close(basis.project(pooled), expected, rtol=1e-3, atol=2e-3 * float(expected.abs().max()))


@pytest.mark.parametrize(("grid", "blocks"), [(28, 7), (9, 4)])
def test_pooling_is_that_of_torch(grid: int, blocks: int) -> None:
    maps = torch.randn(2, 5, grid, grid, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.adaptive_avg_pool2d(maps, blocks).flatten(2).transpose(1, 2)
    torch.testing.assert_close(pool_maps(maps, blocks), expected)


def test_a_bank_survives_its_tensors() -> None:
    clouds = [cloud(seed) for seed in range(2)]
    basis = fit_basis(clouds, GRID, BankConfig(BLOCKS, 8, 10))
    rows = [bank_rows(t, f, GRID, basis) for t, f in clouds]
    order = torch.arange(20).flip(0).int()
    levels = torch.tensor([0.1, 0.2, 0.3])
    parts = [BankMesh(r, order, levels * (k + 1), levels / 10) for k, r in enumerate(rows)]
    bank = Bank.of(basis, parts)
    again = Bank.from_tensors(bank.to_tensors())
    assert again.basis.blocks == BLOCKS
    assert all(torch.equal(a, b) for a, b in zip(bank.to_tensors().values(), again.to_tensors().values(), strict=True))
    for mesh, part in zip(again.meshes(), parts, strict=True):
        assert torch.equal(mesh.rows.code, part.rows.code)
        assert torch.equal(mesh.rows.aspect, part.rows.aspect)
        assert torch.equal(mesh.attraction, part.attraction)
    assert bank.bytes == sum(t.nbytes for t in again.to_tensors().values())


def test_the_first_level_is_in_the_bank_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank_module, "LOOKS", (Look(2, 1), Look(3, 2)))
    rows = BankRows.of(torch.arange(8, dtype=torch.int8).view(4, 2), torch.arange(4.0), torch.arange(4.0) + 10)
    mesh = BankMesh(rows[torch.tensor([3, 1, 0, 2])], torch.tensor([3, 1, 0, 2]).int(), torch.zeros(3), torch.ones(3))
    bank = Bank.of(Basis(torch.eye(2), torch.eye(2), 1), [mesh, mesh])
    assert bank.first.code.tolist() == [[6], [2]] * 2
    assert bank.first.aspect.tolist() == [13, 11, 13, 11]


def test_a_bank_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="meshes: expected at least one"):
        Bank.of(Basis(torch.eye(2), torch.eye(2), 1), [])


def turned_about_z(*degrees: float) -> torch.Tensor:
    return torch.as_tensor(np.stack([roll(np.radians(d)) for d in degrees]), dtype=torch.float32)


def test_cover_order_goes_to_the_farthest_first() -> None:
    assert cover_order(turned_about_z(0, 10, 20, 30, 100), (0,)).tolist() == [0, 4, 3, 1, 2]


def test_cover_order_knows_that_a_template_serves_every_quarter_turn() -> None:
    assert cover_order(turned_about_z(0, 10, 20, 40, 91), (0, 1, 2, 3)).tolist() == [0, 3, 2, 1, 4]


@pytest.mark.parametrize("name", POSE_SETS)
def test_any_prefix_of_the_order_covers_the_poses(name: str) -> None:
    """As evenly as so many can: a random choice leaves gaps half as wide again."""
    turns = QUARTER_TURNS[name]
    rotation = torch.as_tensor(base_poses(name), dtype=torch.float32)
    order = cover_order(rotation, turns)
    assert sorted(order.tolist()) == list(range(len(rotation)))

    def gap(chosen: torch.Tensor) -> float:
        every = torch.cat([torch.as_tensor(quarter_turn(t)).float() @ rotation[chosen] for t in turns])
        cosine = (rotation.flatten(1) @ every.flatten(1).T).amax(1) / 2 - 0.5
        return float(cosine.clamp(-1, 1).acos().max())

    for count, _ in LOOKS:
        chance = min(
            gap(torch.randperm(len(rotation), generator=torch.Generator().manual_seed(s))[:count]) for s in range(5)
        )
        assert gap(order[:count].long()) <= chance


def test_poses_that_are_the_same_are_listed_once_each() -> None:
    assert sorted(cover_order(turned_about_z(0, 0, 0, 0), (0, 1, 2, 3)).tolist()) == [0, 1, 2, 3]


def test_large_tensors_are_moved_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank_module, "MOVED_AT_A_TIME", 64)
    tensor = torch.arange(100).view(50, 2)
    assert moved(tensor, torch.device("meta")).shape == (50, 2)
    assert moved(tensor, tensor.device) is tensor
