"""The feature adapter: lengths, shares, and its file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from pasr_perception.encoders.adapter import AdapterConfig, FeatureAdapter, load_adapter, save_adapter
from pasr_perception.encoders.base import EncoderError

BESIDE = ("colour-waves", "c0105")


@pytest.fixture
def module() -> FeatureAdapter:
    torch.manual_seed(0)
    return FeatureAdapter(AdapterConfig(dim=6, hidden=10, adapted=4))


def some(count: int, seed: int) -> torch.Tensor:
    return normalize(torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_fused_features_compare_by_the_shares_of_both_cosines(module: FeatureAdapter) -> None:
    a, b = some(5, 1), some(5, 2)
    fused = [module.fused(x, 0.3) for x in (a, b)]
    assert fused[0].shape == (5, 10)
    torch.testing.assert_close(fused[0].norm(dim=1), torch.ones(5))
    apart = 0.7 * (a * b).sum(1) + 0.3 * (module(a) * module(b)).sum(1)
    torch.testing.assert_close((fused[0] * fused[1]).sum(1), apart)
    torch.testing.assert_close(module.fused(a, 0.0)[:, :6], a)


def test_a_share_outside_0_to_1_is_refused(module: FeatureAdapter) -> None:
    with pytest.raises(ValueError, match=r"share: expected 0\.\.1, got 1\.5"):
        module.fused(some(1, 1), 1.5)
    with pytest.raises(ValueError, match=r"adapter\.hidden: expected at least 1, got 0"):
        AdapterConfig(hidden=0)


def test_it_comes_back_from_its_file_and_only_beside_its_encoder(module: FeatureAdapter, tmp_path: Path) -> None:
    file = tmp_path / "adapter.safetensors"
    with pytest.raises(EncoderError, match="is not a readable feature adapter"):
        load_adapter(file, BESIDE)
    save_adapter(file, module, BESIDE, {"seed": 0})
    loaded = load_adapter(file, BESIDE)
    assert loaded.card == {"seed": 0}
    torch.testing.assert_close(loaded.module(some(5, 1)), module(some(5, 1)), rtol=0.02, atol=0.02)
    with pytest.raises(EncoderError, match="train one for it"):
        load_adapter(file, ("dinov2", "ffff"))
    save_adapter(tmp_path / "other.safetensors", module, BESIDE, {"seed": 1})
    assert load_adapter(tmp_path / "other.safetensors", BESIDE).fingerprint != loaded.fingerprint
