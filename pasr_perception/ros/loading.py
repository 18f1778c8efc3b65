"""Opening a pipeline as parameters describe it, telling how far it is; the same encoder with another library; letting go of it."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pasr_perception.config import ConfigError, PasrConfig
from pasr_perception.ros.processing import PosePipeline

STILL_AT_IT_S = 5.0  # between two lines while one step goes on


def open_pipeline(library: str, config: PasrConfig, logger: Any) -> PosePipeline:
    """Load encoder and library. Raises ConfigError, LibraryError, OSError or ValueError if it cannot."""
    if not library:
        raise ConfigError("library: expected the folder of a library made by `pasr library build`, got ''")
    with progress(f"loading encoder {config.encoder.name!r} and library {library!r}", logger):
        from pasr_perception.pipeline import Pipeline  # brings torch and the encoders with it

        return Pipeline.open(Path(library).expanduser(), config)


def reopen_pipeline(pipeline: PosePipeline, library: str, logger: Any) -> PosePipeline:
    """The same encoder and settings with the library as it is on disk now; the given pipeline stays usable."""
    with progress(f"loading library {library!r}", logger):
        return pipeline.reopened(Path(library).expanduser())


def release_memory() -> None:
    """Give back what encoder and library held, on the GPU too."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def progress(what: str, logger: Any, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """Say what begins, that it still goes on, and how long it took."""
    started, done = clock(), threading.Event()
    logger.info(what)

    def tell() -> None:
        while not done.wait(STILL_AT_IT_S):
            logger.info(f"still {what} ({clock() - started:.0f} s)")

    teller = threading.Thread(target=tell, name="pasr progress", daemon=True)
    teller.start()
    try:
        yield
        logger.info(f"done {what} in {clock() - started:.1f} s")
    finally:
        done.set()
        teller.join()
