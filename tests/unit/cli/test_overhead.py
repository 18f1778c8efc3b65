"""What is read of the listener's log."""

from __future__ import annotations

import pytest

from pasr_perception.cli.overhead import figures_of
from pasr_perception.cli.replay import ReplayError


def test_the_figures_are_found_whatever_is_said_after_them() -> None:
    said = 'INFO: listening\n{"frames": 200.0, "overhead_ms_p50": 4.5}\nException ignored in: <function ...>\nInvalidHandle'
    assert figures_of(said) == {"frames": 200.0, "overhead_ms_p50": 4.5}


def test_a_listener_without_figures_is_said() -> None:
    with pytest.raises(ReplayError, match="said nothing of what it found: 'Traceback'"):
        figures_of("Traceback")
