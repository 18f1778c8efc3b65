"""One frozen dataclass per stage, with its checks; YAML only overrides. Unknown keys and bad values fail by name."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")


class ConfigError(ValueError):
    """A configuration value that cannot be used; the message names the field, the rule and the value."""


def _require(rule: bool, name: str, expected: str, got: object) -> None:
    if not rule:
        raise ConfigError(f"{name}: expected {expected}, got {got!r}")


@dataclass(frozen=True)
class EncoderConfig:
    """Which 2D foundation model gives the patch features."""

    name: str = "efficientnet-lite0"  # efficientnet-lite0 | dinov2 | dinov3
    weights: str = ""  # dinov2/dinov3: local folder or hub id; else a file of pasr train backbone; empty = published
    image_size: int = 0  # of efficientnet-lite0's crops, pixels, a multiple of 16; 0 = the library's, 448 for a new one
    device: str = "auto"  # auto | cpu | cuda | cuda:0 ...
    batch_size: int = 0  # crops per forward pass; 0 = one on a CPU, whose caches hold no more, eight elsewhere
    precision: str = "auto"  # of the network: float32 | bfloat16 | auto: bfloat16 on CUDA, float32 on a CPU
    compile: bool = False  # by torch.compile, half a minute at the start; on a CPU it pays little (docs/performance.md)
    adapter: str = ""  # weights of a feature adapter (pasr train adapter); empty = none
    adapter_share: float = 0.15  # of adapted features in what is compared

    def __post_init__(self) -> None:
        known = ("efficientnet-lite0", "dinov2", "dinov3")
        _require(self.name in known, "encoder.name", f"one of {', '.join(known)}", self.name)
        if self.image_size:
            fits = self.image_size % 16 == 0 and 64 <= self.image_size <= 1024
            _require(fits, "encoder.image_size", "0, or a multiple of 16 from 64 to 1024", self.image_size)
            _require(self.sizes, "encoder.image_size", f"0 with {self.name}, whose size is fixed", self.image_size)
        _require(self.batch_size >= 0, "encoder.batch_size", "0 or more", self.batch_size)
        precisions = ("auto", "float32", "bfloat16")
        _require(self.precision in precisions, "encoder.precision", f"one of {', '.join(precisions)}", self.precision)
        _require(0 <= self.adapter_share <= 1, "encoder.adapter_share", "0..1", self.adapter_share)

    @property
    def sizes(self) -> bool:
        """Whether the encoder takes crops of several sizes."""
        return self.name == "efficientnet-lite0"


@dataclass(frozen=True)
class BoxConfig:
    """Whether detections' boxes are made tight before anything looks through them (`boxes/`)."""

    tighten: bool = True  # for boxes off by more than some 3 %; off where edges are exact
    gain: float = 0.85  # of where the network sees an edge against where the detector does
    weights: str = ""  # a file of pasr train boxes; empty = those of the package
    shown_weights: str = (
        ""  # a file of pasr train shown, which says what cells show an object; empty = those of the package
    )

    def __post_init__(self) -> None:
        _require(0 < self.gain <= 1, "boxes.gain", "more than 0, at most 1", self.gain)


