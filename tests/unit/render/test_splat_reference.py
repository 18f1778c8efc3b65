"""The fast renderer against its slow, obvious twin, on random clouds; and its gradient against finite differences."""

from __future__ import annotations

import pytest
import torch

from pasr_perception.render import splat as fast
from pasr_perception.render import splat_reference as slow
from pasr_perception.render.splat import SplatConfig

CONFIGS = [
    SplatConfig(size=11, radius=0.134, points_per_pixel=16),  # 0.74 px, as the default at 37
    SplatConfig(size=11, radius=0.134, points_per_pixel=2),
    SplatConfig(size=9, radius=0.06, points_per_pixel=4),  # 0.27 px: most points reach no pixel
    SplatConfig(size=8, radius=0.25, points_per_pixel=5),  # exactly 1 px
    SplatConfig(size=8, radius=0.8, points_per_pixel=7),  # 3.2 px
    SplatConfig(size=11, radius=0.134, points_per_pixel=16, depth_band=0.25),
]
CONFIG_IDS = ["default", "k2", "tiny", "one-pixel", "wide", "band"]


def random_clouds(seed: int, size: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    """uv [2, 150, 2] partly outside, depth [2, 150] with many ties and some behind the camera, features [150, 3]."""
    generator = torch.Generator().manual_seed(seed)
    uv = torch.rand(2, 150, 2, generator=generator, dtype=dtype) * (size + 2) - 1
    uv[:, :40] = (uv[:, :40] * 4).round() / 4  # quarter pixels: distances that meet the radius exactly
    depth = (torch.rand(2, 150, generator=generator, dtype=dtype) * 20).round() / 10 - 0.2
    return uv, depth, torch.randn(150, 3, generator=generator, dtype=dtype)


@pytest.mark.parametrize("config", CONFIGS, ids=CONFIG_IDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_same_points_same_weights(config, seed):
    uv, depth, _ = random_clouds(seed, config.size)
    expected, got = slow.rasterise(uv, depth, config), fast.rasterise(uv, depth, config)
    assert len(expected.pixel) > 20
    assert torch.equal(got.pixel, expected.pixel)
    assert torch.equal(got.index, expected.index)
    torch.testing.assert_close(got.weight, expected.weight, atol=1e-6, rtol=0)


@pytest.mark.parametrize("config", CONFIGS, ids=CONFIG_IDS)
def test_same_image_same_gradients(config):
    results = []
    for renderer in (slow, fast):
        uv, depth, features = random_clouds(2, config.size, torch.float64)
        uv.requires_grad_()
        features.requires_grad_()
        image, mask = renderer.splat(uv, depth, features, config)
        target = torch.randn(image.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        (image * target).sum().backward()
        results.append((image.detach(), mask, uv.grad, features.grad))
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-9, rtol=1e-9)
    assert results[0][2].abs().max() > 0


def test_same_composite_of_several_clouds():
    config = CONFIGS[0]
    uv, depth, _ = random_clouds(4, config.size)
    features = torch.randn(5, 150, 3, generator=torch.Generator().manual_seed(1))
    fragments = fast.rasterise(uv, depth, config)
    cloud = torch.tensor([3, 1])[fragments.pixel // config.size**2]
    expected = slow.composite(fragments, features, cloud)
    torch.testing.assert_close(fast.composite(fragments, features, cloud), expected, atol=1e-5, rtol=1e-5)


def test_gradient_agrees_with_finite_differences():
    config = SplatConfig(size=5, radius=0.5, points_per_pixel=3)
    generator = torch.Generator().manual_seed(5)
    uv = (torch.rand(2, 12, 2, generator=generator, dtype=torch.float64) * 5).requires_grad_()
    depth = torch.rand(2, 12, generator=generator, dtype=torch.float64)
    features = torch.randn(12, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda at, f: fast.splat(at, depth, f, config)[0], (uv, features))


def test_depth_gets_no_gradient():
    uv, depth, features = random_clouds(6, 8)
    uv.requires_grad_()
    depth.requires_grad_()
    fast.splat(uv, depth, features, CONFIGS[3])[0].sum().backward()
    assert uv.grad is not None
    assert depth.grad is None


@pytest.mark.parametrize("config", CONFIGS, ids=CONFIG_IDS)
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_loops_and_sorting_select_the_same(config, kind):
    uv, depth, _ = random_clouds(8, config.size)
    uv[0, :3, 0], depth[0, 3:6] = (
        torch.tensor([torch.nan, torch.inf, -torch.inf]),
        torch.tensor([torch.nan, -1.0, torch.inf]),
    )
    for looped, ordered in zip(
        fast.select_in_loops(uv.to(kind), depth.to(kind), config),
        fast.select_by_sorting(uv.to(kind), depth.to(kind), config),
        strict=True,
    ):
        assert torch.equal(looped, ordered)


@pytest.mark.parametrize("config", CONFIGS, ids=CONFIG_IDS)
def test_a_place_for_every_pixel_changes_nothing(config):
    uv, depth, _ = random_clouds(8, config.size)
    uv[0, 0, 0], depth[0, 1:3] = torch.nan, torch.tensor([torch.nan, -1.0])
    some, every = fast.rasterise(uv, depth, config), fast.rasterise_all(uv, depth, config)
    covered = every.index[:, 0] >= 0
    assert torch.equal(every.pixel, torch.arange(len(uv) * config.size**2))
    assert torch.equal(every.pixel[covered], some.pixel)
    assert torch.equal(every.index[covered], some.index)
    torch.testing.assert_close(every.weight[covered], some.weight)
    assert not every.weight[~covered].any()


def test_the_block_size_changes_nothing(monkeypatch):
    config = CONFIGS[0]
    uv, depth, _ = random_clouds(7, config.size)
    whole = fast.select_by_sorting(uv, depth, config)
    monkeypatch.setattr(fast, "CANDIDATES_PER_BLOCK", 1)
    blocks = fast.select_by_sorting(uv, depth, config)
    assert torch.equal(whole[0], blocks[0])
    assert torch.equal(whole[1], blocks[1])


def test_more_pairs_than_32_bits_hold():
    size = 16_000  # with twelve points nearly as many pairs as there may be
    uv = torch.tensor([[[size - 0.5, size - 0.5], [0.5, 0.5], [size - 0.5, 0.5]] * 4], dtype=torch.float64)
    fragments = fast.rasterise(uv, torch.ones(1, 12), SplatConfig(size=size, radius=1 / size, points_per_pixel=4))
    assert fragments.pixel.tolist() == [0, size - 1, size * size - 1]
    assert fragments.index.tolist() == [[1, 4, 7, 10], [2, 5, 8, 11], [0, 3, 6, 9]]
    with pytest.raises(
        ValueError, match=r"at most 4294967296 pairs of a pixel and a point, got 17000\^2 pixels and 12"
    ):
        fast.rasterise(uv, torch.ones(1, 12), SplatConfig(size=17_000))


def test_depths_that_differ_in_their_last_bit_are_told_apart():
    depth = torch.tensor([[1.0, 1.0, -0.0, 0.0, 1e-38]])
    depth[0, 0] = torch.nextafter(depth[0, 0], torch.tensor(2.0))
    fragments = fast.rasterise(torch.full((1, 5, 2), 0.5), depth, SplatConfig(size=1, radius=1, points_per_pixel=5))
    assert fragments.index.tolist() == [[2, 3, 4, 1, 0]]


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
def test_empty_input(shape):
    image, mask = fast.splat(torch.zeros(*shape, 2), torch.zeros(shape), torch.zeros(shape[1], 3), SplatConfig(size=4))
    assert image.shape == (shape[0], 3, 4, 4)
    assert not mask.any()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("config", CONFIGS, ids=CONFIG_IDS)
def test_cuda_agrees_with_cpu(config):
    results = []
    for device in ("cpu", "cuda"):
        uv, depth, features = (t.to(device) for t in random_clouds(8, config.size, torch.float64))
        uv.requires_grad_()
        fragments = fast.rasterise(uv, depth, config)
        image, _ = fast.splat(uv, depth, features, config)
        image.square().sum().backward()
        assert image.device.type == device
        results.append([t.detach().cpu() for t in (fragments.pixel, fragments.index, fragments.weight, image, uv.grad)])
    for on_cpu, on_gpu in zip(*results, strict=True):
        torch.testing.assert_close(on_gpu, on_cpu, atol=1e-9, rtol=1e-9)
