"""Strangers: varied crops of one photo, the same for the same seed."""

from __future__ import annotations

import pytest
import torch

from pasr_perception.crop import CropSpec
from pasr_perception.encoders.base import image_batch
from pasr_perception.library.strangers import strangers

SPEC = CropSpec(64, 0.8)


def images(count: int, seed: int = 0) -> torch.Tensor:
    return image_batch([crop.image for crop in strangers(count, SPEC, seed)])


def test_they_are_crops_of_boxes_in_the_photo() -> None:
    for crop in strangers(6, SPEC, seed=0):
        assert crop.image.shape == (64, 64, 3)
        assert max(crop.box[2:] - crop.box[:2]) == pytest.approx(0.8 * 64, abs=0.5)
        assert (crop.detection.box >= 0).all()


def test_no_two_are_alike_and_each_shows_something() -> None:
    crops = images(12).float().flatten(1)
    assert crops.std(1).min() > 10
    distance = torch.cdist(crops, crops, p=1) / crops.shape[1]
    assert distance.fill_diagonal_(255).min() > 10


def test_the_seed_decides_and_more_only_adds() -> None:
    crops = images(5, seed=3)
    assert torch.equal(images(5, seed=3), crops)
    assert torch.equal(images(3, seed=3), crops[:3])
    assert not torch.equal(images(5, seed=4), crops)