@dataclass(frozen=True)
class CoarseConfig:
    """Search over meshes x poses by PASR eq. 8: approximately over the whole library, then exactly over a shortlist."""

    method: str = "shortlist"  # shortlist | exhaustive: every pose of every mesh exactly
    first_meshes: int = 512  # meshes that remain after a look at 48 templates of each
    second_meshes: int = 128  # of these, after a look at 192
    shortlist_meshes: int = 32  # of these, after a look at all: meshes that may be looked at exactly
    poses_each: int = 8  # poses of each of them that are
    poses_more: int = 192  # poses that are besides, of all of them together
    exact_poses: int = 64  # of all these, after a look at their leading channels: poses that are scored exactly
    window: float = 6.0  # spreads of margin behind the best, by each of these looks, up to which poses go on; 0 = all
    top_k: int = 32  # candidates kept over all meshes
    per_mesh: int = 6  # distinct poses of one mesh among them at most
    outline_weight: float = 0.12  # similarity that a box aspect wrong by a factor e costs
    colour_weight: float = 2.0  # spreads of margin that colours which agree are worth (`chroma.py`); 0 = not compared
    resident_mb: int = 2048  # meshes held ready on the device: about 3 MB each, 18 on a GPU with 2000 poses

    def __post_init__(self) -> None:
        known = ("shortlist", "exhaustive")
        _require(self.method in known, "coarse.method", f"one of {', '.join(known)}", self.method)
        for name in ("shortlist_meshes", "poses_each", "exact_poses", "top_k", "resident_mb"):
            _require(getattr(self, name) >= 1, f"coarse.{name}", "at least 1", getattr(self, name))
        narrowing = f"{self.shortlist_meshes} (shortlist_meshes)..{self.first_meshes} (first_meshes)"
        fits = self.shortlist_meshes <= self.second_meshes <= self.first_meshes
        _require(fits, "coarse.second_meshes", narrowing, self.second_meshes)
        _require(self.poses_more >= 0, "coarse.poses_more", "0 or more", self.poses_more)
        _require(1 <= self.per_mesh <= self.top_k, "coarse.per_mesh", f"1..top_k={self.top_k}", self.per_mesh)
        for name in ("window", "outline_weight", "colour_weight"):
            _require(getattr(self, name) >= 0, f"coarse.{name}", "0 or more", getattr(self, name))


@dataclass(frozen=True)
class BankConfig:
    """How far a library's templates are compressed for the shortlist (fixed when a library is built)."""

    blocks: int = 7  # a feature map is averaged over this many blocks a side
    channels: int = 128  # principal channels of the features
    rank: int = 512  # numbers per template, 1 byte each

    def __post_init__(self) -> None:
        for name in ("blocks", "channels", "rank"):
            _require(getattr(self, name) >= 1, f"library.bank.{name}", "at least 1", getattr(self, name))


@dataclass(frozen=True)
class RefineConfig:
    """Refinement of the best candidates: Newton's method, or AdamW as published (lr 0.01, decay 0.01, 50 steps; PASR 3.3)."""

    method: str = "newton"  # newton | adamw
    top_k: int = 20  # candidates that are refined; the others keep their coarse pose and score
    window: float = 5.0  # spreads of margin behind the best up to which the others of them are refined; 0 = all of them
    unknowns: int = 6  # 3: rotation, 5: and shift in the crop, 6: and scale, for loose boxes; newton only
    iterations: int = 2  # of newton, one rendering each; 1 is enough for 3 unknowns; 0 turns refinement off
    finalists: int = 3  # of newton: candidates that go on after the first iteration, the others rest there
    again: int = 4  # of newton: poses more of the winner's mesh, searched for alone, that are refined too; 0 = none
    polish: int = (
        3  # of newton: rounds in the end in which the winner takes the best of nine poses, within 6, 4, 2 degrees
    )
    robust_scale: float = 3.0  # of newton: pixels whose residual is this many medians pull a quarter; 0 = all alike
    coverage_weight: float = 0.35  # of newton with 5 or 6 unknowns: share of the similarity that missing the box costs
    contour_weight: float = 28.0  # spreads of margin between a contour that the crop shows and none; 0 = not looked at
    shown_share: float = 1.0  # of similarity that only cells which show the object have a say in; 0 = all cells alike
    steps: int = 50  # of adamw; 0 turns refinement off
    learning_rate: float = 0.01  # of AdamW, radians
    weight_decay: float = 0.01  # of AdamW, pulls towards the start

    @property
    def moves_in_image(self) -> bool:
        """Whether shift or scale are unknowns; AdamW has the published three."""
        return self.method == "newton" and self.unknowns > 3

    @property
    def searches_again(self) -> bool:
        return self.method == "newton" and self.again > 0

    @property
    def polished(self) -> bool:
        return self.method == "newton" and self.polish > 0

    @property
    def enabled(self) -> bool:
        return (self.iterations if self.method == "newton" else self.steps) > 0

    def __post_init__(self) -> None:
        known = ("newton", "adamw")
        _require(self.method in known, "refine.method", f"one of {', '.join(known)}", self.method)
        _require(self.top_k >= 1, "refine.top_k", "at least 1", self.top_k)
        _require(self.finalists >= 1, "refine.finalists", "at least 1", self.finalists)
        _require(self.unknowns in (3, 5, 6), "refine.unknowns", "3, 5 or 6", self.unknowns)
        for name in ("iterations", "again", "polish", "steps"):
            _require(getattr(self, name) >= 0, f"refine.{name}", "0 or more", getattr(self, name))
        for name in ("window", "robust_scale", "coverage_weight", "contour_weight", "weight_decay"):
            _require(getattr(self, name) >= 0, f"refine.{name}", "0 or more", getattr(self, name))
        _require(0 <= self.shown_share <= 1, "refine.shown_share", "0..1", self.shown_share)
        scale_is_held = self.unknowns == 3 or self.coverage_weight > 0
        _require(scale_is_held, "refine.coverage_weight", "more than 0 with 5 or 6 unknowns", self.coverage_weight)
        _require(self.learning_rate > 0, "refine.learning_rate", "more than 0", self.learning_rate)


