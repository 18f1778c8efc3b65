"""A ROS domain of one's own: taken by a port, held by whoever holds the socket, given back by the kernel."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pasr_perception.cli import domain as module
from pasr_perception.cli.domain import NoDomainError, own_domain
from pasr_perception.cli.replay import ros_environment, start_process, stop_process

TAKE = """
import os
from pasr_perception.cli import domain
os.getpid, domain.PORT_BASE = lambda: 41, {ports}
with domain.own_domain() as taken:
    print(taken.number)
"""


@pytest.fixture(autouse=True)
def ports(monkeypatch: pytest.MonkeyPatch) -> int:
    """Ports that no other session of these tests uses, below those that the kernel hands out."""
    base = 10_000 + os.getpid() % 200 * 110
    monkeypatch.setattr(module, "PORT_BASE", base)
    return base


@pytest.fixture
def same_first(monkeypatch: pytest.MonkeyPatch, ports: int) -> None:
    """Everyone would like the same domain."""
    monkeypatch.setattr(module.os, "getpid", lambda: 41)


def test_no_two_have_the_same_and_it_can_be_had_again(same_first: None) -> None:
    with own_domain() as first, own_domain() as second:
        assert 1 <= first.number <= 100
        assert first.number != second.number
        taken = [first.number, second.number]
    with own_domain() as first, own_domain() as second:
        assert [first.number, second.number] == taken


def test_another_process_and_a_user_of_domain_coordinators_ports_keep_out(same_first: None, ports: int) -> None:
    with own_domain() as ours:
        pass
    with socket.socket() as other:
        other.bind(("", ports + ours.number))  # what domain_coordinator.domain_id() does
        with own_domain() as next_best:
            assert next_best.number != ours.number
    with own_domain() as ours:
        command = [sys.executable, "-c", TAKE.format(ports=ports)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert int(said) != ours.number


def test_a_domain_is_kept_until_the_last_process_in_it_ends(
    same_first: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)
    with ros_environment() as environment:
        number = environment.variables["ROS_DOMAIN_ID"]
        child = start_process("child", ["sleep", "600"], tmp_path, environment)
    try:
        with ros_environment() as later:  # the child lives on, as after a kill of its parent
            assert later.variables["ROS_DOMAIN_ID"] != number
    finally:
        stop_process(child)
    with ros_environment() as later:
        assert later.variables["ROS_DOMAIN_ID"] == number


def test_the_callers_domain_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "7")
    with ros_environment() as environment:
        assert (environment.variables["ROS_DOMAIN_ID"], environment.keep) == ("7", ())
        assert environment.variables["PATH"] == os.environ["PATH"]


def test_all_domains_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DOMAINS", 2)
    with (
        own_domain(),
        own_domain(),
        pytest.raises(NoDomainError, match="ROS domains 1 to 2 are all taken"),
        own_domain(),
    ):
        pass
