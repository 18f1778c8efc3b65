"""The states of a track: tentative, tracked, coasting, lost, and why."""

from __future__ import annotations

from pasr_perception.config import ConfidenceConfig, TrackConfig
from pasr_perception.track.state import Track
from pasr_perception.types import TrackState


def verdict(track: Track, unseen_s: float, config: TrackConfig, confidence: ConfidenceConfig) -> str:
    """Set a track's state; returns why it is given up, or an empty text."""
    shares, unknown = track.identity.probabilities()
    if track.state is TrackState.TENTATIVE:
        return _tentative(track, unseen_s, config, confidence)
    mine = shares.get(track.mesh_id, 0.0)
    if unseen_s > config.forget_s:
        return f"not detected for {unseen_s:.1f} s"
    if unknown > config.confirm:
        track.state, track.reason = (
            TrackState.TENTATIVE,
            f"no mesh explains it any more (probability {unknown:.2f})",
        )
    elif mine < confidence.accept:
        track.state, track.reason = (
            TrackState.TENTATIVE,
            f"no longer settled: {track.mesh_id} with probability {mine:.2f}",
        )
    elif track.detection is None:
        lost = unseen_s > config.coast_s or track.state is TrackState.LOST
        track.state = TrackState.LOST if lost else TrackState.COASTING
        track.reason = f"not detected for {unseen_s:.1f} s"
    elif track.measured:
        track.state, track.reason = (
            TrackState.TRACKED,
            f"{track.mesh_id} with probability {mine:.2f}",
        )
    elif track.state is not TrackState.LOST:
        track.state = TrackState.COASTING
        track.reason = "the time budget did not reach it" if track.waited else "its last looks did not fit"
    else:
        track.reason = "detected again, but not yet recognised"
    return ""


def _tentative(track: Track, unseen_s: float, config: TrackConfig, confidence: ConfidenceConfig) -> str:
    shares, unknown = track.identity.probabilities()
    best = shares.get(track.identity.best, 0.0)
    if unseen_s > config.tentative_s:
        return f"not detected for {unseen_s:.1f} s before it was recognised"
    sure = best >= config.confirm and track.identity.looks >= config.confirm_looks and track.motion is not None
    if sure and track.agreed >= config.confirm_looks:
        track.state, track.reason = TrackState.TRACKED, f"{track.identity.best} with probability {best:.2f}"
    elif sure:
        track.reason = f"{track.identity.best}, but its last searches found different poses"
    elif track.identity.looks == 0:
        track.reason = "waits for its first search"
    elif unknown > confidence.accept:
        track.reason = f"no mesh of the library explains it (probability {unknown:.2f})"
    else:
        track.reason = f"not settled: {track.identity.best} with probability {best:.2f}"
    return ""
