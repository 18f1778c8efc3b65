"""Strangers: varied crops of one photo, the same for the same seed."""

from __future__ import annotations

import torch

from pasr_perception.crop import CropSpec
from pasr_perception.library.strangers import strangers

SPEC = CropSpec(64, 0.8)


def test_they_are_crops_as_the_encoder_wants_them() -> None:
    crops = strangers(6, SPEC, seed=0)
    assert crops.shape == (6, 3, 64, 64)
    assert crops.dtype == torch.uint8
    assert crops.is_contiguous()


def test_no_two_are_alike_and_each_shows_something() -> None:
    crops = strangers(12, SPEC, seed=0).float().flatten(1)
    assert crops.std(1).min() > 10
    distance = torch.cdist(crops, crops, p=1) / crops.shape[1]
    assert distance.fill_diagonal_(255).min() > 10


def test_the_seed_decides_and_more_only_adds() -> None:
    crops = strangers(5, SPEC, seed=3)
    assert torch.equal(strangers(5, SPEC, seed=3), crops)
    assert torch.equal(strangers(3, SPEC, seed=3), crops[:3])
    assert not torch.equal(strangers(5, SPEC, seed=4), crops)
