"""Eq. 7-8 against loops, through the splatting that the search uses, with gradients."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from pasr_perception.geometry.placement import ViewSpec, place, project
from pasr_perception.render.splat import SplatConfig, rasterise, splat
from pasr_perception.templates import build_templates, score_templates
from pasr_perception.training.alignment import Cells, alignment
from pasr_perception.training.observe import ObservedView


def slow_alignment(features: torch.Tensor, looks) -> list[torch.Tensor]:
    means = []
    for cloud, look in zip(features, looks, strict=True):
        unit = normalize(cloud, dim=1)
        for view in look.views:
            cosines = []
            for target, index, weight in zip(view.target.float(), view.index.long(), view.weight.float(), strict=True):
                rendered = sum(w * unit[i] for i, w in zip(index, weight, strict=True))
                cosines.append(normalize(rendered, dim=0) @ target)
            means.append(torch.stack(cosines).mean())
    return means


def aligned(features: torch.Tensor, cells: Cells) -> torch.Tensor:
    return alignment(cells.predicted(features), cells)


def test_it_is_the_mean_cosine_of_every_view_and_so_is_its_gradient(look) -> None:
    looks = [look(seed=1), look(seed=2, cells=4)]
    features = torch.randn(2, 40, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    fast = aligned(features, Cells.of([item.views for item in looks], 40))
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
    image, _ = splat(uv, depth, normalize(torch.randn(200, 6, generator=g), dim=1), config)
    target = normalize(image[0].flatten(1).T, dim=1)  # [g * g, D]
    fragments = rasterise(uv, depth, config)
    weight = fragments.weight / fragments.weight.sum(1, keepdim=True)
    seen = ObservedView(target[fragments.pixel], fragments.index.clamp(min=0), weight)
    value = aligned(features[None], Cells.of([[seen]], 200))
    unit = normalize(features, dim=1)
    templates = build_templates(points, unit, torch.eye(3)[None], view, config)
    searched = score_templates(target.T.view(1, 6, 10, 10), unit, templates)
    torch.testing.assert_close(value[0], searched[0, 0], rtol=1e-4, atol=1e-5)


def test_how_long_features_are_changes_nothing_and_what_they_have_in_common_does(look) -> None:
    cells, g = Cells.of([look().views], 40), torch.Generator().manual_seed(0)
    features, length = torch.randn(1, 40, 5, generator=g), 0.1 + torch.rand(1, 40, 1, generator=g)
    value = aligned(features, cells)
    torch.testing.assert_close(aligned(length * features, cells), value)
    assert (aligned(features + torch.arange(5.0), cells) - value).abs().min() > 0.01
