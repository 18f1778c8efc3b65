"""Which errors are said in one line, which keep their traceback, and what the progress bar shows."""

from __future__ import annotations

import pytest
import typer

from pasr_perception.cli.replay import ReplayError
from pasr_perception.cli.terminal import errors_in_words, fail, progress_bar
from pasr_perception.encoders.base import EncoderError
from pasr_perception.library.store import LibraryError


@pytest.mark.parametrize(
    "error",
    [
        LibraryError("lib: no [bold]meshes[/bold]"),
        EncoderError("no weights"),
        ReplayError("the node ended"),
        ValueError("unit: expected mm"),
        FileNotFoundError(2, "No such file", "a.yaml"),
    ],
)
def test_what_a_user_can_mend_is_one_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, errors_in_words():
        raise error
    assert ended.value.exit_code == 1
    assert ended.value.__cause__ is error
    assert capsys.readouterr().err == f"error: {error}\n"  # as it is: no markup is read into it


@pytest.mark.parametrize("error", [RuntimeError("CUDA error"), KeyError("x"), KeyboardInterrupt(), typer.Exit(3)])
def test_the_rest_passes_through(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(type(error)) as raised, errors_in_words():
        raise error
    assert raised.value is error
    assert capsys.readouterr().err == ""


def test_ctrl_c_is_answered_where_there_is_something_to_say(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, errors_in_words("stopped; go on with --resume"):
        raise KeyboardInterrupt
    assert ended.value.exit_code == 130
    assert capsys.readouterr().err == "stopped; go on with --resume\n"


def test_fail_says_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        fail("this needs ROS")
    assert capsys.readouterr().err == "error: this needs ROS\n"


def test_progress_counts_and_begins_anew(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(3) as tell:
        tell("mug", 2, 3)
        tell("score offsets", 0, 7)
        tell("score offsets", 5, 7)
    shown = capsys.readouterr().err
    assert "score offsets" in shown
    assert "5/7" in shown
    assert "left" in shown
