"""A ROS domain that nobody else on this machine talks in.

A domain is taken by a TCP port of its own, as ROS's domain_coordinator does it: whoever can bind it has the domain, and the
kernel gives it back when the last process that holds the socket ends, however that ends. `colcon test` and this
project's own tests take theirs by the same ports.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

PORT_BASE = 32768  # domain_coordinator's
DOMAINS = 100  # 1 to 100, those whose DDS ports lie below the ports that Linux hands out


class NoDomainError(RuntimeError):
    """All domains are taken."""


@dataclass(frozen=True)
class Domain:
    """A domain that is ours for as long as this process, or one that inherited `lock`, holds the file descriptor open."""

    number: int
    lock: int


@contextmanager
def own_domain() -> Iterator[Domain]:
    """A domain that is ours within the block, and as long as children live that were given its lock (`pass_fds`)."""
    with socket.socket() as lock:
        yield Domain(_taken_by(lock), lock.fileno())


def _taken_by(lock: socket.socket) -> int:
    first = os.getpid()  # not always the same one: of a process that was just killed the others may not know yet
    for offset in range(DOMAINS):
        number = 1 + (first + offset) % DOMAINS
        try:
            lock.bind(("", PORT_BASE + number))
        except OSError:
            continue
        return number
    raise NoDomainError(f"ROS domains 1 to {DOMAINS} are all taken on this machine; set ROS_DOMAIN_ID to share one")
