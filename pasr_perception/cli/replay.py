"""Replays a bag through the real node: node, player and recorder as processes of their own that talk over DDS."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pasr_perception.cli.domain import own_domain

logger = logging.getLogger(__name__)

SHARED_MEMORY_PROFILE = Path(__file__).resolve().parents[2] / "config" / "fastdds_shm.xml"
STOP_SECONDS = 30.0


class ReplayError(RuntimeError):
    """A process of the replay ended in a way it should not; the message says which and where its log is."""


@dataclass(frozen=True)
class Replay:
    """What is to be replayed."""

    bag: Path
    library: Path
    out: Path  # folder for the recorded bag and the logs
    rate: float = 1.0
    wait_seconds: float = 180.0  # for the node to load its library
    answer_seconds: float = 90.0  # the player holds each frame until the node has answered the one before
    parameters: tuple[str, ...] = ()  # more node parameters as name:=value

    @property
    def recorded(self) -> Path:
        return self.out / "recorded"


def replay(job: Replay) -> Path:
    """Run the three processes to the end of the bag and return the recorded bag. Raises ReplayError, or NoDomainError."""
    job.out.mkdir(parents=True, exist_ok=True)
    with ros_environment() as environment:
        _run(job, environment)
    return job.recorded


def _run(job: Replay, environment: RosEnvironment) -> None:
    python = sys.executable
    remaps = ["image:=/camera/image_raw", "image/compressed:=/camera/image_raw/compressed"]
    remaps += ["camera_info:=/camera/camera_info", "detections:=/detections"]
    parameters = [f"library:={job.library.absolute()}", *job.parameters]
    node_command = [python, "-m", "pasr_perception.ros", "--ros-args"]
    node_command += [part for remap in remaps for part in ("-r", remap)]
    node_command += [part for parameter in parameters for part in ("-p", parameter)]
    record_command = [python, "-m", "pasr_perception.cli", "bag", "record", "--force", "-o", str(job.recorded)]
    play_command = [python, "-m", "pasr_perception.cli", "bag", "play", str(job.bag), "--rate", str(job.rate)]
    play_command += ["--wait", str(job.wait_seconds), "--hold", "/pasr_node/objects"]
    play_command += ["--hold-timeout", str(job.answer_seconds)]
    recorder = start_process("recorder", record_command, job.out, environment)
    node = start_process("node", node_command, job.out, environment)
    try:
        player = start_process("player", play_command, job.out, environment)
        _wait_for_player(player, node, job.out)
    finally:
        stop_process(node)
        stop_process(recorder)
    if recorder.returncode != 0:
        raise ReplayError(f"the recorder ended with status {recorder.returncode}: {_tail(job.out / 'recorder.log')}")


@dataclass(frozen=True)
class RosEnvironment:
    """What processes that talk to each other are started with."""

    variables: Mapping[str, str]
    keep: tuple[int, ...] = ()  # file descriptors: the domain is theirs for as long as they live


@contextlib.contextmanager
def ros_environment() -> Iterator[RosEnvironment]:
    """The caller's environment (the ROS wheels keep their own state in it), on this machine only.

    In a domain of our own, unless the caller chose one. Raises NoDomainError.
    """
    environment = dict(os.environ)
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    environment.setdefault("ROS_LOG_DIR", tempfile.gettempdir())
    if SHARED_MEMORY_PROFILE.is_file():
        environment.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", str(SHARED_MEMORY_PROFILE))
    else:
        logger.info("no %s: images travel over DDS's default transport", SHARED_MEMORY_PROFILE)
    if "ROS_DOMAIN_ID" in environment:
        yield RosEnvironment(environment)
        return
    with own_domain() as domain:
        yield RosEnvironment({**environment, "ROS_DOMAIN_ID": str(domain.number)}, (domain.lock,))


def start_process(name: str, command: Sequence[str], out: Path, environment: RosEnvironment) -> subprocess.Popen[bytes]:
    """A child that can be stopped by `stop_process` and writes what it says to `out`/`name`.log."""
    log = out / f"{name}.log"
    logger.info("starting the %s (log: %s)", name, log)
    with log.open("wb") as stream, _interruptible():
        return subprocess.Popen(
            command,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment.variables,
            pass_fds=environment.keep,
            start_new_session=True,
        )


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Children begun here can be stopped by SIGINT, even if a shell started this process in the background, ignoring it."""
    ignored = (
        threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    )
    if not ignored:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _wait_for_player(player: subprocess.Popen[bytes], node: subprocess.Popen[bytes], out: Path) -> None:
    try:
        while player.poll() is None:
            if node.poll() is not None:
                raise ReplayError(f"the node ended with status {node.returncode}: {_tail(out / 'node.log')}")
            try:
                player.wait(timeout=1.0)
            except subprocess.TimeoutExpired:
                continue
    finally:
        stop_process(player)
    if player.returncode != 0:
        raise ReplayError(f"the player ended with status {player.returncode}: {_tail(out / 'player.log')}")


def stop_process(process: subprocess.Popen[bytes]) -> None:
    """End a child in an orderly way; by force if it does not."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            logger.error("%s does not end; killed", process.args)
            process.kill()
            process.wait()


def _tail(log: Path) -> str:
    return " | ".join(log.read_text(errors="replace").strip().splitlines()[-5:])
