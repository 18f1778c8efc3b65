"""What `pasr bag evaluate` says of input it cannot use, and what `pasr evaluate calibrate` prints."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from pasr_perception.cli.bag import evaluate_command
from pasr_perception.cli.evaluate import evaluate_app
from pasr_perception.config import PasrConfig, load_config
from pasr_perception.evaluation import calibration
from pasr_perception.evaluation.calibration import Example
from pasr_perception.pipeline import Pipeline

app = typer.Typer()
app.command()(evaluate_command)


def test_a_missing_bag_ends_with_one_line_and_exit_code_1(tmp_path: Path) -> None:
    arguments = [
        str(tmp_path / "in"),
        str(tmp_path / "out"),
        "-l",
        str(tmp_path / "lib"),
        "-o",
        str(tmp_path / "report"),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert f"{tmp_path / 'in'}: no such bag" in result.stderr
    assert "Traceback" not in result.output


def test_library_and_output_must_be_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tmp_path), str(tmp_path)])
    assert result.exit_code == 2
    assert "--library" in result.stderr


def calibrated(monkeypatch: pytest.MonkeyPatch, examples: list[Example], libraries: int = 1) -> str:
    """What the command prints where a bag gives these examples in every library."""
    monkeypatch.setattr(Pipeline, "open", lambda *_: SimpleNamespace(config=PasrConfig()))
    monkeypatch.setattr(calibration, "collect", lambda *_: examples)
    result = CliRunner().invoke(evaluate_app, ["calibrate", "bag", *["-l", "lib"] * libraries])
    assert result.exit_code == (1 if len(examples) * libraries < 20 else 0)
    return result.output


def test_calibrate_prints_settings_that_can_be_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    right = [Example((8.0, 1.0), 0, True, f"mesh {i}") for i in range(15)]
    strange = [Example((2.0, 1.0), None, False, f"stranger {i}") for i in range(15)]
    output = calibrated(monkeypatch, right + strange)
    assert "30 searches" in output
    (tmp_path / "settings.yaml").write_text(output.splitlines()[-2])
    confidence = load_config(tmp_path / "settings.yaml").confidence
    assert confidence.slope * 8 + confidence.intercept > 0 > confidence.slope * 2 + confidence.intercept


def test_calibrate_judges_the_settings_in_force_over_all_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    known = [Example((12.0, 1.0), 0, True, f"mesh {i}") for i in range(9)]
    missed = Example((5.0, 4.0), 1, True, "mesh 9")
    strange = [Example((12.0, 1.0), None, False, "stranger 0")]
    strange += [Example((2.0, 1.0), None, False, f"stranger {i}") for i in range(1, 4)]
    output = calibrated(monkeypatch, [*known, missed, *strange], libraries=2)
    assert "28 searches" in output
    assert "from 0.5 on takes 0.250 of the strangers, turns down or names wrongly 0.100" in output


def test_calibrate_says_that_it_needs_more(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "at least 20 searched objects, got 3" in calibrated(monkeypatch, [Example((8.0,), 0, True)] * 3)
