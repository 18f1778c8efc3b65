"""Tracking over frames: `Tracker(pipeline, config).step(frame, detections, T_fixed_cam)`."""

from pasr_perception.track.tracker import Tracker

__all__ = ["Tracker"]
