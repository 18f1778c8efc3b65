"""What all commands say in the same way: errors in one line, progress with the time that is left."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from pasr_perception.library.build import Progress as Tell

SPEED_WINDOW_S = 1800.0  # what the time left is judged by; a mesh can take a minute


def complain(line: str, colour: str = "yellow") -> None:
    """Say something on stderr."""
    typer.secho(line, err=True, fg=colour)


def tell_verified(problems: Sequence[str], what: str) -> None:
    """Say that all of something is as it was written, or what is not, with exit status 1."""
    for problem in problems:
        complain(problem, "red")
    if problems:
        raise typer.Exit(1)
    typer.echo(f"{what}, all as they were written")


def fail(message: object, cause: Exception | None = None) -> NoReturn:
    """End the command with one line on stderr and exit status 1."""
    complain(f"error: {message}", "red")
    raise typer.Exit(1) from cause


@contextlib.contextmanager
def errors_in_words(stopped: str = "") -> Iterator[None]:
    """What a user can mend is said in one line: this package's errors, bad values, files. The rest keeps its traceback.

    `stopped`: what is said on Ctrl-C, with exit status 130.
    """
    try:
        yield
    except (ValueError, OSError, RuntimeError) as error:
        ours = type(error).__module__.startswith("pasr_perception.")  # LibraryError and the like are RuntimeErrors
        if not ours and not isinstance(error, (ValueError, OSError)):
            raise
        fail(error, error)
    except KeyboardInterrupt:
        if not stopped:
            raise
        complain(stopped)
        raise typer.Exit(130) from None


@contextlib.contextmanager
def progress_bar(total: int | None) -> Iterator[Tell]:
    """A progress bar that the library code moves by calling it with (what, done, total); it begins anew when done is 0."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, *times, console=Console(stderr=True), speed_estimate_period=SPEED_WINDOW_S) as bar:
        task = bar.add_task("starting", total=total)

        def tell(what: str, done: int, total: int) -> None:
            if done == 0:
                bar.reset(task, total=total)
            bar.update(task, description=what, completed=done, total=total)

        yield tell
