"""How the point encoder is trained: the paper's preset, and one that a CPU core gets through in little more than an hour."""

from __future__ import annotations

from dataclasses import dataclass

SCHEDULES = ("constant", "cosine")
PRECISIONS = ("auto", "float32", "bfloat16")
AGAINST = ("views", "points")
OPTIMISERS = ("adamw", "muon")


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation. The defaults are PASR's (3.4): AdamW, lr 1e-4, decay 1e-2, batches of 8, 300 epochs."""

    epochs: int = 300
    batch_size: int = 8  # meshes per step and process
    against: str = "views"  # views: cells of single views (eq. 8) | points: points' means over all views of a look
    views: int = 2  # of each mesh per step, where it is against views
    copies: int = 0  # of each mesh, stretched along its axes, that are meshes to train on too
    optimiser: str = "adamw"  # adamw | muon: of matrices, AdamW of the rest, both at this rate
    learning_rate: float = 1e-4
    weight_decay: float = 1e-2
    schedule: str = "constant"  # constant | cosine: down to a hundredth
    warmup_steps: int = 0
    contrast: float = 0.0  # weight of `telling_apart.contrast` beside the alignment; 0 = the paper's loss
    contrast_members: int = 512  # cells or points of a batch that are told apart
    contrast_temperature: float = 0.07
    clip_norm: float = 1.0  # of the gradient
    ema_decay: float = 0.999  # of the averaged weights that are validated and shipped; 0 = the last weights
    precision: str = "auto"  # auto: bfloat16 products on CUDA, float32 on a CPU
    validate_every: int = 5  # epochs
    validation_meshes: int = 32  # at most
    checkpoint_every_s: float = 60.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "views", "validate_every", "validation_meshes"):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "clip_norm", "contrast_temperature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"train.{name}: expected more than 0, got {getattr(self, name)}")
        for name in ("copies", "weight_decay", "warmup_steps", "contrast", "checkpoint_every_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"train.{name}: expected 0 or more, got {getattr(self, name)}")
        if self.contrast_members < 2:
            raise ValueError(f"train.contrast_members: expected at least 2, got {self.contrast_members}")
        if self.contrast and self.batch_size < 2:
            raise ValueError(
                "train.contrast: expected batches of at least 2 meshes to tell apart, got train.batch_size 1"
            )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"train.ema_decay: expected 0 or more and less than 1, got {self.ema_decay}")
        words = (("against", AGAINST), ("optimiser", OPTIMISERS), ("schedule", SCHEDULES), ("precision", PRECISIONS))
        for name, known in words:
            if getattr(self, name) not in known:
                raise ValueError(f"train.{name}: expected one of {', '.join(known)}, got {getattr(self, name)!r}")


PAPER = TrainConfig()
# 578 meshes and a stretched copy of each: 145 steps of 1.5 s an epoch, an hour and a quarter on one free core
CPU = TrainConfig(
    epochs=20,
    against="points",
    views=3,
    copies=1,
    optimiser="muon",
    learning_rate=2e-3,
    schedule="cosine",
    warmup_steps=40,
    contrast=0.1,
    ema_decay=0.99,
)
PRESETS = {"paper": PAPER, "cpu": CPU}
