"""What `pasr bag evaluate` says of input it cannot use."""

from __future__ import annotations

from pathlib import Path

import typer
from typer.testing import CliRunner

from pasr_perception.cli.evaluate import evaluate_command

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
