"""`pasr encoder …`: the feature statistics of the default encoder, made anew, or used in part."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pasr_perception.cli.terminal import errors_in_words, progress_bar

encoder_app = typer.Typer(help="Image encoders.", no_args_is_help=True)


@encoder_app.callback()
def encoders() -> None:
    """Image encoders."""


@encoder_app.command()
def fit(
    meshes: Annotated[list[Path], typer.Argument(help="Meshes to learn from: folders, files or manifests.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.")],
    exclude: Annotated[
        list[Path] | None, typer.Option(help="Meshes that must not be used, as the evaluation does (by id).")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many meshes to use.")] = 90,
    seed: Annotated[int, typer.Option(min=0)] = 1,
) -> None:
    """Fit whitening and discriminant of the default encoder's features on rendered meshes."""
    with errors_in_words():
        import torch

        from pasr_perception.encoders.efficientnet_lite import EfficientNetLite, unprojected
        from pasr_perception.encoders.fit import FitConfig, fit_projection
        from pasr_perception.encoders.projection import save_projection
        from pasr_perception.library.manifest import sources_from_paths

        kept_out = {source.id for source in sources_from_paths(exclude)} if exclude else set()
        sources = [source for source in sources_from_paths(meshes) if source.id not in kept_out]
        encoder = EfficientNetLite(torch.device("cpu"), unprojected())
        with progress_bar(count) as tell:
            projection = fit_projection(sources, encoder, FitConfig(meshes=count, seed=seed), tell)
        save_projection(projection, output)
    typer.echo(f"{output}: {projection.dim} channels, from {min(count, len(sources))} meshes, seed {seed}")


@encoder_app.command()
def vary(
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.")],
    whitened: Annotated[
        bool,
        typer.Option("--whitened/--not-whitened", help="Principal directions of a tap equally loud, or as they are."),
    ] = True,
    last_taps: Annotated[int, typer.Option(min=1, help="How many taps are heard, from the last one on.")] = 3,
    stable_share: Annotated[float, typer.Option(min=0, max=1, help="Squared length of the view-stable part.")] = 0.5,
) -> None:
    """Write a variant of the default encoder (for `encoder.weights`): the same network and statistics, used in part."""
    with errors_in_words():
        import torch

        from pasr_perception.encoders.efficientnet_lite import NAME, EfficientNetLite
        from pasr_perception.encoders.projection import varied
        from pasr_perception.encoders.tuned import TunedBackbone, save_backbone

        encoder = EfficientNetLite(torch.device("cpu"))
        projection = varied(encoder.projection, whitened, last_taps, stable_share)
        told = {"whitened": whitened, "last_taps": last_taps, "stable_share": stable_share}
        save_backbone(output, NAME, TunedBackbone(dict(encoder.tail.state_dict()), projection, {"varied": told}))
    typer.echo(f"{output}: {projection.dim} channels; name it in encoder.weights, and build a library with it")
