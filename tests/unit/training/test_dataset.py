"""Batches: every mesh once, the same for the same seed, shared out among processes, turned without losing their cells."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from pasr_perception.training.alignment import alignment
from pasr_perception.training.dataset import MeshDataset, about_up, steps_per_epoch
from pasr_perception.training.point_targets import shape_features


@pytest.fixture
def data(cache, points_config, shared_parts) -> MeshDataset:
    return MeshDataset(cache, "train", points_config)


def test_a_part_holds_its_meshes_alone(cache, points_config, data: MeshDataset) -> None:
    assert [mesh.id for mesh in data.meshes] == ["block", "truck"]
    with pytest.raises(ValueError, match="expected observations of test meshes, got none among 3"):
        MeshDataset(cache, "test", points_config)


def test_batches_follow_from_seed_and_epoch(data: MeshDataset) -> None:
    first, again, other, later = (
        next(data.batches(epoch, 2, 1, seed)) for epoch, seed in ((0, 1), (0, 1), (0, 2), (1, 1))
    )
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.wanted.target, again.wanted.target)
    for changed in (other, later):
        assert not torch.equal(first.inputs, changed.inputs)


def test_processes_share_every_mesh_out(data: MeshDataset) -> None:
    mine = [next(data.batches(3, 1, 1, 0, (rank, 2))) for rank in (0, 1)]
    both = next(data.batches(3, 2, 1, 0))
    assert torch.equal(torch.cat([batch.inputs for batch in mine]), both.inputs)


def test_all_processes_get_as_many_batches(data: MeshDataset) -> None:
    counts = [sum(1 for _ in data.batches(0, 1, 1, 0, (rank, 4))) for rank in range(4)]
    assert counts == [1] * 4 == [steps_per_epoch(2, 1, 4)] * 4
    assert steps_per_epoch(9, 2, 2) == 3


def test_turned_clouds_keep_heights_and_cells(data: MeshDataset) -> None:
    batch = next(data.batches(0, 2, 1, 0))
    heights = {tuple(np.round(x[:, 1].sort().values.numpy(), 4)) for x in batch.inputs}
    still = {tuple(np.round(data.mesh(i).looks[0].cloud.points[:, 1].sort().values.numpy(), 4)) for i in (0, 1)}
    assert heights == still
    assert (batch.wanted.view.unique() == torch.arange(2)).all()


def test_everything_is_every_look_and_view(data: MeshDataset) -> None:
    shown = [(int(batch.wanted.view.max()) + 1, item.cloud.known) for batch, item in data.everything()]
    assert Counter(shown) == {(2, True): 2, (1, True): 2, (1, False): 2}


def test_ideal_features_align(data: MeshDataset, points_config) -> None:
    """Each point given what the views show at it: better than one feature for all can be, wherever indices are wrong."""
    batch, _ = next(data.everything())
    cells = batch.wanted
    features = torch.zeros(300, points_config.dim)
    for k in range(cells.index.shape[1]):
        features.index_add_(0, cells.index[:, k], cells.target * cells.weight[:, k : k + 1])
    assert alignment(cells.predicted(features[None]), cells).mean() > 0.75


def test_means_of_points_are_of_the_look_that_was_drawn(cache, points_config, shared_parts) -> None:
    data = MeshDataset(cache, "train", points_config, against="points")
    looks = cache.load(data.meshes[0])
    for (batch, item), look in zip(data.everything(), looks, strict=False):
        seen, features = shape_features(look, look.views)
        assert item.cloud.known == look.cloud.known
        assert torch.equal(batch.wanted.index, seen.nonzero()[:, 0])
        torch.testing.assert_close(batch.wanted.target, features, atol=1e-3, rtol=0)
    batch = next(data.batches(0, 2, 1, 0))
    assert batch.wanted.cloud.unique().tolist() == [0, 1]
    assert all(not look.views for look in data.mesh(0).looks)


def test_about_up_keeps_up_and_lengths() -> None:
    R = about_up(1.1)
    torch.testing.assert_close(R @ R.T, torch.eye(3))
    torch.testing.assert_close(R @ torch.tensor([0.0, 1, 0]), torch.tensor([0.0, 1, 0]))
