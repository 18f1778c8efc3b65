"""What hypotheses cost that miss their boxes. Twin: `refine.coverage`, as it is on CUDA."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pasr_perception.kernels.carried import UNKNOWNS, Model, Posed, outlined_room
from pasr_perception.kernels.climb import Box, less_coverage, outlined
from pasr_perception.kernels.compiled import kernel, trial
from pasr_perception.kernels.visit import Poses, Raster, one_of_each


class Boxed(NamedTuple):
    """The boxes of H hypotheses, float32."""

    edges: np.ndarray  # [H, 4]
    clipped: np.ndarray  # [H, 4] bool
    toll: np.ndarray  # [H]


@kernel
def _costs(
    outer: np.ndarray,
    boxed: Boxed,
    rotation: np.ndarray,
    moved: np.ndarray,
    raster: Raster,
    margin: float,
    out: np.ndarray,
) -> None:
    at, gradient, curvature = (
        outlined_room(),
        np.empty(UNKNOWNS, np.float32),
        np.empty((UNKNOWNS, UNKNOWNS), np.float32),
    )
    for h in range(out.shape[0]):
        pose, model = Posed(rotation[h], moved[h], at), Model(out[h : h + 1], gradient, curvature)
        outlined(outer[h], pose.rotation, raster, at)
        out[h] = 0
        less_coverage(Box(boxed.edges[h], boxed.clipped[h], boxed.toll[h : h + 1]), pose, margin, model)
        out[h] = -out[h]


def missing_costs(outer: np.ndarray, boxed: Boxed, poses: Poses, raster: Raster, margin: float) -> np.ndarray:
    """[H] float32 of hypotheses whose outer points [H, K, 3] are at poses; `margin` is that of `Way`."""
    out = np.empty(len(outer), np.float32)
    _costs(outer, boxed, poses.rotation, poses.moved, raster, margin, out)
    return out


@trial
def _on_one_point() -> None:
    poses, cloud, _, raster = one_of_each()
    ones = np.ones((1, 4), np.float32)
    missing_costs(cloud.outer[None], Boxed(ones, ones > 1, ones[0, :1]), poses, raster, 0.0)
