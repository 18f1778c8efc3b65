"""How alike meshes look from where a camera is: what a photo from there can say of which one it shows."""

from __future__ import annotations

import torch

from pasr_perception.refine.problem import Clouds, Pose, RenderScene
from pasr_perception.refine.similarity import render


@torch.inference_mode()
def likeness(rotation: torch.Tensor, cloud: torch.Tensor, clouds: Clouds, scene: RenderScene) -> torch.Tensor:
    """Of H hypotheses' renderings to the first one's: [H], 1 for the same image, 0 for images that share nothing.

    The sum of cosines over the pixels that both cover, over the geometric mean of the areas: rotation [H, 3, 3] of clouds [H].
    """
    rendered = render(Pose.by_outline(rotation), cloud, clouds, scene)
    count, cells = len(rotation), scene.splat.size**2
    unit = torch.nn.functional.normalize(rendered.feature, dim=1)
    first = unit.new_zeros(cells, unit.shape[1])
    mine = rendered.hypothesis == 0
    first[rendered.cell[mine]] = unit[mine]
    shared = unit.new_zeros(count).index_add_(0, rendered.hypothesis, (unit * first[rendered.cell]).sum(1))
    area = rendered.area(count)
    return shared / (area * area[0]).sqrt().clamp(min=1)
