"""Loose boxes made tight before anything looks through them (`tighten.py`), and which of their cells show their objects."""

from pasr_perception.boxes.tighten import Tight, Tightener

__all__ = ["Tight", "Tightener"]
