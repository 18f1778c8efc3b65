"""Opening a library and answering with it in a process that has done nothing else: seconds to open, memory, stage times.

`python -m pasr_perception.benchmark.fresh REQUEST.json` does it and prints JSON; `in_fresh_process` starts that. Before the
clock starts, Python has started and imports, encoder and compiled loops are loaded. The file cache is as the parent left it: warm.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pasr_perception.benchmark.measure import own_memory_mb, peak_memory_mb
from pasr_perception.config import PasrConfig, from_mapping
from pasr_perception.encoders import load_encoder
from pasr_perception.encoders.base import Encoder
from pasr_perception.kernels import prepare
from pasr_perception.library.store import MeshLibrary
from pasr_perception.pipeline import Pipeline
from pasr_perception.types import Camera, Detection, Frame, StageTimings

TIMEOUT_S = 900


@dataclass(frozen=True)
class FreshRequest:
    """What is asked of the fresh process. Without detections it only opens the library."""

    library: Path
    config: PasrConfig
    frame: Frame
    detections: tuple[Detection, ...]
    repeats: int
    threads: int


@dataclass(frozen=True)
class FreshAnswer:
    """What it measured."""

    open_seconds: float  # MeshLibrary.open
    ready_seconds: float  # and the pipeline on top: able to answer
    before_mb: float  # peak resident set with the encoder loaded, before the library is opened
    peak_mb: float  # peak resident set in the end, pages of mapped files included
    own_mb: float | None  # what of the resident set in the end is this process' own, mapped files left out
    timings: tuple[StageTimings, ...]  # of the repeats after the first


def measure(
    library_dir: Path, encoder: Encoder, device: torch.device, config: PasrConfig, photo: Frame
) -> tuple[Pipeline, FreshAnswer]:
    """Open a library, with nothing asked of it yet. `photo` warms the encoder up, whose first call is slow, as are kernels."""
    prepare()
    size = encoder.image_size
    encoder.encode(torch.as_tensor(np.resize(photo.image, (1, 3, size, size)), dtype=torch.uint8))
    before = peak_memory_mb()
    began = time.perf_counter()
    library = MeshLibrary.open(library_dir, expect_encoder=(encoder.name, encoder.fingerprint))
    opened = time.perf_counter()
    pipeline = Pipeline(library, encoder, config, device)
    ready = time.perf_counter()
    return pipeline, FreshAnswer(opened - began, ready - began, before, peak_memory_mb(), own_memory_mb(), timings=())


def answer(request: FreshRequest) -> FreshAnswer:
    """Do what is asked, in this process."""
    torch.set_num_threads(request.threads)
    encoder, device = load_encoder(request.config.encoder)
    pipeline, opened = measure(request.library, encoder, device, request.config, request.frame)
    timings = []
    for i in range(request.repeats + 1 if request.detections else 0):
        result = pipeline.detect(request.frame, request.detections)
        timings += [result.timings] if i else []
    return dataclasses.replace(opened, peak_mb=peak_memory_mb(), own_mb=own_memory_mb(), timings=tuple(timings))


def in_fresh_process(request: FreshRequest) -> FreshAnswer | str:
    """`answer` in a new process; a text saying what became of it where it did not answer."""
    with tempfile.TemporaryDirectory(prefix="pasr-bench-") as folder:
        path = Path(folder) / "request.json"
        _write(request, path)
        command = [sys.executable, "-m", "pasr_perception.benchmark.fresh", str(path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            return f"no answer within {TIMEOUT_S} s"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        ended = f"ended by signal {-done.returncode}" if done.returncode < 0 else f"ended with status {done.returncode}"
        return f"{ended}: {last}" if last else ended
    raw = json.loads(done.stdout.strip().splitlines()[-1])
    return FreshAnswer(**{**raw, "timings": tuple(StageTimings(**t) for t in raw["timings"])})


def _write(request: FreshRequest, path: Path) -> None:
    image = path.with_suffix(".npz")
    boxes = np.array([d.box for d in request.detections]).reshape(-1, 4)
    camera = request.frame.camera
    np.savez(image, image=request.frame.image, K=camera.K, distortion=camera.distortion, boxes=boxes)
    plain = {"library": str(request.library), "config": dataclasses.asdict(request.config)}
    path.write_text(json.dumps(plain | {"image": str(image), "repeats": request.repeats, "threads": request.threads}))


def _read(path: Path) -> FreshRequest:
    raw = json.loads(path.read_text())
    with np.load(raw["image"], allow_pickle=False) as arrays:
        height, width = arrays["image"].shape[:2]
        frame = Frame(arrays["image"], Camera(width, height, arrays["K"], arrays["distortion"]))
        detections = tuple(Detection(box, id=str(i)) for i, box in enumerate(arrays["boxes"]))
    config = from_mapping(PasrConfig, raw["config"])
    return FreshRequest(Path(raw["library"]), config, frame, detections, raw["repeats"], raw["threads"])


def main(arguments: Sequence[str]) -> None:
    """Answer the request file named by the one argument; the answer is the last line of the output."""
    sys.stdout.write(json.dumps(dataclasses.asdict(answer(_read(Path(arguments[0]))))) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
