"""`pasr bench`: which library and photos it takes, what it writes, and how it fails. The measuring is tested elsewhere."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from pasr_perception import encoders
from pasr_perception.benchmark import queries, run
from pasr_perception.benchmark.figures import Figure
from pasr_perception.benchmark.machine import machine_facts
from pasr_perception.benchmark.plan import QUICK, BenchPlan, Subject
from pasr_perception.benchmark.queries import Query
from pasr_perception.benchmark.report import About, BenchReport, Headline
from pasr_perception.benchmark.stages import Samples, stage_row
from pasr_perception.cli import app
from pasr_perception.geometry.se3 import make_T
from pasr_perception.library import opening
from pasr_perception.types import StageTimings


def pasr(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})


def report() -> BenchReport:
    figures = {f.name: Figure(2.0, 1.0, 3.0, "x", "note") for f in dataclasses.fields(Headline)}
    rows = tuple(stage_row(Samples((StageTimings(0.01, 0.1, 0.1),), ()), n, 10, 1) for n in (10, 100))
    about = About("lib", 3, ("so3",), "encoder", 24, 14, 2000, 800, "photos", 1, True, 0, 1.0)
    return BenchReport(
        Headline(**figures), rows, (), (("track", "none yet"),), machine_facts(torch.device("cpu")), about
    )


@pytest.fixture
def asked(bench: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Subject, BenchPlan]]:
    """What was to be measured; the report is made up, and simulated photos are one photo."""
    found: list[tuple[Subject, BenchPlan]] = []

    def measure(subject: Subject, plan: BenchPlan, work: Path, tell: Any) -> BenchReport:
        found.append((subject, plan))
        return report()

    frame, detection = bench.photograph("block", make_T(np.eye(3), np.array([-0.5, 0.1, 1.4])))
    monkeypatch.setattr(run, "run", measure)
    monkeypatch.setattr(queries, "simulated_queries", lambda *_: [Query(frame, detection, None)])
    monkeypatch.setattr(queries, "bag_queries", lambda bag: [Query(frame, detection, None)] * 2)
    for module in (encoders, opening):
        monkeypatch.setattr(module, "load_encoder", lambda config: (bench.encoder, torch.device("cpu")))
    return found


def test_it_writes_json_and_plot_and_prints_tables(
    asked: list[tuple[Subject, BenchPlan]], library_path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "figures" / "b.json"
    done = pasr("bench", "--library", library_path, "--json", out, "--quick", "--seed", 5)
    assert done.exit_code == 0, done.output
    plain = json.loads(out.read_text())
    assert plain["coarse_speedup_vs_render"] == 2.0
    assert plain["coarse_speedup_vs_render_spread"] == [1.0, 3.0]
    assert "coarse_speedup_vs_render" in done.output
    assert "not measured: track: none yet" in done.output
    assert out.with_suffix(".png").is_file() == ("plot:" in done.output)
    (subject, plan), *rest = asked
    assert not rest
    assert subject.library.path == library_path
    assert subject.photos == "6 simulated photos of the library's meshes"
    assert plan == dataclasses.replace(QUICK, seed=5)


def test_a_bag_gives_the_photos(asked: list[tuple[Subject, BenchPlan]], library_path: Path, tmp_path: Path) -> None:
    done = pasr("bench", "-l", library_path, "--bag", tmp_path / "bag", "--json", tmp_path / "b.json")
    assert done.exit_code == 0, done.output
    assert asked[0][0].photos == f"bag {tmp_path / 'bag'}"
    assert len(asked[0][0].queries) == 2
    assert asked[0][1] == BenchPlan()


def test_the_demos_library_and_bag_are_taken_where_they_are(
    asked: list[tuple[Subject, BenchPlan]], library_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(library_path, tmp_path / "out/demo/library")
    (tmp_path / "out/demo/bag_8").mkdir()
    (tmp_path / "out/demo/bag_8/metadata.yaml").touch()
    done = pasr("bench", "--quick")
    assert done.exit_code == 0, done.output
    assert asked[0][0].library.path == tmp_path / "out/demo/library"
    assert asked[0][0].photos == "bag out/demo/bag_8"
    assert (tmp_path / "out/bench/bench.json").is_file()


def test_without_a_demo_a_library_is_built_of_its_meshes(
    bench: Any, asked: list[tuple[Subject, BenchPlan]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pasr_perception.cli import demo

    monkeypatch.chdir(tmp_path)
    meshes = tmp_path / "out/demo/meshes"
    meshes.mkdir(parents=True)
    for source in bench.sources:
        shutil.copy(source.path, meshes / source.path.name)
    (meshes / "manifest.yaml").write_text(
        "meshes:\n" + "".join(f"- {{path: {s.path.name}, unit: mm}}\n" for s in bench.sources)
    )
    built: list[tuple[list[str], Path]] = []

    def build(sources: Any, folder: Path) -> None:
        built.append((sorted(s.id for s in sources), folder))
        raise ValueError("far enough")

    monkeypatch.setattr(demo, "ready_library", build)
    done = pasr("bench", "--quick")
    assert done.exit_code == 1
    assert built == [(["block", "can", "truck"], Path("out/bench/library_quick"))]


def test_what_is_no_library_is_said_in_one_line(asked: list[tuple[Subject, BenchPlan]], tmp_path: Path) -> None:
    done = pasr("bench", "--library", tmp_path, "--json", tmp_path / "b.json")
    assert done.exit_code == 1
    assert "holds no mesh library" in done.output
    assert "Traceback" not in done.output
    assert not asked
