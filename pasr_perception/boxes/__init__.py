"""Loose boxes made tight before anything looks through them: `network.py` sees edges, `tighten.py` is the stage."""

from pasr_perception.boxes.tighten import Tightener

__all__ = ["Tightener"]
