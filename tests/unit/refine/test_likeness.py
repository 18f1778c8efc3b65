"""Likeness of renderings: the same is 1, what shares nothing is 0, and it is that of dense images."""

from __future__ import annotations

from typing import Any

import torch

from pasr_perception.refine import Pose
from pasr_perception.refine.likeness import likeness
from pasr_perception.refine.similarity import render


def test_a_rendering_is_itself_and_others_are_less_alike(stage: Any) -> None:
    rotation = stage.poses(3, 0)[[0, 0, 1, 2]]
    found = likeness(rotation, torch.zeros(4, dtype=torch.long), stage.clouds, stage.scene)
    torch.testing.assert_close(found[:2], torch.ones(2))
    assert (found[2:] < 0.9).all()


def test_it_is_the_cosine_of_unit_images_over_their_areas(stage: Any) -> None:
    rotation, size = stage.poses(4, 1), stage.scene.splat.size
    cloud = torch.zeros(4, dtype=torch.long)
    rendered = render(Pose.by_outline(rotation), cloud, stage.clouds, stage.scene)
    images = torch.zeros(4, size**2, rendered.feature.shape[1])
    images[rendered.hypothesis, rendered.cell] = torch.nn.functional.normalize(rendered.feature, dim=1)
    flat = torch.nn.functional.normalize(images.flatten(1), dim=1)
    torch.testing.assert_close(
        likeness(rotation, cloud, stage.clouds, stage.scene), flat @ flat[0], atol=1e-5, rtol=1e-5
    )
