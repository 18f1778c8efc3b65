"""Tuned weights: written, read, put in the published ones' place; files that are none are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pasr_perception.config import EncoderConfig
from pasr_perception.encoders import load_encoder
from pasr_perception.encoders.base import EncoderError
from pasr_perception.encoders.efficientnet_lite import CHANNELS, IMAGE_SIZE, NAME, TAPS, EfficientNetLite, unprojected
from pasr_perception.encoders.tuned import TunedBackbone, load_backbone, save_backbone

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def published() -> EfficientNetLite:
    return EfficientNetLite(CPU, unprojected())


@pytest.fixture
def image() -> torch.Tensor:
    coarse = torch.rand(1, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    return (torch.nn.functional.interpolate(coarse, size=IMAGE_SIZE, mode="bilinear") * 255).byte()


def tuned(published: EfficientNetLite, factor: float) -> TunedBackbone:
    tail = {
        name: weights * factor if weights.ndim > 1 else weights for name, weights in published.tail.state_dict().items()
    }
    return TunedBackbone(tail, unprojected(), {"steps": 3})


def test_the_tail_makes_all_taps_of_the_first(published: EfficientNetLite, image: torch.Tensor) -> None:
    taps = published.taps(image)
    assert [t.shape[1] for t in taps] == list(CHANNELS)
    with torch.no_grad():
        for mine, theirs in zip(published.tail(published.first_tap(image)), taps, strict=True):
            assert torch.equal(mine, theirs)


def test_tuned_weights_take_the_published_ones_place(
    published: EfficientNetLite, image: torch.Tensor, tmp_path: Path
) -> None:
    for name, factor in (("same", 1.0), ("other", 0.9)):
        save_backbone(tmp_path / name, NAME, tuned(published, factor))
    read = load_backbone(tmp_path / "same", NAME, len(TAPS))
    assert read.card == {"steps": 3}
    same, other = (
        load_encoder(EncoderConfig(weights=str(tmp_path / name), device="cpu"))[0] for name in ("same", "other")
    )
    assert len({published.fingerprint, same.fingerprint, other.fingerprint}) == 3
    before, alike, changed = (encoder.encode(image) for encoder in (published, same, other))
    assert (before * alike).sum(1).min() > 0.999  # weights are kept in float16
    assert (before * changed).sum(1).mean() < 0.999
    torch.testing.assert_close(other.taps(image)[0], published.taps(image)[0])


def test_files_that_are_none_are_refused(published: EfficientNetLite, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    for file in (path, tmp_path / "missing"):
        with pytest.raises(EncoderError, match=r"is not a readable tuned backbone .*make one: pasr train backbone"):
            load_backbone(file, NAME, len(TAPS))
    save_backbone(path, "other-net", tuned(published, 1.0))
    with pytest.raises(EncoderError, match="expected weights of efficientnet-lite0, got those of other-net"):
        load_backbone(path, NAME, len(TAPS))
    short = TunedBackbone({"blocks.0.nothing": torch.zeros(1)}, unprojected(), {})
    with pytest.raises(EncoderError, match="tuned weights do not fit the backbone efficientnet-lite0"):
        EfficientNetLite(CPU, tuned=short)
