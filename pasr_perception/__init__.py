"""PASR perception: which known mesh is this, and where is it in 6-DoF, from one camera image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pasr_perception.pipeline import Pipeline as Pipeline

__all__ = ["Pipeline", "__version__"]


def __getattr__(name: str) -> Any:
    """Import the pipeline (and torch) on first use, so that `import pasr_perception` stays instant."""
    if name == "Pipeline":
        from pasr_perception.pipeline import Pipeline

        return Pipeline
    raise AttributeError(f"module 'pasr_perception' has no attribute {name!r}")
