"""Eq. 7-8 against loops, through the splatting that the search uses, with gradients."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from pasr_perception.encoders.centring import centred_cloud
from pasr_perception.geometry.placement import ViewSpec, place, project
from pasr_perception.render.splat import SplatConfig, rasterise, splat
from pasr_perception.templates import build_templates, score_templates
from pasr_perception.training.alignment import Cells, alignment
from pasr_perception.training.observe import ObservedView


def slow_alignment(features: torch.Tensor, looks) -> list[torch.Tensor]:
    means = []
    for cloud, look in zip(features, looks, strict=True):
        centred = centred_cloud(cloud)
        for view in look.views:
            cosines = []
            for target, index, weight in zip(view.target.float(), view.index.long(), view.weight.float(), strict=True):
                rendered = sum(w * centred[i] for i, w in zip(index, weight, strict=True))
                cosines.append(normalize(rendered, dim=0) @ target)
            means.append(torch.stack(cosines).mean())
    return means


def test_it_is_the_mean_cosine_of_every_view_and_so_is_its_gradient(look) -> None:
    looks = [look(seed=1), look(seed=2, cells=4)]
    features = torch.randn(2, 40, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    fast = alignment(features, Cells.of([item.views for item in looks], 40))
    slow = torch.stack(slow_alignment(features, looks))
    torch.testing.assert_close(fast, slow)
    (of_fast,), (of_slow,) = (torch.autograd.grad(value.sum(), features, retain_graph=True) for value in (fast, slow))
    torch.testing.assert_close(of_fast, of_slow)


def test_it_is_the_score_that_the_search_gives_the_true_pose() -> None:
    g = torch.Generator().manual_seed(0)
    points = normalize(torch.randn(200, 3, generator=g), dim=1) * torch.tensor([0.9, 0.5, 0.4])
    features, config, view = torch.randn(200, 6, generator=g), SplatConfig(size=10, radius=0.2), ViewSpec()
    rotated = points[None]
    uv, depth = project(rotated, place(rotated, view), config.size)
    image, _ = splat(uv, depth, centred_cloud(torch.randn(200, 6, generator=g)), config)
    target = normalize(image[0].flatten(1).T, dim=1)  # [g * g, D]
    fragments = rasterise(uv, depth, config)
    weight = fragments.weight / fragments.weight.sum(1, keepdim=True)
    seen = ObservedView(target[fragments.pixel], fragments.index.clamp(min=0), weight)
    value = alignment(features[None], Cells.of([[seen]], 200))
    centred = centred_cloud(features)
    templates = build_templates(points, centred, torch.eye(3)[None], view, config)
    searched = score_templates(target.T.view(1, 6, 10, 10), centred, templates)
    torch.testing.assert_close(value[0], searched[0, 0], rtol=1e-4, atol=1e-5)


def test_what_all_points_have_in_common_changes_nothing(look) -> None:
    cells = Cells.of([look().views], 40)
    features = torch.randn(1, 40, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        alignment(features, cells), alignment(3 * features + torch.arange(5.0), cells), rtol=1e-3, atol=1e-4
    )
