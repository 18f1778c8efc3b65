"""The frozen dataclasses that flow between stages (docs/conventions.md fixes units and frames).

Metres, radians, seconds, pixels with centres at +0.5. `T_a_b` maps coordinates in b to a. Camera frames are optical
(x right, y down, z forward). Arrays at the borders are numpy float64; the search works on torch float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, overload

import numpy as np
import torch


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with optional lens distortion (OpenCV's plumb_bob / rational_polynomial order)."""

    width: int
    height: int
    K: np.ndarray  # [3, 3] float64, pixels
    distortion: np.ndarray = field(default_factory=lambda: np.zeros(0))  # [n] float64, n in {0, 4, 5, 8}; empty = none


@dataclass(frozen=True)
class Depth:
    """A depth map registered to the colour image: same size, same distortion."""

    metres: np.ndarray  # [H, W] float32 along the optical axis; 0, NaN and infinity are holes
    stamp_ns: int = 0


@dataclass(frozen=True)
class Frame:
    """One camera image with its calibration."""

    image: np.ndarray  # [H, W, 3] uint8 RGB, as the camera gave it (not undistorted)
    camera: Camera
    stamp_ns: int = 0
    frame_id: str = "camera"
    depth: Depth | None = None


@dataclass(frozen=True)
class Detection:
    """A 2D box from the user's detector, in pixels of the (distorted) image."""

    box: np.ndarray  # [4] float64: x_min, y_min, x_max, y_max
    score: float = 1.0
    class_id: str = ""
    id: str = ""


@dataclass(frozen=True)
class Crop:
    """What a virtual camera sees that looks through the box's centre, zoomed so that the box's longer side fills `fill`."""

    image: np.ndarray  # [S, S, 3] uint8 RGB
    K_crop: np.ndarray  # [3, 3] float64, pixels of the crop
    R_cam_crop: (
        np.ndarray
    )  # [3, 3] float64; the virtual camera shares the camera's centre, so T_cam_crop has no translation
    box: np.ndarray  # [4] float64: the detection's box in crop pixels, x_min, y_min, x_max, y_max
    clipped: (
        np.ndarray
    )  # [4] bool: that edge of the box lies on (or beyond) the image border, so it says nothing of the object
    detection: Detection
    shown: np.ndarray | None = (
        None  # [g, g] float32 0..1, that a cell of the encoder's grid shows the object; None: not asked
    )


@dataclass(frozen=True)
class Candidates:
    """The best (mesh, rotation) pairs of one crop, best first. Poses are `R_crop_obj`: object axes to crop axes."""

    mesh_index: torch.Tensor  # [k] int64, index into the library
    rotation: torch.Tensor  # [k, 3, 3] float32
    turn: torch.Tensor  # [k] int64, the quarter turn of the crop that it was found in
    similarity: torch.Tensor  # [k] float32, masked mean cosine (PASR eq. 8) in [-1, 1]
    value: (
        torch.Tensor
    )  # [k] float32, what orders them: similarity less the outline's mismatch with the box, colours added
    agreement: torch.Tensor | None = None  # [k] float32 of colours, -1..1; None where they were not compared
    displacement: torch.Tensor | None = None  # [k, 3] off the placement by outline: shift x, y (crop sizes), log scale
    contour: torch.Tensor | None = None  # [k] float32, what contours at the coarse poses add to the value
    distance: torch.Tensor | None = (
        None  # [k, 2] float32: factor of the distance by what other objects stand on, and that surface's relative noise
    )

    def chosen(self, index: torch.Tensor) -> Candidates:
        """Some of them, in another order."""

        def there(values: torch.Tensor | None) -> torch.Tensor | None:
            return None if values is None else values[index.to(values.device)]

        picked: dict[str, Any] = {f.name: there(getattr(self, f.name)) for f in fields(self)}
        return Candidates(**picked)

    def with_refined(
        self,
        turn: torch.Tensor,
        rotation: torch.Tensor,
        similarity: torch.Tensor,
        value: torch.Tensor,
        agreement: torch.Tensor,
        displacement: torch.Tensor,
    ) -> Candidates:
        """The same candidates as the search found them, the first n refined: turn [n], rotation [n, 3, 3] and so on."""
        n = len(rotation)
        rest = displacement.new_zeros(len(self.mesh_index) - n, 3)
        agreed = torch.zeros_like(self.value) if self.agreement is None else self.agreement
        return replace(
            self,
            turn=torch.cat([turn, self.turn[n:]]),
            rotation=torch.cat([rotation, self.rotation[n:]]),
            similarity=torch.cat([similarity, self.similarity[n:]]),
            value=torch.cat([value, self.value[n:]]),
            agreement=torch.cat([agreement, agreed[n:]]),
            displacement=torch.cat([displacement, rest]),
        )


@dataclass(frozen=True)
class Rivals:
    """What a mesh's value has to stand out from before meshes compete."""

    offset: torch.Tensor  # [M] what strangers reach, and any margin
    spread: torch.Tensor  # [M] of strangers' values

    def margin(self, value: torch.Tensor, mesh: torch.Tensor) -> torch.Tensor:
        """How many spreads values [k] of meshes [k] lie above their offsets."""
        return (value - self.offset[mesh]) / self.spread[mesh]


