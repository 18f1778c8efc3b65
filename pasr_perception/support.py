"""Support: most objects of one photo stand on one surface, which settles how far off each of them is. Own; PASR looks at one crop.

A box tells an object's distance only through its mesh's size: a small can nearby looks like a large one further away, and an edge
that is off by a tenth, or hidden, moves the object as far. What a photo shows together mostly stands on one table, floor or
shelf, though: a plane n . p = 1 in camera axes (n in 1/m). With a the point of a hypothesis' outline that lies furthest along n,

    e = n . a - 1

is by how much of its distance it floats below (far) or above (near) that plane. Hidden parts make boxes small and objects far,
so e spreads twice as wide on that side. The plane is fitted to all hypotheses of all objects at once, each weighed by how probable
it is and how well it stands there, with a chance of standing elsewhere (EM, from planes through three objects each). What is said
of an object is what the others say, with the variance that this has: few objects, or objects in a row, say little. Where objects
float more than their boxes explain, there is no such surface, and what is said widens by as much (`roughness`).

It says two things: how probable it is that a hypothesis stands there, which counts in the contest of an object's meshes
(`settling.py`), and where along its line of sight it had better stand.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pasr_perception.config import SupportConfig

STARTS = 200  # planes through three objects that are tried
KEPT = 3  # of them, the best, that are fitted
ROUNDS = 6  # of fitting
SLACK = 30.0  # the plane may be so many times as near as the objects before anything is known of it
FLAT = 1e-3  # volume of three unit directions below which they say nothing of a plane
CONSISTENT = 1.4826  # of the median of absolute normal deviates, to their standard deviation
STRANGE = 0.5  # likelihood that distances of wrong meshes have on average, measured on simulated scenes
NEAREST = 0.5  # an object is moved to this share of its distance at most


@dataclass(frozen=True)
class Standing:
    """H hypotheses of K objects before the camera, in metres and camera axes."""

    outline: np.ndarray  # [H, P, 3] points that may bound each, some more than once
    middle: np.ndarray  # [H, 3]
    share: np.ndarray  # [H] how probable it is among its object's, and that it is none of them
    of: np.ndarray  # [H] int64, its object
    count: int  # K

    @cached_property
    def slack(self) -> np.ndarray:
        """Information [3, 3] that a plane is not ever so near."""
        return (np.median(np.linalg.norm(self.middle, axis=1)) / SLACK) ** 2 * np.eye(3)

    def best(self, value: np.ndarray) -> list[int]:
        """The hypothesis of each object whose value [H] is the largest."""
        mine = (np.flatnonzero(self.of == k) for k in range(self.count))
        return [int(which[value[which].argmax()]) for which in mine]

    def contacts(self, normal: np.ndarray) -> np.ndarray:
        """The point [H, 3] of each that lies furthest along a plane's normal [3]."""
        return self.outline[np.arange(len(self.of)), (self.outline @ normal).argmax(1)]


@dataclass(frozen=True)
class Fit:
    """A plane, and what it was fitted to."""

    normal: np.ndarray  # [3] 1/m: the plane is normal . p = 1
    contact: np.ndarray  # [H, 3] where hypotheses would touch it
    weight: np.ndarray  # [H] that each had in it
    value: float  # log-likelihood of all objects


@dataclass(frozen=True)
class Support:
    """What all other objects say of each hypothesis' distance."""

    off: np.ndarray  # [H] e of the plane that the others stand on
    noise: np.ndarray  # [H] standard deviation of that plane there, and of standing on it
    evidence: np.ndarray  # [H] for standing there rather than as wrong meshes do, log-likelihood
    distance: np.ndarray  # [H] factor that moves it to where it had better stand


def _spread(off: np.ndarray, config: SupportConfig) -> np.ndarray:
    return np.where(off > 0, config.far, config.near)


def _fits(off: np.ndarray, variance: np.ndarray) -> np.ndarray:
    return np.exp(-(off**2) / (2 * variance))


def found_there(off: np.ndarray, variance: np.ndarray | float, config: SupportConfig) -> np.ndarray:
    """Likelihood [H], 1 at best, of distances that are off by shares [H] from where something with a variance says."""
    return (1 - config.strays) * _fits(off, _spread(off, config) ** 2 + variance) + config.strays


