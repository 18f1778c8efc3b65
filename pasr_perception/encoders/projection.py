"""From raw feature taps to vectors that compare well by cosine: two fixed linear projections of the same frozen taps.

Whitened part: per tap centring and PCA whitening. Raw taps share a large mean and a few loud directions, so everything looks
alike; whitening lets every direction speak, print and texture among them.
Stable part: Fisher's linear discriminant over surface points, i.e. directions in which different points differ while one point
stays the same under another view, background, light and camera.
Statistics are fitted on meshes other than the demo's (`pasr encoder fit`), shipped, and part of the encoder's fingerprint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path

import torch
from safetensors.torch import load, save_file

from pasr_perception.encoders.base import EncoderError

EIGENVALUE_FLOOR = 0.01  # share of the largest eigenvalue added to all: the quietest directions are mostly noise
WITHIN_FLOOR = 0.5  # share of the mean within-point variance added to all directions before they are compared


@dataclass(frozen=True)
class FeatureProjection:
    """Fitted statistics for n taps of C_i channels."""

    mean: tuple[torch.Tensor, ...]  # n x [C_i]
    whitening: tuple[torch.Tensor, ...]  # n x [C_i, K_i]
    stable_mean: torch.Tensor  # [sum C]
    stable: torch.Tensor  # [sum C, K]
    stable_share: float  # squared length of the stable part in the unit feature

    @property
    def dim(self) -> int:
        return sum(w.shape[1] for w in self.whitening) + self.stable.shape[1]

    def to(self, device: torch.device) -> FeatureProjection:
        return FeatureProjection(
            tuple(m.to(device) for m in self.mean),
            tuple(w.to(device) for w in self.whitening),
            self.stable_mean.to(device),
            self.stable.to(device),
            self.stable_share,
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        named = {f"mean.{i}": m for i, m in enumerate(self.mean)}
        named |= {f"whitening.{i}": w for i, w in enumerate(self.whitening)}
        share = torch.tensor(self.stable_share)
        return named | {"stable_mean": self.stable_mean, "stable": self.stable, "stable_share": share}

    def __call__(self, taps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Taps [B, C_i, g, g] -> features [B, D, g, g] of unit length."""
        centred = [tap.permute(0, 2, 3, 1) - mean for tap, mean in zip(taps, self.mean, strict=True)]
        unit = torch.nn.functional.normalize
        whitened = [unit(x @ w, dim=-1) for x, w in zip(centred, self.whitening, strict=True)]
        stable = unit((joined(centred) - self.stable_mean) @ self.stable, dim=-1)
        heard = sum(w.shape[1] > 0 for w in self.whitening)
        scale = ((1 - self.stable_share) / max(heard, 1)) ** 0.5
        parts = [*(w * scale for w in whitened), stable * self.stable_share**0.5]
        return torch.cat(parts, -1).permute(0, 3, 1, 2).contiguous()


def joined(centred: Sequence[torch.Tensor]) -> torch.Tensor:
    """Centred taps [..., C_i] at unit length each, side by side [..., sum C]: what the stable part is a projection of."""
    return torch.cat([torch.nn.functional.normalize(x, dim=-1) for x in centred], -1)


def whitening_of(centred: torch.Tensor, kept: int, floor: float = EIGENVALUE_FLOOR) -> torch.Tensor:
    """PCA whitening [C, kept] of centred samples [n, C]."""
    x = centred.double()
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    values, vectors = values.flip(0)[:kept], vectors.flip(1)[:, :kept]
    return (vectors / (values + floor * values[0]).sqrt()).float().contiguous()


def discriminant(within: torch.Tensor, between: torch.Tensor, kept: int, floor: float = WITHIN_FLOOR) -> torch.Tensor:
    """Fisher's directions [C, kept] of scatter matrices [C, C], of unit within-class variance, strongest first."""
    size = len(within)
    within = within + floor * torch.trace(within) / size * torch.eye(size, dtype=within.dtype)
    values, vectors = torch.linalg.eigh(within)
    sphere = vectors / values.sqrt()
    return (sphere @ torch.linalg.eigh(sphere.T @ between @ sphere)[1].flip(1)[:, :kept]).float().contiguous()


def varied(projection: FeatureProjection, whitened: bool, last_taps: int, stable_share: float) -> FeatureProjection:
    """The same statistics used in part: principal directions `whitened` or as loud as they are, of the last taps only.

    Parts without a share are left out. Raises ValueError for taps or shares that are not there.
    """
    taps = len(projection.whitening)
    if not 1 <= last_taps <= taps:
        raise ValueError(f"last taps: expected 1..{taps}, got {last_taps}")
    if not 0 <= stable_share <= 1:
        raise ValueError(f"stable share: expected 0..1, got {stable_share}")
    parts = [w if whitened else torch.nn.functional.normalize(w, dim=0) for w in projection.whitening]
    first = taps if stable_share == 1 else taps - last_taps
    kept = tuple(w if i >= first else w[:, :0] for i, w in enumerate(parts))
    stable = projection.stable if stable_share > 0 else projection.stable[:, :0]
    return FeatureProjection(projection.mean, kept, projection.stable_mean, stable, stable_share)


def save_projection(projection: FeatureProjection, path: str | Path) -> None:
    save_file({name: t.contiguous() for name, t in projection.tensors().items()}, path)


def projection_of(tensors: Mapping[str, torch.Tensor], taps: int) -> FeatureProjection:
    """The statistics that `FeatureProjection.tensors` took apart. Raises KeyError for one that is missing."""
    return FeatureProjection(
        tuple(tensors[f"mean.{i}"] for i in range(taps)),
        tuple(tensors[f"whitening.{i}"] for i in range(taps)),
        tensors["stable_mean"],
        tensors["stable"],
        float(tensors["stable_share"]),
    )


def load_projection(path: Traversable, channels: Sequence[int]) -> FeatureProjection:
    """Read statistics for taps of the given channel counts; raises EncoderError if the file is missing or does not fit."""
    if not path.is_file():
        raise EncoderError(
            f"{path}: feature statistics missing; reinstall pasr_perception, or make them: pasr encoder fit"
        )
    try:
        projection = projection_of(load(path.read_bytes()), len(channels))
    except KeyError as error:
        raise EncoderError(f"{path}: holds no tensor {error}; it was not made by `pasr encoder fit`") from error
    got = [len(m) for m in projection.mean]
    if got != list(channels):
        raise EncoderError(f"{path}: expected statistics of taps with {list(channels)} channels, got {got}")
    return projection
