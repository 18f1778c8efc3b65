"""docs/results.json, and the reports that docs/results.md is made of: written by evaluation commands, one method at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pasr_perception.library.files import write_atomically

RESULTS, REPORTS = "results.json", "results"
SECTIONS = ("synthetic", "hope_dev")
DIGITS = 4
PLACES = ("--docs", "--memory")  # options that say where things are kept, and change no number


def merge_results(docs: Path, section: str, method: str, values: Mapping[str, Any]) -> None:
    """Put one method's numbers into `docs`/results.json, leaving all others; safe beside other writers.

    Raises ValueError for a section that there is not, or a file that is no JSON object.
    """
    if section not in SECTIONS:
        raise ValueError(f"section: expected one of {', '.join(SECTIONS)}, got {section!r}")
    path = docs / RESULTS
    with _alone(docs):
        data = _read(path) if path.is_file() else {}
        data = {name: data.get(name, {}) for name in SECTIONS}
        data[section] = {**data[section], method: _rounded(values)}
        text = json.dumps(data, indent=2, allow_nan=False) + "\n"
        write_atomically(path, lambda temporary: temporary.write_text(text))


def repeatable(arguments: Sequence[str]) -> str:
    """The `pasr` command of these arguments, for whoever wants the same numbers: without the places of one's own."""
    told, left = ["pasr"], iter(arguments)
    for argument in left:
        if argument in PLACES:
            next(left, None)
        elif not argument.startswith(tuple(f"{place}=" for place in PLACES)):
            told.append(argument)
    return shlex.join(told)


def write_report(docs: Path, name: str, report: Mapping[str, Any]) -> Path:
    """Write one evaluation's report, from which tables are made, to `docs`/results/NAME.json."""
    path = docs / REPORTS / f"{name}.json"
    text = json.dumps(_rounded(report), indent=1, allow_nan=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text))
    return path


def read_reports(docs: Path) -> dict[str, dict[str, Any]]:
    """Every report of `docs`/results by its name."""
    return {path.stem: _read(path) for path in sorted((docs / REPORTS).glob("*.json"))}


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: is no JSON ({error})") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected an object, got {type(data).__name__}")
    return data


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, (list, tuple)) else value


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, waiting for whoever has it."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