@dataclass(frozen=True)
class ReframeConfig:
    """Looking again through the box that the best candidate explains best (`reframe.py`); for boxes off by a tenth or more."""

    rounds: int = 0  # looks after the first; 0 = detected boxes are taken as they are
    gain: float = 0.7  # of the explained box against the one that was looked through
    least_change: float = 0.05  # of their overlap; boxes that differ less are not looked through again
    iterations: int = 5  # of refining the best hypothesis with shift and scale
    coverage_weight: float = 0.15  # of that: share of the similarity that missing the box costs

    def __post_init__(self) -> None:
        _require(self.rounds >= 0, "reframe.rounds", "0 or more", self.rounds)
        _require(0 < self.gain <= 1, "reframe.gain", "more than 0, at most 1", self.gain)
        _require(0 <= self.least_change < 1, "reframe.least_change", "0 or more, below 1", self.least_change)
        _require(self.iterations >= 1, "reframe.iterations", "at least 1", self.iterations)
        _require(self.coverage_weight > 0, "reframe.coverage_weight", "more than 0", self.coverage_weight)


@dataclass(frozen=True)
class RankConfig:
    """Ordering and scoring of the final hypotheses."""

    hypotheses: int = 5  # how many ranked hypotheses an object carries
    known_margin: float = 0.015  # similarity that a mesh of known colours must beat strangers by more than a bare one
    own_spread: float = (
        0.5  # how much a mesh's own spread of strangers counts against the library's typical one, in logarithms
    )

    def __post_init__(self) -> None:
        _require(self.hypotheses >= 1, "rank.hypotheses", "at least 1", self.hypotheses)
        for name in ("known_margin", "own_spread"):
            _require(0 <= getattr(self, name) <= 1, f"rank.{name}", "0..1", getattr(self, name))


@dataclass(frozen=True)
class ConfidenceConfig:
    """From margins to probabilities (`confidence.py`); fitted by `evaluation/calibration.py` on simulated scenes."""

    slope: float = 0.324  # log-odds that one spread of margin above the strangers is worth
    intercept: float = -3.376  # log-odds of a hypothesis whose margin is that of a stranger
    accept: float = 0.5  # probability from which an object is taken for its best mesh, else it is unknown
    ambiguity: float = 0.25  # a second mesh at least this probable, relative to the best, is reported as look-alike

    def __post_init__(self) -> None:
        _require(self.slope > 0, "confidence.slope", "more than 0", self.slope)
        _require(0 < self.accept < 1, "confidence.accept", "between 0 and 1", self.accept)
        _require(0 < self.ambiguity <= 1, "confidence.ambiguity", "above 0, at most 1", self.ambiguity)


@dataclass(frozen=True)
class SupportConfig:
    """The surface that most objects of a photo stand on, and what it says of distances and meshes (`support.py`)."""

    enabled: bool = True  # look for such a surface in a photo of several objects
    least: int = 4  # objects from which on it is looked for; with a few it says little
    near: float = 0.07  # spread of distances by boxes, as a share of the distance, of what is found too near
    far: float = 0.14  # of what is found too far: a box around the visible part of an object is too small
    contact: float = 0.02  # spread of where objects touch the surface, as a share of their distance
    strays: float = 0.2  # chance that an object stands elsewhere

    def __post_init__(self) -> None:
        _require(self.least >= 4, "support.least", "at least 4 (three always have one surface)", self.least)
        for name in ("near", "far", "contact"):
            _require(0 < getattr(self, name) <= 1, f"support.{name}", "more than 0, at most 1", getattr(self, name))
        _require(0 < self.strays < 1, "support.strays", "between 0 and 1", self.strays)


