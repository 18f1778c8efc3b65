"""The replay's processes, played by a shell script: the end of the bag, and ends that come too early."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from pasr_perception.cli import replay as module
from pasr_perception.cli.replay import Replay, ReplayError, replay

# node and recorder run until SIGINT and say so; the player ends by itself, once they are prepared for SIGINT
PYTHON = """#!/bin/sh
echo "$@" >> "{log}"
case "$*" in
  *"bag play"*) {player} ;;
  *"pasr_perception.ros "*) {node} ;;
  *) {recorder} ;;
esac
"""
PREPARED = 'touch "$0.$$.prepared"; while :; do sleep 0.05; done'
WAITS = f"trap 'exit 0' INT; {PREPARED}"
PLAYS = 'until [ "$(ls "$0".*.prepared 2> /dev/null | wc -l)" = 2 ]; do sleep 0.05; done'


@pytest.fixture
def job(tmp_path: Path) -> Replay:
    return Replay(tmp_path / "bag", tmp_path / "lib", tmp_path / "out", rate=2.0, parameters=("refine.steps:=7",))


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def play(player: str = PLAYS, node: str = WAITS, recorder: str = WAITS) -> Path:
        script, log = tmp_path / "python", tmp_path / "calls.log"
        script.write_text(PYTHON.format(log=log, player=player, node=node, recorder=recorder))
        script.chmod(0o755)
        monkeypatch.setattr(module.sys, "executable", str(script))
        return log

    return play


def test_node_and_recorder_are_stopped_when_the_bag_ends(job: Replay, processes) -> None:
    log = processes()
    assert replay(job) == job.out / "recorded"
    calls = log.read_text().splitlines()
    assert len(calls) == 3
    node = next(c for c in calls if "pasr_perception.ros " in c)
    assert f"-p library:={job.library}" in node
    assert "-p refine.steps:=7" in node
    assert "-r image:=/camera/image_raw" in node
    player = next(c for c in calls if "bag play" in c)
    assert f"bag play {job.bag} --rate 2.0" in player
    assert "--hold /pasr_node/objects" in player
    assert {p.name for p in job.out.iterdir()} == {"node.log", "player.log", "recorder.log"}


def test_they_are_stopped_even_where_a_shell_ignores_interrupts(job: Replay, processes) -> None:
    processes()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert replay(job) == job.out / "recorded"
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("endings", "words"),
    [
        (
            {"node": "echo no library >&2; exit 3", "player": "exec sleep 600"},
            "the node ended with status 3: no library",
        ),
        ({"player": "echo no bag; exit 4"}, "the player ended with status 4: no bag"),
        (
            {"recorder": f"trap 'echo disk full; exit 5' INT; {PREPARED}"},
            "the recorder ended with status 5: disk full",
        ),
    ],
)
def test_whoever_ends_wrongly_is_named_with_the_end_of_its_log(
    job: Replay, processes, endings: dict[str, str], words: str
) -> None:
    processes(**endings)
    with pytest.raises(ReplayError, match=words):
        replay(job)
