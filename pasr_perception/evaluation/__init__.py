"""Metrics, baselines, overlays and the report of a recorded run."""