@dataclass(frozen=True)
class DepthConfig:
    """Use of a registered depth map where a frame has one (`depth.py`)."""

    enabled: bool = True  # refine translations against depth where there is any
    max_age_s: float = 0.1  # stamps of depth and image may differ by this much, else depth is stale and not used [s]
    min_pixels: int = 40  # of an object that depth must explain, else its translation stays that of the box
    tells_size: bool = True  # a mesh whose size does not go with the measured distance is less probable

    def __post_init__(self) -> None:
        _require(self.max_age_s >= 0, "depth.max_age_s", "0 or more", self.max_age_s)
        _require(self.min_pixels >= 6, "depth.min_pixels", "at least 6", self.min_pixels)


@dataclass(frozen=True)
class TrackConfig:
    """Tracking over frames: association, prediction, warm start, identity over time, time budget."""

    budget_s: float = 0.5  # time that one frame may take; what does not fit waits, most needed first [s]
    search_share: float = 0.5  # of the budget that searches may take while tracked objects wait
    refined: int = 5  # candidates that a search of a track refines at most; more win single photos and lose over time
    contour_weight: float = 0.0  # `refine.contour_weight` of tracks; those of look-alikes mislead when summed over time
    iterations: int = 2  # of refinement from a predicted pose, one rendering each
    unknowns: int = 6  # of that refinement: 3: rotation, 5: and shift in the crop, 6: and scale
    confirm: float = 0.95  # probability of the best mesh from which a tentative track is tracked
    confirm_looks: int = 2  # searches that it takes at least, and that must agree on its pose
    identity_step: float = 3.0  # log-evidence for a mesh that one frame can add or take at most
    identity_limit: float = 8.0  # log-evidence that is ever gathered, so that a mistake can be corrected
    look_again_s: float = 1.0  # an object at rest where it is expected is looked at again after this; 0 = always [s]
    rival_every: int = 5  # of the looks at a tracked object, every n-th compares its rivals as well
    min_iou: float = 0.1  # overlap of predicted and detected box below which they are not the same object
    appearance_weight: float = 0.3  # of colours against overlap in association
    coast_s: float = 1.0  # a tracked object not detected for this long is lost [s]
    forget_s: float = 30.0  # a lost object is given up after this long [s]
    tentative_s: float = 2.0  # a tentative track not detected for this long is given up [s]
    max_gap_s: float = 2.0  # stamps further apart than this: poses are no longer predicted, objects are searched [s]
    search_again_s: float = (
        1.0  # what no mesh explains is searched again after this, then twice that, up to 5 times [s]
    )
    acceleration: float = 1.0  # of objects at most, standard deviation [m/s^2 at 1 m distance, rad/s^2]
    rest_speed: float = 0.02  # slower than this an object may be at rest [m/s at 1 m distance, rad/s]

    def __post_init__(self) -> None:
        for name in ("budget_s", "coast_s", "forget_s", "tentative_s", "max_gap_s", "search_again_s", "acceleration"):
            _require(getattr(self, name) > 0, f"track.{name}", "more than 0", getattr(self, name))
        for name in ("identity_step", "identity_limit", "rest_speed"):
            _require(getattr(self, name) > 0, f"track.{name}", "more than 0", getattr(self, name))
        for name in ("look_again_s", "contour_weight"):
            _require(getattr(self, name) >= 0, f"track.{name}", "0 or more", getattr(self, name))
        for name in ("search_share", "min_iou", "appearance_weight"):
            _require(0 <= getattr(self, name) <= 1, f"track.{name}", "0..1", getattr(self, name))
        for name in ("refined", "iterations", "confirm_looks", "rival_every"):
            _require(getattr(self, name) >= 1, f"track.{name}", "at least 1", getattr(self, name))
        _require(self.unknowns in (3, 5, 6), "track.unknowns", "3, 5 or 6", self.unknowns)
        _require(0.5 <= self.confirm < 1, "track.confirm", "0.5 or more, below 1", self.confirm)
        _require(self.forget_s >= self.coast_s, "track.forget_s", f"at least coast_s={self.coast_s}", self.forget_s)


