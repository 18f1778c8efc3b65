"""`pasr train ...`: what is learnt from meshes. Under torchrun every process runs the same command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pasr_perception.cli.terminal import errors_in_words, progress_bar

if TYPE_CHECKING:
    from pasr_perception.boxes.network import EdgeHead
    from pasr_perception.boxes.shown import ShownHead
    from pasr_perception.training.boxes import BoxTraining

train_app = typer.Typer(
    help="Train on meshes: point encoder, global embedding, feature adapter, backbone, box network.",
    no_args_is_help=True,
)

TrainPhotos = Annotated[Path, typer.Argument(help="Photos that `pasr data generate` made of meshes for training.")]
WatchedPhotos = Annotated[
    Path | None,
    typer.Option(help="Photos of meshes for validation, that say how good it is; default: the same folder."),
]
Weights = Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.")]
STOPPED = "stopped; finished epochs and observations are kept (go on with the same command and --resume)"


@train_app.callback()
def train() -> None:
    """Train on meshes: point encoder, global embedding, feature adapter, backbone, box network."""


@train_app.command()
def points(
    meshes: Annotated[list[Path], typer.Argument(help="Meshes to learn from: folders, files or manifests.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run: weights, curves, checkpoint.")],
    cache: Annotated[Path, typer.Option(help="Folder of the observations (about 5 MB a mesh); made or gone on with.")],
    preset: Annotated[
        str, typer.Option(help="paper: 300 epochs at 1e-4; cpu: an hour on one core, another loss.")
    ] = "cpu",
    exclude: Annotated[list[Path] | None, typer.Option(help="Meshes that must not be used, by id.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the preset's.")] = None,
    copies: Annotated[
        int | None,
        typer.Option(min=0, help="Stretched copies of each mesh to learn from too, instead of the preset's."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    encoder: Annotated[str, typer.Option(help="Image encoder: efficientnet-lite0, dinov2 or dinov3.")] = (
        "efficientnet-lite0"
    ),
    weights: Annotated[str, typer.Option(help="Folder or hub id of dinov2/dinov3 weights.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0 ...")] = "auto",
    begin_with: Annotated[str, typer.Option(help="Weights (.safetensors) to begin with.")] = "",
    cache_mb: Annotated[int, typer.Option(min=1, help="That the observations may take.")] = 8192,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the same command was stopped.")] = False,
) -> None:
    """Train the point encoder (PASR 3.4). Several processes: torchrun -m pasr_perception.cli train points ..."""
    with errors_in_words(STOPPED):
        import dataclasses

        from pasr_perception.config import EncoderConfig
        from pasr_perception.encoders.base import pick_device
        from pasr_perception.library.manifest import sources_from_paths
        from pasr_perception.training.config import PRESETS
        from pasr_perception.training.processes import joined_processes
        from pasr_perception.training.run import WEIGHTS, TrainRequest, observed, train_points

        if preset not in PRESETS:
            raise ValueError(f"--preset: expected one of {', '.join(PRESETS)}, got {preset!r}")
        base = PRESETS[preset]
        copied = base.copies if copies is None else copies
        recipe = dataclasses.replace(base, seed=seed, epochs=epochs or base.epochs, copies=copied)
        image_encoder = EncoderConfig(name=encoder, weights=weights, device=device)
        request = TrainRequest(
            output, cache, recipe, encoder=image_encoder, cache_mb=cache_mb, begin_with=begin_with, resume=resume
        )
        kept_out = {source.id for source in sources_from_paths(exclude)} if exclude else set()
        sources = [source for source in sources_from_paths(meshes) if source.id not in kept_out]
        with joined_processes(pick_device(device)) as processes:
            if processes.leads:
                with progress_bar(len(sources)) as tell:
                    observed(sources, request, tell)
            processes.wait()
            with progress_bar(None) as tell:
                result = train_points(request, processes, tell if processes.leads else lambda what, done, total: None)
            leads = processes.leads
    if leads:
        shown = result.validation
        typer.echo(
            f"{output / WEIGHTS}: alignment on held-out meshes {shown.known:.3f}, without colours {shown.bare:.3f}; "
            f"their points told apart with a loss of {shown.apart:.2f}"
        )


@train_app.command("global")
def global_embedding(
    cache: Annotated[Path, typer.Argument(help="Folder of observations that `pasr train points` made.")],
    output: Weights,
    steps: Annotated[int, typer.Option(min=2)] = 1500,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Train the global embedding, the contrastive baseline (CMIC), on the point encoder's observations."""
    with errors_in_words():
        import dataclasses

        from pasr_perception.data.split import meshes_of
        from pasr_perception.encoders.global_embedding import save_global
        from pasr_perception.training.cache import ObservationCache
        from pasr_perception.training.contrast import ContrastConfig, train_global

        observations = ObservationCache.open(cache)
        with progress_bar(steps) as tell:
            recipe = ContrastConfig(steps=steps, seed=seed)
            module, scores = train_global(observations, recipe, tell)
        header = observations.header
        card = {
            "recipe": dataclasses.asdict(recipe),
            "trained_on": meshes_of("train", (mesh.id for mesh in observations.meshes)),
            "validation": dataclasses.asdict(scores),
        }
        save_global(output, module, (str(header["encoder"]), str(header["fingerprint"])), card)
    typer.echo(f"{output}: of {scores.meshes} held-out meshes {scores.top1:.2f} found first, {scores.top5:.2f} in five")


