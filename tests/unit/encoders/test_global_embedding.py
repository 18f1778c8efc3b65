"""The global embedding: sets in any order, only what is inside counts, its file."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from pasr_perception.config import EncoderConfig
from pasr_perception.data.split import split_meshes
from pasr_perception.encoders import load_encoder
from pasr_perception.encoders.base import EncoderError
from pasr_perception.encoders.global_embedding import (
    SHIPPED,
    GlobalConfig,
    GlobalEmbedding,
    in_ellipse,
    load_global,
    save_global,
)
from pasr_perception.encoders.weights_file import write_weights

BESIDE = ("colour-waves", "c0105")


@pytest.fixture
def module() -> GlobalEmbedding:
    torch.manual_seed(0)
    return GlobalEmbedding(GlobalConfig(dim=6, hidden=10, embedding=4))


def test_the_ellipse_is_that_of_the_box() -> None:
    inside = in_ellipse(torch.tensor([[0.1, 0.3, 0.9, 0.7]]), 20)[0]
    y, x = ((torch.arange(20) + 0.5) / 20 - 0.5).square()[:, None], ((torch.arange(20) + 0.5) / 20 - 0.5).square()
    assert torch.equal(inside, y / 0.2**2 + x / 0.4**2 <= 1)
    assert in_ellipse(torch.tensor([[0.5, 0.5, 0.501, 0.501]]), 20).sum() == 1  # a speck has its middle cell


def test_cells_outside_do_not_count(module: GlobalEmbedding) -> None:
    maps = torch.randn(2, 6, 8, 8, generator=torch.Generator().manual_seed(1))
    boxes = torch.tensor([[0.2, 0.2, 0.8, 0.8], [0.0, 0.1, 0.6, 0.9]])
    vectors = module.embed_crops(maps, boxes)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))
    noisy = torch.where(in_ellipse(boxes, 8)[:, None], maps, 9.0)
    torch.testing.assert_close(module.embed_crops(noisy, boxes), vectors)
    assert (module.embed_crops(maps + 0.5, boxes) - vectors).abs().max() > 1e-3


def test_points_may_come_in_any_order(module: GlobalEmbedding) -> None:
    points = torch.randn(30, 6, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(module.embed_mesh(points), module.embed_mesh(points.flip(0)))


def test_it_comes_back_from_its_file_and_only_beside_its_encoder(module: GlobalEmbedding, tmp_path: Path) -> None:
    file = tmp_path / "global.safetensors"
    with pytest.raises(EncoderError, match="is not a readable global embedding"):
        load_global(file, BESIDE)
    save_global(file, module, BESIDE)
    points = torch.randn(30, 6, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(
        load_global(file, BESIDE).embed_mesh(points), module.embed_mesh(points), rtol=0.02, atol=0.02
    )
    with pytest.raises(EncoderError, match="train one for it"):
        load_global(file, ("dinov2", "ffff"))


def test_weights_of_something_else_are_named(tmp_path: Path) -> None:
    write_weights(tmp_path / "other.safetensors", {"a": torch.ones(1)}, {"format": "pasr-point-encoder"})
    with pytest.raises(EncoderError, match="expected format pasr-global-embedding, got pasr-point-encoder"):
        load_global(tmp_path / "other.safetensors", BESIDE)


def test_the_shipped_one_loads_and_saw_training_meshes_alone() -> None:
    encoder, _ = load_encoder(EncoderConfig(device="cpu"))
    module = load_global("", (encoder.name, encoder.fingerprint))
    assert module.config.dim == encoder.dim
    file = str(resources.files("pasr_perception.encoders") / SHIPPED[encoder.name])
    with safe_open(file, framework="pt") as opened:
        seen = json.loads(opened.metadata()["card"])["trained_on"]
    assert set(split_meshes(seen).values()) == {"train"}
