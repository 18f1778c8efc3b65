"""An encoder with a memory: each image is encoded once, whoever asks, and answers do not depend on it."""

from __future__ import annotations

from pathlib import Path

import torch

from pasr_perception.encoders.remembered import RememberingEncoder


def test_images_are_encoded_once_and_by_every_encoder_for_itself(bench, tmp_path: Path, monkeypatch) -> None:
    shown = []
    encode = type(bench.encoder).encode
    monkeypatch.setattr(type(bench.encoder), "encode", lambda self, x: shown.append(len(x)) or encode(self, x))
    images = torch.randint(256, (2, 3, 112, 112), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    first = RememberingEncoder(bench.encoder, tmp_path)
    features = first.encode(images)
    assert shown == [1, 1]
    torch.testing.assert_close(features, encode(bench.encoder, images), atol=1e-3, rtol=0)
    again = RememberingEncoder(bench.encoder, tmp_path)
    assert torch.equal(again.encode(images.flip(0)), features.flip(0))
    assert shown == [1, 1]
    again.fingerprint = "another"
    again.encode(images[:1])
    assert shown == [1, 1, 1]


def test_a_file_cut_short_is_made_again(bench, tmp_path: Path) -> None:
    images = torch.zeros(1, 3, 112, 112, dtype=torch.uint8)
    encoder = RememberingEncoder(bench.encoder, tmp_path)
    features = encoder.encode(images)
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    assert torch.equal(encoder.encode(images), features)
    assert len(file.read_bytes()) > 100
