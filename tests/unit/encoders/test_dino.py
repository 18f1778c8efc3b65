"""The DINO encoders with tiny, randomly initialised models of the real classes, saved and loaded as a user's are."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest
import torch

from pasr_perception.config import EncoderConfig
from pasr_perception.encoders.base import EncoderError
from pasr_perception.encoders.dino import DinoEncoder, load_dino

transformers = pytest.importorskip("transformers")

CPU = torch.device("cpu")
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
MODELS = {
    "dinov2": ("Dinov2", {"patch_size": 14, "image_size": 56, **TINY}),
    "dinov2-registers": (
        "Dinov2WithRegisters",
        {"patch_size": 14, "image_size": 56, "num_register_tokens": 4, **TINY},
    ),
    "dinov3": ("DINOv3ViT", {"patch_size": 16, "num_register_tokens": 4, "intermediate_size": 64, **TINY}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    for name, (family, settings) in MODELS.items():
        config = getattr(transformers, f"{family}Config")(**settings)
        getattr(transformers, f"{family}Model")(config).save_pretrained(root / name)
    return {name: root / name for name in MODELS}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever reaches for the network fails the test."""

    def refuse(*_args: object, **_kwargs: object) -> None:
        pytest.fail("something tried to reach the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty local model cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def load(name: str, weights: Path | str) -> DinoEncoder:
    return load_dino(EncoderConfig(name=name.split("-")[0], weights=str(weights)), CPU)


def random_images(encoder: DinoEncoder, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    size = encoder.image_size
    return torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(("name", "size"), [("dinov2", 518), ("dinov2-registers", 518), ("dinov3", 592)])
def test_map_shape_and_unit_length(folders, name, size):
    encoder = load(name, folders[name])
    assert (encoder.image_size, encoder.grid, encoder.dim) == (size, 37, 32)
    maps = encoder.encode(random_images(encoder, 2))
    assert maps.shape == (2, 32, 37, 37)
    assert maps.dtype == torch.float32
    assert not maps.requires_grad
    torch.testing.assert_close(maps.norm(dim=1), torch.ones(2, 37, 37))


@pytest.mark.parametrize(("name", "prefix"), [("dinov2", 1), ("dinov2-registers", 5), ("dinov3", 5)])
def test_features_are_the_normed_patch_tokens_of_the_model(folders, name, prefix):
    encoder = load(name, folders[name])
    images = random_images(encoder, 1)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = ((images.float() / 255).permute(0, 2, 3, 1) - mean) / std
    model = getattr(transformers, f"{MODELS[name][0]}Model").from_pretrained(folders[name]).eval()
    with torch.no_grad():
        tokens = model(pixel_values=pixels.permute(0, 3, 1, 2)).last_hidden_state[0]
    assert tokens.shape == (prefix + 37 * 37, 32)
    patches = tokens[prefix:].reshape(37, 37, 32)
    expected = patches / patches.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(encoder.encode(images)[0].permute(1, 2, 0), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("cell", [(5, 20), (30, 3)], ids=["upper-right", "lower-left"])
def test_the_response_is_where_the_bright_square_is(folders, name, cell):
    encoder = load(name, folders[name])
    patch = encoder.image_size // 37
    images = torch.zeros(2, 3, encoder.image_size, encoder.image_size, dtype=torch.uint8)
    row, column = cell
    images[1, :, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] = 255
    dark, bright = encoder.encode(images)
    change = (bright - dark).norm(dim=0)
    assert divmod(int(change.argmax()), 37) == cell


def test_images_of_another_size_or_type_are_refused(folders):
    encoder = load("dinov3", folders["dinov3"])
    with pytest.raises(ValueError, match=r"expected \[B, 3, 592, 592\] uint8, got \[1, 3, 518, 518\]"):
        encoder.encode(torch.zeros(1, 3, 518, 518, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"uint8, got .*float32"):
        encoder.encode(torch.zeros(1, 3, 592, 592))


def test_fingerprint_follows_weights_and_settings(folders, tmp_path):
    first = load("dinov3", folders["dinov3"]).fingerprint
    assert len(first) == 64
    copy = shutil.copytree(folders["dinov3"], tmp_path / "copy")
    assert load("dinov3", copy).fingerprint == first

    settings = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(settings | {"rope_theta": 50.0}))
    assert load("dinov3", copy).fingerprint != first

    model = transformers.DINOv3ViTModel.from_pretrained(folders["dinov3"])
    with torch.no_grad():
        model.norm.bias[0] += 1e-3
    model.save_pretrained(tmp_path / "other")
    assert load("dinov3", tmp_path / "other").fingerprint != first


def test_sharded_weights_load_and_a_missing_shard_is_named(folders, tmp_path):
    model = transformers.DINOv3ViTModel.from_pretrained(folders["dinov3"])
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    whole, sharded = load("dinov3", folders["dinov3"]), load("dinov3", tmp_path)
    images = random_images(whole, 1)
    assert torch.equal(whole.encode(images), sharded.encode(images))

    shards[1].unlink()
    with pytest.raises(EncoderError, match=f"has no {shards[1].name}"):
        load("dinov3", tmp_path)


def test_a_hub_id_in_the_local_cache_is_used(folders, cache):
    home = cache / "models--someone--tiny-dinov3"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("abc123")
    shutil.copytree(folders["dinov3"], home / "snapshots" / "abc123")
    encoder = load("dinov3", "someone/tiny-dinov3")
    assert encoder.fingerprint == load("dinov3", folders["dinov3"]).fingerprint


def test_gated_weights_that_are_missing_give_every_step(cache):
    with pytest.raises(EncoderError) as failure:
        load("dinov3", "facebook/dinov3-vitl16-pretrain-lvd1689m")
    lines = str(failure.value).splitlines()
    assert "neither a folder nor in the local model cache; nothing is downloaded" in lines[0]
    assert lines[1].startswith(
        "  1. dinov3 weights are gated: accept their licence on the model page of facebook/dinov3-"
    )
    assert lines[2].startswith("  2. hf auth login")
    target = "weights/dinov3-vitl16-pretrain-lvd1689m"
    assert lines[3] == f"  3. hf download facebook/dinov3-vitl16-pretrain-lvd1689m --local-dir {target}"
    assert lines[4] == f"  4. pass encoder.weights={target}"


@pytest.mark.parametrize(
    ("weights", "got"),
    [("", "not set"), ("/no/such/folder", "'/no/such/folder' is neither"), ("my/folder", "'my/folder' is neither")],
)
def test_open_weights_that_are_missing_give_two_steps(cache, weights, got):
    with pytest.raises(EncoderError) as failure:
        load("dinov2", weights)
    lines = str(failure.value).splitlines()
    assert lines[0].startswith(f"encoder.weights: {got}")
    assert lines[1] == "  1. hf download facebook/dinov2-base --local-dir weights/dinov2-base"
    assert lines[2] == "  2. pass encoder.weights=weights/dinov2-base"


def test_a_folder_without_weights_or_config_is_refused(folders, tmp_path):
    with pytest.raises(EncoderError, match=r"has no config\.json"):
        load("dinov3", tmp_path)
    shutil.copy(folders["dinov3"] / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"not read: pickles can run code")
    with pytest.raises(EncoderError, match=r"has no model\.safetensors"):
        load("dinov3", tmp_path)


def test_another_model_than_the_named_one_is_refused(folders):
    with pytest.raises(EncoderError, match=r"encoder\.name=dinov3 expects model_type dinov3_vit, got 'dinov2'"):
        load("dinov3", folders["dinov2"])
    with pytest.raises(EncoderError, match="expects model_type dinov2 or dinov2_with_registers, got 'dinov3_vit'"):
        load("dinov2", folders["dinov3"])


def test_weights_that_do_not_fill_the_model_are_refused(folders, tmp_path):
    """`transformers` itself would leave the third layer at random and only warn."""
    broken = shutil.copytree(folders["dinov3"], tmp_path / "broken")
    settings = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(settings | {"num_hidden_layers": 3}))
    with pytest.raises(EncoderError, match=r"lacks \d+ of the model's weights"):
        load("dinov3", broken)


def test_damaged_files_are_refused(folders, tmp_path):
    broken = shutil.copytree(folders["dinov3"], tmp_path / "broken")
    data = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(EncoderError, match="cannot load"):
        load("dinov3", broken)
    (broken / "config.json").write_text("{")
    with pytest.raises(EncoderError, match=r"cannot read .*config\.json"):
        load("dinov3", broken)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_in_bfloat16_stays_near_the_cpu(folders):
    on_cpu = load("dinov3", folders["dinov3"])
    on_gpu = load_dino(EncoderConfig(name="dinov3", weights=str(folders["dinov3"])), torch.device("cuda"))
    images = random_images(on_cpu, 2)
    maps = on_gpu.encode(images)
    assert maps.device.type == "cuda"
    assert maps.dtype == torch.float32
    assert (maps.cpu() * on_cpu.encode(images)).sum(1).min() > 0.98
