"""Strangers: crops of a real photo that shows none of the library's meshes, to learn how much each mesh attracts whatever comes.

Renders will not do: a mesh lifted under random textures answers randomly textured renders loudly and photos hardly at all, so
offsets from renders run against those of photos. The photo is scikit-image's view of a motorcycle in a cluttered workshop
(Middlebury stereo 2014), which ships inside that package.
"""

from __future__ import annotations

import math

import numpy as np
from skimage.data import stereo_motorcycle

from pasr_perception.crop import CropSpec, crop_detection
from pasr_perception.types import Camera, Crop, Detection, Frame

SIDES = (0.2, 0.6)  # of the photo's shorter side: root of the box's area
ASPECT = 0.7  # natural logarithm of the most elongated box's aspect


def strangers(count: int, spec: CropSpec, seed: int) -> list[Crop]:
    """`count` crops of random boxes in the photo."""
    photo = np.ascontiguousarray(stereo_motorcycle()[0])
    height, width = photo.shape[:2]
    K = np.array([[1.2 * width, 0, width / 2], [0, 1.2 * width, height / 2], [0, 0, 1]])
    frame = Frame(photo, Camera(width, height, K))
    rng = np.random.default_rng(seed)
    crops = []
    for _ in range(count):
        aspect = math.exp(rng.uniform(-ASPECT, ASPECT))
        side = rng.uniform(*SIDES) * min(height, width)
        size = side * np.array([math.sqrt(aspect), 1 / math.sqrt(aspect)])
        corner = rng.uniform(0, 1, 2) * ((width, height) - size)
        crops.append(crop_detection(frame, Detection(np.concatenate([corner, corner + size])), spec))
    return crops
