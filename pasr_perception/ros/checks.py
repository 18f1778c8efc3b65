"""What every message is asked before it is used: `BadMessage`, stamps and frame names."""

from __future__ import annotations

from std_msgs.msg import Header


class BadMessage(ValueError):  # noqa: N818 (it is the message that is bad)
    """A message that cannot be used. `what` names the field and stays the same for repetitions of the same fault."""

    def __init__(self, what: str, expected: str, got: object) -> None:
        super().__init__(f"{what}: expected {expected}, got {got}")
        self.what = what


def require(rule: bool, what: str, expected: str, got: object) -> None:
    """Raise BadMessage unless `rule` holds."""
    if not rule:
        raise BadMessage(what, expected, got)


def stamp_to_ns(header: Header) -> int:
    """Nanoseconds of a header's stamp, without checks."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def check_stamp(header: Header, where: str) -> None:
    """Raise BadMessage for a stamp that is no time."""
    got = f"sec={header.stamp.sec} nanosec={header.stamp.nanosec}"
    valid = header.stamp.sec >= 0 and header.stamp.nanosec < 1_000_000_000
    require(valid, f"{where}.header.stamp", "sec >= 0 and nanosec < 1e9", got)


def check_header(header: Header, where: str) -> None:
    """Raise BadMessage for an empty frame id or a stamp that is no time."""
    require(bool(header.frame_id), f"{where}.header.frame_id", "the name of the camera's optical frame", "''")
    check_stamp(header, where)
