"""The options that `pasr library build` and `add` share, as one object that each of them gets."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from pasr_perception.config import PasrConfig
    from pasr_perception.library.format import LibraryHeader
    from pasr_perception.library.manifest import MeshSource


@dataclass(frozen=True)
class MeshOptions:
    """How meshes are read where their manifest does not say, and how they are built."""

    unit: Annotated[str, typer.Option(help="Length unit of the files: m, cm, mm, in, ft or metres per unit.")] = "m"
    category: Annotated[str, typer.Option(help="Category of meshes whose folder or manifest names none.")] = "object"
    appearance: Annotated[str, typer.Option(help="known: colours are those of the real thing; unknown; or auto.")] = (
        "auto"
    )
    pose_set: Annotated[str, typer.Option(help="upright: things that stand; so3: any orientation.")] = "so3"
    up: Annotated[str, typer.Option(help="The meshes' own axis that points up, e.g. +y or +z (for upright).")] = "+y"
    licence: Annotated[str, typer.Option(help="Licence of the meshes, kept with each.")] = "unknown"
    creator: Annotated[str, typer.Option(help="Who made the meshes, kept with each.")] = "unknown"
    config: Annotated[Path | None, typer.Option("--config", help="YAML file of settings (see config/pasr.yaml).")] = (
        None
    )
    encoder: Annotated[str | None, typer.Option("--encoder", help="efficientnet-lite0, dinov2 or dinov3.")] = None
    weights: Annotated[
        str | None, typer.Option(help="Folder or hub id of dinov2/dinov3 weights; or a file of `pasr train backbone`.")
    ] = None
    features: Annotated[
        str | None,
        typer.Option(
            help="Point features: lifted, learned, both, or auto: both for meshes without colour (add: as the library has them)."
        ),
    ] = None
    point_encoder: Annotated[str | None, typer.Option(help="Weights of a point encoder (pasr train points).")] = None
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:0 ...")] = None
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the same command was stopped: meshes that are there are kept.")
    ] = False

    def sources(self, meshes: list[Path]) -> list[MeshSource]:
        """The meshes that files, folders and manifests stand for."""
        from pasr_perception.library.manifest import SourceDefaults, parse_unit, sources_from_paths

        unit = parse_unit(self.unit)
        defaults = SourceDefaults(
            unit, self.category, self.licence, self.creator, self.appearance, self.pose_set, self.up
        )
        return sources_from_paths(meshes, defaults)

    def settings(self, header: LibraryHeader | None = None) -> PasrConfig:
        """The settings of the file, with what was said on the command line; what was not is as in `header`, if there is one."""
        from pasr_perception.config import PasrConfig, load_config
        from pasr_perception.library.opening import encoder_for

        settings = load_config(self.config) if self.config else PasrConfig()
        name = self.encoder or (header and header.encoder_name)
        encoder = _said(name=name, weights=self.weights, device=self.device)
        library = _said(features=self.features or (header and header.features.kind), point_encoder=self.point_encoder)
        if header and header.features.kind in ("both", "auto"):
            library["learned_share"] = header.features.share
        wanted = dataclasses.replace(settings.encoder, **encoder)
        return dataclasses.replace(
            settings,
            encoder=encoder_for(header, wanted) if header else wanted,
            library=dataclasses.replace(settings.library, **library),
        )


def _said(**options: Any) -> dict[str, Any]:
    """Those options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def with_mesh_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command whose argument `options` is spelt out as the options of MeshOptions."""
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "options"]
    hints = get_type_hints(MeshOptions, include_extras=True)
    named = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
        for f in dataclasses.fields(MeshOptions)
    ]

    @functools.wraps(command)
    def spelt_out(**given: Any) -> None:
        command(options=MeshOptions(**{p.name: given.pop(p.name) for p in named}), **given)

    everything = sorted([*own, *named], key=lambda p: p.default is not inspect.Parameter.empty)
    spelt_out.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in everything]
    )
    spelt_out.__annotations__ = {p.name: p.annotation for p in everything}
    return spelt_out