@dataclass(frozen=True)
class Hypothesis:
    """One answer for one detection: this mesh, at this pose, this likely."""

    mesh_id: str
    category: str
    score: float  # [0, 1]
    similarity: float  # masked mean cosine (eq. 8), before the mesh's own offset is subtracted
    T_cam_obj: np.ndarray  # [4, 4] float64, metres; obj is the mesh file's own frame, scaled to metres
    margin: float = 0.0  # spreads by which it stands out from what strangers reach with this mesh
    covariance: np.ndarray | None = None  # [6, 6] float64 of T_cam_obj: x y z rx ry rz, camera axes, m and rad


class Later(Sequence[Hypothesis]):
    """Hypotheses that are only worked out when someone looks at them."""

    def __init__(self, work: Callable[[], tuple[Hypothesis, ...]]) -> None:
        self._work = work

    @cached_property
    def _found(self) -> tuple[Hypothesis, ...]:
        return self._work()

    @overload
    def __getitem__(self, index: int) -> Hypothesis: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Hypothesis, ...]: ...
    def __getitem__(self, index: int | slice) -> Hypothesis | tuple[Hypothesis, ...]:
        return self._found[index]

    def __len__(self) -> int:
        return len(self._found)


@dataclass(frozen=True)
class ObjectEstimate:
    """Everything known of one detection: hypotheses best first, before (`coarse`) and after refinement."""

    detection: Detection
    hypotheses: tuple[Hypothesis, ...]
    coarse: Sequence[Hypothesis] = ()
    unknown: float = 0.0  # [0, 1] that it is none of the library's meshes; with the hypotheses' scores at most 1
    ambiguous: bool = False  # a second mesh (a look-alike) is nearly as likely
    notes: tuple[str, ...] = ()  # why something was not used, e.g. stale depth

    @property
    def best(self) -> Hypothesis:
        return self.hypotheses[0]


@dataclass(frozen=True)
class StageTimings:
    """Wall time of each stage for one frame, in seconds."""

    tighten: float = 0.0
    crop: float = 0.0
    encode: float = 0.0
    coarse: float = 0.0
    refine: float = 0.0
    rank: float = 0.0
    lift: float = 0.0

    @property
    def total(self) -> float:
        return sum(astuple(self))

    def __add__(self, other: StageTimings) -> StageTimings:
        """Of both, stage by stage."""
        return StageTimings(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class FrameResult:
    """The pipeline's answer for one frame, one estimate per usable detection, in the detections' order."""

    objects: tuple[ObjectEstimate, ...]
    timings: StageTimings
    rejected: tuple[tuple[Detection, str], ...] = ()  # detections that could not be used, each with the reason


class TrackState(StrEnum):
    """How much a track can be relied upon."""

    TENTATIVE = "tentative"  # seen, but it is not settled which mesh it is, or that it is any
    TRACKED = "tracked"  # known, and seen in this frame
    COASTING = "coasting"  # known, not seen in this frame: the pose is a prediction
    LOST = "lost"  # known, not seen for long: kept to be recognised when it comes back


@dataclass(frozen=True)
class TrackedObject:
    """One track after a frame."""

    track_id: int  # never used again
    state: TrackState
    reason: str  # why it is in this state, for people
    hypotheses: tuple[Hypothesis, ...]  # best first, scores from all frames so far; empty: no mesh explains it
    unknown: float  # [0, 1] that it is none of the library's meshes
    ambiguous: bool  # a second mesh (a look-alike) is nearly as likely
    detection: Detection | None  # of this frame; None where none was associated
    measured: bool  # the pose was refined against this frame's image, not only predicted
    velocity: np.ndarray  # [6] float64 vx vy vz wx wy wz, m/s and rad/s, axes of the fixed frame or else the camera's
    first_ns: int  # stamp of the frame that it began with
    seen_ns: int  # stamp of the last frame in which it was detected
    box: np.ndarray  # [4] x_min, y_min, x_max, y_max pixels where it was last detected
    name: str = ""  # the detector's id for it, if the detector gives any
    metric: str = "box"  # what settled its distance: "box" or "depth"

    @property
    def confirmed(self) -> bool:
        """Whether it is known to be its best hypothesis' mesh."""
        return self.state is not TrackState.TENTATIVE and bool(self.hypotheses)


@dataclass(frozen=True)
class TrackTimings:
    """Wall time of one frame's parts, in seconds, and how much work they were."""

    associate: float = 0.0
    warm: float = 0.0  # all warm-started objects together
    search: float = 0.0  # all searches together
    total: float = 0.0
    warm_count: int = 0
    search_count: int = 0
    glance_count: int = 0  # objects that were seen where they were expected, and not looked at more closely


@dataclass(frozen=True)
class TrackedResult:
    """The tracker's answer for one frame."""

    stamp_ns: int
    objects: tuple[TrackedObject, ...]  # all tracks that are kept, oldest first
    ended: tuple[tuple[int, str], ...]  # tracks given up in this frame: id, reason
    deferred: tuple[Detection, ...]  # detections that the time budget did not reach; they go first next time
    rejected: tuple[tuple[Detection, str], ...]  # detections that could not be used, each with the reason
    notes: tuple[str, ...]  # what else the caller should know: clock jumps, depth that was not used
    timings: TrackTimings