@train_app.command()
def adapter(
    cache: Annotated[Path, typer.Argument(help="Folder of observations that `pasr train points` made.")],
    output: Weights,
    steps: Annotated[int, typer.Option(min=1)] = 2500,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Train the feature adapter (InexactCAD 3.1.1) on the point encoder's observations."""
    with errors_in_words():
        from pasr_perception.encoders.adapter import save_adapter
        from pasr_perception.training.adapter import AdaptConfig, card, train_adapter
        from pasr_perception.training.cache import ObservationCache

        observations, config = ObservationCache.open(cache), AdaptConfig(steps=steps, seed=seed)
        with progress_bar(steps) as tell:
            module = train_adapter(observations, config, tell)
        found = card(observations, config, module)
        header = observations.header
        save_adapter(output, module, (str(header["encoder"]), str(header["fingerprint"])), found)
    for name, scores in found["validation"].items():
        typer.echo(
            f"{name}: {scores['near']:.3f} of cells matched to their place, {scores['top1']:.3f} of meshes found"
        )


@train_app.command()
def backbone(
    photos: TrainPhotos,
    output: Weights,
    watched: WatchedPhotos = None,
    steps: Annotated[int, typer.Option(min=0, help="0: the published weights.")] = 700,
    learning_rate: Annotated[float, typer.Option(min=0, help="At its highest.")] = 1e-4,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Tune the last blocks of the default backbone on synthetic photos: places found again, meshes told apart."""
    with errors_in_words():
        import torch

        from pasr_perception.data.split import TRAIN, VALIDATION
        from pasr_perception.data.synthetic.photo_set import PhotoSet
        from pasr_perception.encoders.efficientnet_lite import EfficientNetLite
        from pasr_perception.encoders.tuned import save_backbone
        from pasr_perception.training.backbone import TuneConfig, tune
        from pasr_perception.training.mesh_views import ViewConfig, look_at_meshes

        encoder, seen = EfficientNetLite(torch.device("cpu")), ViewConfig(seed=seed)
        config = TuneConfig(steps=steps, learning_rate=learning_rate, seed=seed)
        with progress_bar(None) as tell:
            train = look_at_meshes(PhotoSet.open(photos), TRAIN, encoder, seen, tell)
            held_out = look_at_meshes(PhotoSet.open(watched or photos), VALIDATION, encoder, seen, tell)
            tuned = tune(encoder, train, held_out, config, tell)
        save_backbone(output, encoder.name, tuned)
    for name, scores in tuned.card["validation"].items():
        typer.echo(
            f"{name}: of held-out meshes {scores['matched']:.3f} of points matched, {scores['found']:.3f} of photos found, "
            f"loss {scores['loss']:.3f}"
        )


Crops = Annotated[int, typer.Option(min=1, help="Boxes to learn from; 0.1 MB each.")]
Steps = Annotated[int, typer.Option(min=0)]
Seed = Annotated[int, typer.Option(min=0)]


@train_app.command()
def boxes(
    photos: TrainPhotos,
    output: Weights,
    watched: WatchedPhotos = None,
    crops: Crops = 16000,
    steps: Steps = 900,
    seed: Seed = 0,
) -> None:
    """Train the network that makes loose boxes tight, on collages of synthetic photos."""
    with errors_in_words():
        from pasr_perception.training.boxes import BoxTraining, train_boxes

        held_out = _on_collages(train_boxes, photos, watched, BoxTraining(crops=crops, steps=steps, seed=seed), output)
    said, tight = held_out["said"], held_out["tightened"]
    typer.echo(
        f"held-out boxes: edges off by {said['error']:.3f} -> {tight['error']:.3f} of a side, "
        f"overlap {said['iou']:.3f} -> {tight['iou']:.3f}"
    )


@train_app.command()
def shown(
    photos: TrainPhotos,
    output: Weights,
    watched: WatchedPhotos = None,
    crops: Crops = 12000,
    steps: Steps = 900,
    seed: Seed = 0,
) -> None:
    """Train the network that sees which part of a box shows its object, on the collages that `boxes` learns from."""
    with errors_in_words():
        from pasr_perception.training.boxes import BoxTraining, train_shown

        held_out = _on_collages(train_shown, photos, watched, BoxTraining(crops=crops, steps=steps, seed=seed), output)
    typer.echo(
        f"held-out boxes: of cells that show the object and those said to, {held_out['shown']:.3f} are both; "
        f"{held_out['box']:.3f} if it were all of the box"
    )


def _on_collages(
    train: Callable[..., tuple[EdgeHead | ShownHead, dict[str, Any]]],
    photos: Path,
    watched: Path | None,
    config: BoxTraining,
    output: Path,
) -> dict[str, Any]:
    """Train a head of the box network and write it; returns its scores on held-out meshes."""
    from pasr_perception.boxes.weights import save_head
    from pasr_perception.data.split import TRAIN, VALIDATION
    from pasr_perception.data.synthetic.photo_set import PhotoSet
    from pasr_perception.training.collage import cutouts

    things = cutouts(PhotoSet.open(photos), TRAIN)
    others = cutouts(PhotoSet.open(watched or photos), VALIDATION)
    with progress_bar(None) as tell:
        head, card = train(things, others, config, tell)
    save_head(output, head, card)
    return card["held_out"]
