"""The published refinement: it climbs eq. 8, has no pole, and never ends below its start."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pasr_perception.config import RefineConfig
from pasr_perception.geometry.viewpoints import look_at, random_rotations
from pasr_perception.refine import Pose, refine, similarity


@pytest.mark.parametrize("poses", ["anywhere", "poles"])
def test_it_recovers_poses_ten_degrees_off(stage: Any, poses: str) -> None:
    if poses == "anywhere":
        rotations = random_rotations(8, np.random.default_rng(3))
    else:  # straight from above and below, where elevation and azimuth have their pole
        rotations = np.stack([look_at(sign * np.pi / 2, a) for sign in (-1, 1) for a in (0.0, 1.0, 2.0, 3.0)])
    truth = Pose.by_outline(torch.as_tensor(rotations, dtype=torch.float32))
    start = stage.start(truth, 10, 4)
    result = refine(start, stage.clouds, stage.maps(truth), stage.scene, RefineConfig(method="adamw"))
    assert stage.off_degrees(result.rotation, truth).median() < 2
    assert (result.similarity > 0.97).sum() >= 7
    assert not result.shift.any()
    assert not result.log_scale.any()


def test_it_never_ends_below_its_start(stage: Any) -> None:
    truth = Pose.by_outline(stage.poses(4, 5))
    start, maps = stage.start(truth, 60, 6), stage.maps(truth)
    before = similarity(start.rotation, start.cloud, start.crop, stage.clouds, maps, stage.scene)
    result = refine(start, stage.clouds, maps, stage.scene, RefineConfig(method="adamw", steps=5))
    assert (result.similarity >= before - 1e-6).all()
    again = similarity(result.rotation, start.cloud, start.crop, stage.clouds, maps, stage.scene)
    assert torch.allclose(again, result.similarity, atol=1e-5)


def test_its_steps_are_those_of_torch_on_the_mean_cosine(stage: Any) -> None:
    """The first step of AdamW moves every unknown by the learning rate, against the sign of its gradient."""
    truth = Pose.by_outline(stage.poses(1, 7))
    start, maps = stage.start(truth, 10, 8), stage.maps(truth)
    result = refine(start, stage.clouds, maps, stage.scene, RefineConfig(method="adamw", steps=1))
    turned = result.rotation @ start.rotation.transpose(1, 2)
    assert stage.off_degrees(turned, Pose.by_outline(torch.eye(3)[None])).item() == pytest.approx(
        np.degrees(0.01 * np.sqrt(3)), rel=0.02
    )


def test_no_steps_change_nothing(stage: Any) -> None:
    truth = Pose.by_outline(stage.poses(2, 9))
    start = stage.start(truth, 10, 1)
    result = refine(start, stage.clouds, stage.maps(truth), stage.scene, RefineConfig(method="adamw", steps=0))
    assert torch.equal(result.rotation, start.rotation)