@dataclass(frozen=True)
class LibraryConfig:
    """How meshes become a library. Crop geometry and splatting chosen here hold for every query of that library."""

    points: int = 4096  # area-weighted surface samples per mesh (PASR supplementary A)
    features: str = "lifted"  # lifted: from rendered views | learned: by a point encoder | both | auto: both if bare
    point_encoder: str = ""  # weights of a point encoder (pasr train points); empty = the package's own
    learned_share: float = 0.3  # of learned features in `both` and `auto`
    lifted_from: str = ""  # a lifted library whose views of the same meshes are used instead of rendering them again
    views: int = 36  # rendered views that features are lifted from, for the so3 pose set
    upright_views: int = 24  # the same for the upright one, which looks from a part of the sphere only
    supersample: int = 2  # rays per pixel side; sharp views are worth it
    fill: float = 0.8  # share of the crop that the longer side of an object's box covers
    distance: float = 6.0  # of the virtual camera, in object radii
    splat_radius_px: float = 0.74  # PASR's 0.04 at 37 px
    points_per_pixel: int = 8
    depth_band: float = 0.15  # of the object's radius: points this far behind a pixel's nearest are hidden
    strangers: int = 40  # crops of an unrelated photo that each mesh's offset is measured on
    batch_size: int = 8  # views per forward pass
    bank: BankConfig = field(default_factory=BankConfig)
    workers: int = 0  # meshes built at a time; 0 = one per core, 8 at most
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("points", "views", "upright_views", "supersample", "points_per_pixel", "strangers", "batch_size"):
            _require(getattr(self, name) >= 1, f"library.{name}", "at least 1", getattr(self, name))
        known = ("lifted", "learned", "both", "auto")
        _require(self.features in known, "library.features", f"one of {', '.join(known)}", self.features)
        _require(0 < self.learned_share < 1, "library.learned_share", "more than 0 and less than 1", self.learned_share)
        _require(self.strangers >= 2, "library.strangers", "at least 2 (a spread is measured)", self.strangers)
        _require(self.workers >= 0, "library.workers", "0 or more", self.workers)
        _require(self.splat_radius_px > 0, "library.splat_radius_px", "more than 0", self.splat_radius_px)
        _require(self.depth_band > 0, "library.depth_band", "more than 0", self.depth_band)


@dataclass(frozen=True)
class PasrConfig:
    """Everything that can be set. `library` matters when one is built; a query takes its geometry from the library."""

    boxes: BoxConfig = field(default_factory=BoxConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    coarse: CoarseConfig = field(default_factory=CoarseConfig)
    refine: RefineConfig = field(default_factory=RefineConfig)
    rank: RankConfig = field(default_factory=RankConfig)
    reframe: ReframeConfig = field(default_factory=ReframeConfig)
    confidence: ConfidenceConfig = field(default_factory=ConfidenceConfig)
    support: SupportConfig = field(default_factory=SupportConfig)
    depth: DepthConfig = field(default_factory=DepthConfig)
    track: TrackConfig = field(default_factory=TrackConfig)
    library: LibraryConfig = field(default_factory=LibraryConfig)


def from_mapping(cls: type[T], data: Mapping[str, Any], where: str = "") -> T:
    """Build the (possibly nested) dataclass `cls` from a plain mapping; unknown keys and wrong types raise ConfigError."""
    assert dataclasses.is_dataclass(cls)
    hints = typing.get_type_hints(cls)
    known = {f.name for f in fields(cls)}
    values: dict[str, Any] = {}
    for key, value in data.items():
        name = f"{where}.{key}" if where else str(key)
        if key not in known:
            raise ConfigError(f"{name}: unknown key; known keys here: {', '.join(sorted(known))}")
        values[key] = _convert(hints[key], value, name)
    return cls(**values)


def _convert(kind: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(kind):
        _require(isinstance(value, Mapping), name, "a mapping of settings", value)
        return from_mapping(kind, value, name)  # type: ignore[arg-type]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind in (int, float, str, bool):
        _require(type(value) is kind, name, kind.__name__, value)
    return value


def load_config(path: str | Path) -> PasrConfig:
    """Read a YAML file of overrides, e.g. `refine: {steps: 20}`; an empty file is the defaults."""
    data = yaml.safe_load(Path(path).read_text()) or {}
    _require(isinstance(data, Mapping), str(path), "a mapping of settings", data)
    return from_mapping(PasrConfig, data)
