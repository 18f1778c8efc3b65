"""The state of a training run as one safetensors file: weights, their average, the optimisers' moments; counters as JSON inside it.

Written beside its target and moved over it: a killed run finds its last whole state. Nothing is unpickled, ever.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from pasr_perception.library.files import write_atomically
from pasr_perception.training.ema import Averaged

CHECKPOINT = "checkpoint.safetensors"
MOMENTS = ("step", "exp_avg", "exp_avg_sq", "momentum")  # of AdamW and Muon


class TrainingError(RuntimeError):
    """A training run cannot begin or go on; the message says what does not fit and what to do."""


@dataclass(frozen=True)
class Counters:
    """How far a run has come, and what decides all that it does."""

    epoch: int  # finished
    step: int  # finished
    recipe: dict[str, Any]  # configuration and data; a run goes on only with the same


@dataclass(frozen=True)
class Trainee:
    """What a checkpoint is of."""

    module: nn.Module
    average: Averaged[Any]
    optimisers: tuple[torch.optim.Optimizer, ...]  # of the module's parameters, each in one of them

    @property
    def moved_by(self) -> dict[torch.Tensor, torch.optim.Optimizer]:
        """Which optimiser each parameter is in."""
        return {p: o for o in self.optimisers for group in o.param_groups for p in group["params"]}


def save_checkpoint(folder: Path, trainee: Trainee, counters: Counters) -> None:
    """Replace the folder's checkpoint."""
    tensors = {f"model.{name}": tensor for name, tensor in trainee.module.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in trainee.average.module.state_dict().items()}
    moved_by = trainee.moved_by
    for name, parameter in trainee.module.named_parameters():
        state = moved_by[parameter].state.get(parameter, {})
        tensors |= {f"moments.{name}.{moment}": state[moment] for moment in MOMENTS if moment in state}
    plain = {"state": json.dumps(vars(counters) | {"updates": trainee.average.updates})}
    packed = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_atomically(folder / CHECKPOINT, lambda file: save_file(packed, file, plain))


def load_checkpoint(folder: Path, trainee: Trainee, recipe: dict[str, Any]) -> Counters:
    """Put a run's last state into its model, average and optimisers.

    Raises TrainingError if there is none, it is damaged, or the run was begun with another recipe.
    """
    file = folder / CHECKPOINT
    try:
        with safe_open(file, framework="pt", device="cpu") as opened:
            state = json.loads((opened.metadata() or {})["state"])
            tensors = {name: opened.get_tensor(name) for name in sorted(opened.keys())}
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise TrainingError(f"{file}: is not a readable checkpoint ({error}); begin anew without --resume") from error
    changed = [name for name in sorted({*recipe, *state["recipe"]}) if recipe.get(name) != state["recipe"].get(name)]
    if changed:
        raise TrainingError(
            f"{file}: was begun with another {', '.join(changed)}; go on with what {file.parent} was begun with, or begin anew"
        )
    trainee.module.load_state_dict(_part(tensors, "model."))
    trainee.average.module.load_state_dict(_part(tensors, "average."))
    trainee.average.updates = int(state["updates"])
    moved_by = trainee.moved_by
    for name, parameter in trainee.module.named_parameters():
        moments = _part(tensors, f"moments.{name}.")
        if moments:
            device = parameter.device
            moved_by[parameter].state[parameter] = {
                moment: tensor if moment == "step" else tensor.to(device) for moment, tensor in moments.items()
            }
    return Counters(int(state["epoch"]), int(state["step"]), state["recipe"])


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
