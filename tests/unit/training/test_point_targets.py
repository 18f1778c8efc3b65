"""Points' targets: means over a look's views, compared as a library holds features, against loops and with gradients."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from pasr_perception.encoders.centring import MEAN_SHARE, evened_cloud
from pasr_perception.training.alignment import alignment
from pasr_perception.training.point_targets import PointTargets, shape_features


def slow_alignment(features: torch.Tensor, shown) -> torch.Tensor:
    means = []
    for cloud, (seen, wanted) in zip(features, shown, strict=True):
        unit = normalize(cloud, dim=1)
        common = sum(unit) / len(unit)
        cosines = []
        for i, target in zip(seen.nonzero()[:, 0].tolist(), wanted, strict=True):
            cosines.append(normalize(unit[i] - MEAN_SHARE * common, dim=0) @ target)
        means.append(torch.stack(cosines).mean())
    return torch.stack(means)


def test_points_are_aligned_as_a_library_holds_them_and_so_is_the_gradient(look) -> None:
    looks = [look(seed=1, cells=3), look(seed=2, cells=5)]
    shown = [shape_features(item, item.views) for item in looks]
    targets = PointTargets.of(shown)
    features = torch.randn(2, 40, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    fast, slow = alignment(targets.predicted(features), targets), slow_alignment(features, shown)
    torch.testing.assert_close(fast, slow)
    (of_fast,), (of_slow,) = (torch.autograd.grad(value.sum(), features, retain_graph=True) for value in (fast, slow))
    torch.testing.assert_close(of_fast, of_slow)


def test_a_points_target_is_the_mean_of_what_views_show_of_it(look) -> None:
    item = look(points=12, cells=9)
    seen, features = shape_features(item, item.views)
    means = torch.zeros(12, 5)
    for view in item.views:
        for target, index, weight in zip(view.target.float(), view.index.long(), view.weight.float(), strict=True):
            for i, w in zip(index, weight, strict=True):
                means[i] += w * target
    assert torch.equal(seen, means.abs().sum(1) > 0)
    torch.testing.assert_close(features, evened_cloud(normalize(means[seen], dim=1)))


def test_what_no_view_shows_is_not_asked_for(look) -> None:
    item = look(points=40, cells=1)
    seen, features = shape_features(item, item.views)
    targets = PointTargets.of([(seen, features), (seen, features)])
    assert 0 < int(seen.sum()) <= 4
    assert len(targets.target) == 2 * int(seen.sum())
    assert torch.equal(targets.index, torch.cat([seen.nonzero()[:, 0], 40 + seen.nonzero()[:, 0]]))
    assert targets.cloud.tolist() == [0] * int(seen.sum()) + [1] * int(seen.sum()) == targets.group.tolist()