def evidence_of(likelihood: np.ndarray) -> np.ndarray:
    """What it says for a mesh rather than for a stranger, as log-odds are counted (`confidence.py`)."""
    return np.log(likelihood / STRANGE)


def starts(standing: Standing, config: SupportConfig) -> np.ndarray:
    """Normals [n, 3] of the most promising planes through the middles of three objects' most probable hypotheses."""
    triples = np.array(list(itertools.combinations(standing.best(standing.share), 3)))
    triples = np.random.default_rng(0).permutation(triples)[:STARTS]
    corners = standing.middle[triples]  # [n, 3, 3]
    aims = corners / np.linalg.norm(corners, axis=2, keepdims=True)
    corners = corners[np.abs(np.linalg.det(aims)) > FLAT]
    if not len(corners):
        return np.zeros((0, 3))
    normals = np.linalg.solve(corners, np.ones((len(corners), 3, 1)))[..., 0]
    off = normals @ standing.middle.T - 1  # [n, H]
    fit = standing.share * _fits(off, _spread(off, config) ** 2 + config.contact**2)
    of_object = np.zeros((len(fit), standing.count))
    np.add.at(of_object.T, standing.of, fit.T)
    return normals[np.argsort(-np.log(of_object + config.strays).sum(1), kind="stable")[:KEPT]]


def fitted(standing: Standing, normal: np.ndarray, config: SupportConfig) -> Fit:
    """The plane that explains most objects, climbed to from one [3]."""
    for _ in range(ROUNDS):
        contact = standing.contacts(normal)
        off = contact @ normal - 1
        variance = _spread(off, config) ** 2 + config.contact**2
        fit = standing.share * _fits(off, variance)
        explained = np.bincount(standing.of, fit, standing.count) + config.strays
        weight = fit / explained[standing.of] / variance
        normal = np.linalg.solve((weight * contact.T) @ contact + standing.slack, weight @ contact)
    return Fit(normal, contact, weight, float(np.log(explained).sum()))


def by_the_others(standing: Standing, fit: Fit) -> tuple[np.ndarray, np.ndarray]:
    """e [H] of every hypothesis off the plane without its own object's part in it, and that plane's variance there [H]."""
    information, pull = np.zeros((standing.count, 3, 3)), np.zeros((standing.count, 3))
    weighed = fit.weight[:, None] * fit.contact
    np.add.at(information, standing.of, weighed[:, :, None] * fit.contact[:, None])
    np.add.at(pull, standing.of, weighed)
    covariance = np.linalg.inv(information.sum(0) - information + standing.slack)  # [K, 3, 3]
    normals = np.einsum("kij,kj->ki", covariance, pull.sum(0) - pull)
    off = (fit.contact * normals[standing.of]).sum(1) - 1
    return off, np.einsum("hi,hij,hj->h", fit.contact, covariance[standing.of], fit.contact)


def roughness(standing: Standing, off: np.ndarray, variance: np.ndarray, strays: float) -> float:
    """By how much, as a variance, the likeliest hypotheses float more than `variance` [H] explains; 0 where they do not."""
    likely = np.log(standing.share + 1e-12) + np.log((1 - strays) * _fits(off, variance) + strays)
    best = standing.best(likely)
    ratio = CONSISTENT * float(np.median(np.abs(off[best]) / np.sqrt(variance[best])))
    return max(ratio**2 - 1, 0.0) * float(np.median(variance[best]))


def supported(standing: Standing, config: SupportConfig) -> Support | None:
    """What a photo's objects say of one another's distances; None where no three of them span a plane."""
    fits = [fitted(standing, normal, config) for normal in starts(standing, config)]
    if not fits:
        return None
    off, of_plane = by_the_others(standing, max(fits, key=lambda fit: fit.value))
    spread = _spread(off, config)
    noise = of_plane + config.contact**2
    noise = noise + roughness(standing, off, spread**2 + noise, config.strays)
    likelihood = found_there(off, noise, config)
    stands = 1 - config.strays / likelihood  # rather than being a stray
    moved = stands * spread**2 / (spread**2 + noise) * off
    noise = np.where(stands > 0, noise / np.maximum(stands, 1e-12), np.inf)
    return Support(off, np.sqrt(noise), evidence_of(likelihood), np.maximum(1 - moved, NEAREST))
