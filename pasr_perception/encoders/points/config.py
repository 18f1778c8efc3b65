"""Everything that shapes the point encoder. A checkpoint carries its configuration."""

from __future__ import annotations

from dataclasses import dataclass

MAX_NEIGHBOURS = 255  # a neighbour's number within its ball is kept in one byte
OUTPUT_SCALES = 3  # the last three scales are interpolated back (PASR eq. 1-3)


@dataclass(frozen=True)
class PointEncoderConfig:
    """PointNeXt as PASR uses it; sizes for training on a CPU. Lengths are in object radii."""

    dim: int = 320  # D, of the image encoder that it stands beside
    input_points: int = 2048  # points of the cloud that are encoded; features come out for any
    scales: tuple[int, ...] = (1024, 512, 256, 128)  # points kept by each set abstraction
    widths: tuple[int, ...] = (48, 96, 192, 320)  # channels at each scale
    blocks: tuple[int, ...] = (1, 1, 1, 1)  # InvResMLP blocks at each scale
    stem: int = 32  # channels of the points themselves
    radius: float = 0.1  # of the first scale's balls; doubled from scale to scale, and for InvResMLP blocks
    neighbours: int = 24  # points taken of each ball
    expansion: int = 4  # of InvResMLP's inner width
    hidden: int = 320  # channels between interpolation and output
    interpolated: int = 3  # k nearest centres of each scale (eq. 4)
    temperature: float = 0.05  # tau of their softmax(-d^2 / tau) (eq. 5)
    normals: bool = True  # whether surface normals are seen (without their sign: windings are not to be trusted)
    colours: bool = True  # whether colours are seen where they are known

    def __post_init__(self) -> None:
        counts = ("dim", "input_points", "stem", "neighbours", "expansion", "hidden", "interpolated")
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"points.{name}: expected at least 1, got {getattr(self, name)}")
        if self.neighbours > MAX_NEIGHBOURS:
            raise ValueError(f"points.neighbours: expected {MAX_NEIGHBOURS} at most, got {self.neighbours}")
        for name in ("radius", "temperature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"points.{name}: expected more than 0, got {getattr(self, name)}")
        if len(self.scales) < OUTPUT_SCALES or any(s < self.interpolated for s in self.scales):
            raise ValueError(
                f"points.scales: expected {OUTPUT_SCALES} or more, of {self.interpolated} points each, got {self.scales}"
            )
        if list(self.scales) != sorted(self.scales, reverse=True) or self.scales[0] > self.input_points:
            raise ValueError(
                f"points.scales: expected fewer points each time, from {self.input_points}, got {self.scales}"
            )
        for name in ("widths", "blocks"):
            if len(getattr(self, name)) != len(self.scales):
                got = getattr(self, name)
                raise ValueError(f"points.{name}: expected one number per scale ({len(self.scales)}), got {got}")

    @property
    def channels(self) -> int:
        """Of what the encoder sees of a point: position, normal without sign, colour and whether it is known."""
        return 3 + 6 * self.normals + 4 * self.colours

    def radius_of(self, scale: int) -> float:
        return self.radius * 2.0**scale
