"""The feature adapter: lengths, shares, and its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from pasr_perception.config import EncoderConfig, PasrConfig
from pasr_perception.encoders import load_encoder
from pasr_perception.encoders.adapter import (
    AdaptedEncoder,
    AdapterConfig,
    FeatureAdapter,
    compared_cloud,
    compared_maps,
    frozen_part,
    load_adapter,
    save_adapter,
)
from pasr_perception.encoders.base import EncoderError
from pasr_perception.encoders.remembered import remembering
from pasr_perception.geometry.se3 import make_T
from pasr_perception.geometry.viewpoints import look_at
from pasr_perception.library.build import build_library
from pasr_perception.library.relearn import relearn_library
from pasr_perception.library.store import LibraryError, MeshLibrary
from pasr_perception.pipeline import Pipeline

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


@pytest.fixture
def adapted(bench, tmp_path: Path) -> AdaptedEncoder:
    """The bench's encoder with an untrained adapter."""
    torch.manual_seed(1)
    module = FeatureAdapter(AdapterConfig(dim=bench.encoder.dim, hidden=12, adapted=8))
    beside = (bench.encoder.name, bench.encoder.fingerprint)
    save_adapter(tmp_path / "adapter.safetensors", module, beside, {})
    return AdaptedEncoder(bench.encoder, load_adapter(tmp_path / "adapter.safetensors", beside), 0.25)


def test_crops_and_clouds_are_compared_by_the_same_function(bench, adapted: AdaptedEncoder) -> None:
    d = bench.encoder.dim
    images = torch.randint(256, (2, 3, adapted.image_size, adapted.image_size), dtype=torch.uint8)
    maps = adapted.encode(images)
    torch.testing.assert_close(maps[:, :d], bench.encoder.encode(images))
    assert float(maps[:, d:].abs().max()) == 0
    compared = compared_maps(adapted, maps[:, None])[:, 0]
    cells = compared.flatten(2).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(cells, compared_cloud(adapted, maps.flatten(2).transpose(1, 2).flatten(0, 1)))
    torch.testing.assert_close(compared.norm(dim=1), torch.ones_like(compared[:, 0]))
    assert float(compared[:, d:].square().sum(1).mean()) == pytest.approx(0.25, abs=1e-5)
    assert compared_maps(bench.encoder, maps) is maps
    assert compared_cloud(bench.encoder, maps) is maps
    assert frozen_part(adapted) is frozen_part(bench.encoder) is bench.encoder


def test_a_memory_serves_all_shares_and_the_fingerprint_tells_them_apart(bench, adapted, tmp_path: Path) -> None:
    kept = remembering(adapted, tmp_path / "memory")
    assert (kept.fingerprint, kept.dim) == (adapted.fingerprint, adapted.dim)
    image = torch.zeros(1, 3, adapted.image_size, adapted.image_size, dtype=torch.uint8)
    kept.encode(image)
    remembering(bench.encoder, tmp_path / "memory").encode(image)
    assert len(list((tmp_path / "memory").iterdir())) == 1
    loaded = load_adapter(tmp_path / "adapter.safetensors", (bench.encoder.name, bench.encoder.fingerprint))
    shares = [AdaptedEncoder(bench.encoder, loaded, share).fingerprint for share in (0.25, 0.5)]
    assert shares[0] == adapted.fingerprint
    assert len({*shares, bench.encoder.fingerprint}) == 3
    with pytest.raises(ValueError, match=r"share: expected 0\.\.1, got 2"):
        AdaptedEncoder(bench.encoder, loaded, 2.0)


def test_a_library_is_adapted_from_a_lifted_one_as_if_built_so(bench, library_path, adapted, tmp_path: Path) -> None:
    again = relearn_library(library_path, tmp_path / "again", adapted, bench.config)
    assert again.built == ("block", "can", "truck")
    build_library(bench.sources, tmp_path / "anew", adapted, bench.config)
    mine, anew = (MeshLibrary.open(tmp_path / name) for name in ("again", "anew"))
    for i in range(3):
        torch.testing.assert_close(mine.data(i).features.float(), anew.data(i).features.float(), rtol=0, atol=2e-3)
        assert torch.equal(mine.data(i).view_pooled, anew.data(i).view_pooled)
    assert mine.verify() == []
    pipeline = Pipeline(mine, adapted, PasrConfig(), torch.device("cpu"))
    frame, detection = bench.photograph("truck", make_T(look_at(0.4, 0.6), np.array([0.1, 0.0, 10.0])))
    found = pipeline.detect(frame, [detection])
    assert found.objects[0].best.mesh_id == "truck"
    with pytest.raises(LibraryError, match="was built with the encoder"):
        MeshLibrary.open(library_path, (adapted.name, adapted.fingerprint))


def test_the_configured_adapter_is_loaded(tmp_path: Path) -> None:
    frozen, _ = load_encoder(EncoderConfig(device="cpu"))
    torch.manual_seed(0)
    module = FeatureAdapter(AdapterConfig(dim=frozen.dim, hidden=4, adapted=4))
    save_adapter(tmp_path / "a.safetensors", module, (frozen.name, frozen.fingerprint), {})
    encoder, _ = load_encoder(EncoderConfig(device="cpu", adapter=str(tmp_path / "a.safetensors"), adapter_share=0.2))
    assert isinstance(encoder, AdaptedEncoder)
    assert (encoder.dim, encoder.share) == (frozen.dim + 4, 0.2)
