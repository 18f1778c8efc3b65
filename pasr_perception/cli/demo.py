"""`pasr demo` and `pasr real`: bag in, evaluated poses out, through the real node; what is already made is used again."""

from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from pasr_perception.cli.replay import Replay, replay
from pasr_perception.cli.terminal import errors_in_words, progress_bar

if TYPE_CHECKING:
    from pasr_perception.library.manifest import MeshSource

logger = logging.getLogger(__name__)

DEMO_FRAMES = 8
DEMO_SCENES = 4
DEMO_OBJECTS = 7
FRAME_BY_FRAME = ("tracking:=false",)  # these bags hold photos that have little to do with each other


def demo_command(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for everything that is made.")] = Path("out/demo"),
    frames: Annotated[int, typer.Option(min=1, help="Images in the simulated bag.")] = DEMO_FRAMES,
) -> None:
    """Fetch CAD meshes, build a library, simulate a camera bag, replay it through the node, evaluate."""
    from pasr_perception.cli.bag import simulate
    from pasr_perception.library.demo_meshes import fetch_demo

    meshes, library, bag = out / "meshes", out / "library", out / f"bag_{frames}"
    with errors_in_words():
        if not (meshes / "manifest.yaml").is_file():
            with progress_bar(None) as tell:
                fetch_demo(meshes, progress=tell)
        ready_library([meshes], library)
        if not (bag / "metadata.yaml").is_file():
            simulate(
                library, bag, frames=frames, scenes=DEMO_SCENES, objects=DEMO_OBJECTS, rate=2.0, seed=1, force=True
            )
    _replay_and_evaluate(bag, library, out, "PASR perception: simulated scene", given_mesh=False)


def real_command(
    data: Annotated[Path, typer.Option(help="Folder with hope_dev/ (and ycbv_000629/).")] = Path("../shared/real"),
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for everything that is made.")] = Path("out/real"),
    every: Annotated[
        int, typer.Option(min=1, help="Only every n-th photo; 6 takes one of each scene, each in another light.")
    ] = 1,
) -> None:
    """Replay real photos with known poses through the node, with the library of their 28 meshes, and evaluate."""
    from pasr_perception.data.bagio import write_frames
    from pasr_perception.data.bop import BopReader
    from pasr_perception.data.detector import DetectorSpec, with_detections

    photos = data / "hope_dev"
    if not (photos / "val").is_dir():
        Console().print(
            f"pasr real: skipped: no photos in {photos} (expected hope_dev/val in BOP layout)", soft_wrap=True
        )
        return
    library, bag = out / "library", out / f"bag_every_{every}"
    ready_library(_hope_sources(photos), library)
    if not (bag / "metadata.yaml").is_file():
        chosen = itertools.islice(BopReader(photos / "val"), 0, None, every)
        write_frames(bag, with_detections(chosen, DetectorSpec(jitter=0.05, min_visibility=0.3), 0), overwrite=True)
    _replay_and_evaluate(bag, library, out, "PASR perception: real photos (HOPE)", given_mesh=True)
    single = data / "ycbv_000629"
    if single.is_dir():
        _ycbv(single, out / "ycbv", library)


def ready_library(sources_or_paths: Sequence[Path | MeshSource], folder: Path) -> None:
    """Build the library unless one that holds these meshes, made with this encoder, is there; go on with an unfinished one."""
    from pasr_perception.config import EncoderConfig
    from pasr_perception.encoders import load_encoder
    from pasr_perception.library.build import add_to_library, build_library
    from pasr_perception.library.format import FeatureSource
    from pasr_perception.library.index import read_bank
    from pasr_perception.library.manifest import MeshSource, sources_from_paths
    from pasr_perception.library.resume import check_features
    from pasr_perception.library.store import LibraryError, MeshLibrary, delete_library

    sources: list[MeshSource] = []
    for item in sources_or_paths:
        sources += [item] if isinstance(item, MeshSource) else sources_from_paths([item])
    encoder, _ = load_encoder(EncoderConfig())
    try:
        present = MeshLibrary.open(folder, expect_encoder=(encoder.name, encoder.fingerprint))
        check_features(present, FeatureSource())
        missing = [s for s in sources if s.id not in {e.id for e in present.entries}]
        complete = read_bank(present) is not None and all(e.offset_std > 0 for e in present.entries)
        if not missing and complete:
            logger.info("library %s: %d meshes, used as it is", folder, len(present.entries))
            return
        with progress_bar(len(missing)) as tell:
            add_to_library(folder, missing, encoder, progress=tell)
        return
    except LibraryError as error:
        logger.info("building the library: %s", error)
    if (folder / "library.json").exists():
        delete_library(folder)
    with progress_bar(len(sources)) as tell:
        build_library(sources, folder, encoder, progress=tell)


def _hope_sources(photos: Path) -> list[MeshSource]:
    """HOPE's 28 meshes, coloured where the folder has colours; groceries lie and lean, so poses come from all of SO(3)."""
    from pasr_perception.library.manifest import MeshSource

    sources = []
    for plain in sorted((photos / "models").glob("obj_*.ply")):
        coloured = photos / "models_color" / plain.name
        sources.append(
            MeshSource(
                id=plain.stem,
                category="grocery",
                path=coloured if coloured.is_file() else plain,
                unit=0.001,
                licence="CC-BY-NC-SA-4.0",
                creator="HOPE, NVIDIA",
                appearance="known" if coloured.is_file() else "unknown",
                pose_set="so3",
                up="+z",
            )
        )
    return sources


def _ycbv(folder: Path, out: Path, hope_library: Path) -> None:
    """One YCB-V frame: the mustard bottle among HOPE's meshes, and two boxes that are in no library."""
    from pasr_perception.cli.bag import from_images
    from pasr_perception.library.manifest import MeshSource

    library = out / "library"
    source = MeshSource(
        id="mustard0",
        category="grocery",
        path=folder / "mustard0.obj",
        unit=1.0,
        licence="MIT",
        creator="YCB",
        appearance="auto",
        pose_set="so3",
        up="+z",
    )
    bag = out / "bag"
    if not library.exists():  # all but one of its meshes are those of the other photos
        shutil.copytree(hope_library, library)
    ready_library([*_hope_sources(folder.parent / "hope_dev"), source], library)
    if not (bag / "metadata.yaml").is_file():
        from_images(bag, folder, jitter=0.05, seed=0, force=True)
    _replay_and_evaluate(bag, library, out, "PASR perception: YCB-V frame", given_mesh=True)


def _replay_and_evaluate(bag: Path, library: Path, out: Path, title: str, given_mesh: bool) -> None:
    from pasr_perception.cli.bag import evaluate_command

    with errors_in_words():
        recorded = replay(Replay(bag, library, out, parameters=FRAME_BY_FRAME))
    evaluate_command(bag, recorded, library, out, given_mesh=given_mesh, title=title)
