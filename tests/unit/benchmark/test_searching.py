"""Speed-ups are per mesh, and a baseline may choose how many threads it runs with."""

from __future__ import annotations

import pytest
import torch

from pasr_perception.benchmark import searching
from pasr_perception.benchmark.searching import CoarseTimes, at_its_best, mesh_costs, speedups

TIMES = CoarseTimes(
    baselines={"render": [2.0, 4.0], "exact": [0.02, 0.02], "dense": [0.01, 0.03]},
    search={10: [0.01, 0.01], 100: [0.001, 0.004]},
    bytes_per_mesh={"render": 1, "exact": 2, "dense": 3, "search": 4},
)


def test_speedups_pair_repeats_at_one_library_size() -> None:
    found = speedups(TIMES, 100)
    assert (found["render"].value, found["render"].low, found["render"].high) == (1500.0, 1000.0, 2000.0)
    assert found["pytorch3d"].value is None
    assert "cannot be imported" in found["pytorch3d"].note


def test_mesh_costs_list_every_way_and_size() -> None:
    rows = mesh_costs(TIMES, "so3")
    assert [(r.way, r.meshes, r.bytes_per_mesh) for r in rows] == [
        ("render", 10, 1),
        ("exact", 10, 2),
        ("dense", 10, 3),
        ("search", 10, 4),
        ("search", 100, 4),
    ]
    assert rows[0].seconds.value == 3.0


@pytest.mark.parametrize(("fast", "expected"), [(1, 1), (3, 3)])
def test_a_baseline_runs_with_the_threads_that_suit_it(
    monkeypatch: pytest.MonkeyPatch, fast: int, expected: int
) -> None:
    def timed(call, at_least):
        call()
        return 0.1 if seen[-1] == fast else 0.2

    seen: list[int] = []
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        monkeypatch.setattr(searching, "seconds", timed)
        call = at_its_best(lambda i: seen.append(torch.get_num_threads()))
        assert seen == [1, 3]
        call(0)
        assert seen[-1] == expected
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
