"""What synthetic photos are like: occlusion levels as PASR reports them, and everything else that can be chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pasr_perception.data.look import KINDS


@dataclass(frozen=True)
class OcclusionLevel:
    """How much of the object's area in the image others hide."""

    name: str
    low: float  # share, included
    high: float  # share, included

    def holds(self, hidden: float) -> bool:
        return self.low <= hidden <= self.high


LEVELS = {
    level.name: level
    for level in (
        OcclusionLevel("L0", 0.0, 0.0),
        OcclusionLevel("L1", 0.02, 0.10),
        OcclusionLevel("L2", 0.10, 0.20),
        OcclusionLevel("L3", 0.20, 0.40),
    )
}


@dataclass(frozen=True)
class PhotoSpec:
    """How photos are made; together with the seed it settles every pixel."""

    width: int = 640
    height: int = 480
    object_size: tuple[float, float] = (0.35, 0.8)  # longer side of the outline, share of the image's height
    field_of_view_deg: tuple[float, float] = (35.0, 65.0)  # horizontal
    elevation_deg: tuple[float, float] = (-15.0, 60.0)  # of the camera over things that stand
    looks: Mapping[str, float] = field(default_factory=lambda: {"own": 0.5, "recoloured": 0.5})
    clutter: int = 4  # other meshes beside and behind the object, at most
    truncated: float = 0.0  # share of photos whose border cuts the object

    def __post_init__(self) -> None:
        def need(rule: bool, name: str, expected: str, got: object) -> None:
            if not rule:
                raise ValueError(f"{name}: expected {expected}, got {got!r}")

        need(min(self.width, self.height) >= 64, "image size", "at least 64x64", f"{self.width}x{self.height}")
        for name, low, high in (
            ("object_size", 0.05, 0.9),
            ("field_of_view_deg", 5.0, 120.0),
            ("elevation_deg", -60.0, 89.0),
        ):
            a, b = getattr(self, name)
            need(low <= a <= b <= high, name, f"{low} <= smallest <= largest <= {high}", (a, b))
        need(set(self.looks) <= set(KINDS), "looks", f"shares of {', '.join(KINDS)}", dict(self.looks))
        need(self.clutter >= 0, "clutter", "0 or more", self.clutter)
        need(0 <= self.truncated <= 1, "truncated", "a share in 0..1", self.truncated)
