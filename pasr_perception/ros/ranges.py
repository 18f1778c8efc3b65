"""Which numbers a config field takes, found by asking its dataclass: what is told of a parameter cannot differ from its check.

The range is the narrowest that holds all that is accepted. Within it the check may refuse more (3, 5 or 6; an open end), never
beyond. A bound that moves with another field is none, since that field may change later.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from typing import Any

from pasr_perception.config import ConfigError

HALVINGS = 64
INTEGERS = sorted({sign * n for sign in (-1, 1) for n in (*range(17), *(2**k for k in range(5, 63)))})
FLOATS = sorted({sign * 10.0**k for sign in (-1, 1) for k in range(-9, 10)} | {0.0})
LIMITS: dict[type, tuple[float, float]] = {
    int: (-(2**63), 2**63 - 1),
    float: (-sys.float_info.max, sys.float_info.max),
}


def accepted_range(config: Any, field: str) -> tuple[float, float] | None:
    """Least and largest value that a numeric field takes, both included; None where it is no number or takes all."""
    value = getattr(config, field)
    if type(value) not in LIMITS:
        return None
    lowest, highest = LIMITS[type(value)]
    probes = sorted({*(INTEGERS if type(value) is int else FLOATS), value})
    good = [p for p in probes if _accepts(config, field, p)]
    below, above = probes.index(good[0]) - 1, probes.index(good[-1]) + 1
    low = _bound(config, field, good[0], probes[below]) if below >= 0 else lowest
    high = _bound(config, field, good[-1], probes[above]) if above < len(probes) else highest
    low, high = (lowest if low is None else low), (highest if high is None else high)
    return None if (low, high) == (lowest, highest) else (low, high)


def _bound(config: Any, field: str, inside: float, outside: float) -> float | None:
    """Where between an accepted and a refused value the field's end is; None where another field decides."""
    open_end, halve = outside, _halfway(type(inside))
    for _ in range(HALVINGS):
        middle = halve(inside, outside)
        if middle in (inside, outside):
            break
        if _accepts(config, field, middle):
            inside = middle
        else:
            outside = middle
    if any(_accepts(other, field, outside) for other in _varied(config, field)):
        return None
    return outside if type(inside) is float and outside == open_end else inside


def _halfway(kind: type) -> Callable[[Any, Any], Any]:
    return (lambda a, b: (a + b) // 2) if kind is int else (lambda a, b: (a + b) / 2)


def _varied(config: Any, field: str) -> Iterator[Any]:
    """The config with one of its other numbers larger or smaller."""
    for other in dataclasses.fields(config):
        value = getattr(config, other.name)
        if other.name == field or type(value) not in LIMITS:
            continue
        for changed in (2 * value + 1, type(value)(value / 2)):
            try:
                yield dataclasses.replace(config, **{other.name: changed})
            except ConfigError:
                continue


def _accepts(config: Any, field: str, value: float) -> bool:
    try:
        dataclasses.replace(config, **{field: value})
    except ConfigError:
        return False
    return True
