"""From rendered light to something like a photo: exposure, white balance, lens, sensor noise, tone curve, JPEG."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

GREY = 0.18  # linear value that auto-exposure aims the mean at
SHOULDER = 0.8  # linear value from which highlights are compressed instead of clipped


@dataclass(frozen=True)
class PhotoEffects:
    """One camera's habits; drawn once per scene by `random_effects`."""

    exposure: float = 0.0  # stops over the automatic exposure
    exposure_wobble: float = 0.0  # standard deviation of the exposure from frame to frame, stops
    white_balance: tuple[float, float, float] = (1.0, 1.0, 1.0)  # gains of R, G, B
    gamma: float = 2.2
    vignette: float = 0.0  # share of light missing in the corners
    blur: float = 0.0  # px, standard deviation of the lens blur
    motion: float = 0.0  # px, length of the motion blur; its direction is random in every frame
    shot_noise: float = 0.0  # standard deviation at linear 1.0, grows with the root of the light
    read_noise: float = 0.0  # standard deviation in the dark, linear
    jpeg_quality: int = 100  # 100 = not compressed


def random_effects(rng: np.random.Generator) -> PhotoEffects:
    """What an ordinary camera does to a picture, from good to middling."""
    gains = np.exp(rng.normal(0, 0.06, 3))
    gains /= gains[1]
    return PhotoEffects(
        exposure=float(rng.uniform(-0.3, 0.5)),
        exposure_wobble=0.05,
        white_balance=(float(gains[0]), 1.0, float(gains[2])),
        gamma=float(rng.uniform(2.0, 2.4)),
        vignette=float(rng.uniform(0.0, 0.35)),
        blur=float(rng.uniform(0.3, 0.8)),
        motion=float(rng.uniform(0.0, 2.0)),
        shot_noise=float(rng.uniform(0.005, 0.02)),
        read_noise=float(rng.uniform(0.0005, 0.003)),
        jpeg_quality=int(rng.integers(75, 96)),
    )


def photograph(radiance: np.ndarray, effects: PhotoEffects, rng: np.random.Generator) -> np.ndarray:
    """RGB [H, W, 3] uint8 of linear light [H, W, 3] float32 >= 0."""
    light = radiance.astype(np.float32) * np.asarray(effects.white_balance, np.float32)
    stops = effects.exposure + rng.normal(0, 1) * effects.exposure_wobble
    light *= GREY * 2.0**stops / max(float(light.mean()), 1e-6)
    light *= _vignette(light.shape[0], light.shape[1], effects.vignette)
    light = _blur(light, effects, float(rng.uniform(0, np.pi)))
    deviation = np.sqrt(np.maximum(light, 0) * effects.shot_noise**2 + effects.read_noise**2)
    light = light + rng.standard_normal(light.shape, np.float32) * deviation
    bright = np.maximum(light - SHOULDER, 0)
    light = np.minimum(light, SHOULDER) + (1 - SHOULDER) * (1 - np.exp(-bright / (1 - SHOULDER)))
    image = np.round(np.clip(light, 0, 1) ** (1 / effects.gamma) * 255).astype(np.uint8)
    return _jpeg(image, effects.jpeg_quality)


def _vignette(height: int, width: int, amount: float) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    radius2 = ((x - width / 2) ** 2 + (y - height / 2) ** 2) / ((width / 2) ** 2 + (height / 2) ** 2)
    return (1 - amount * radius2)[..., None]


def _blur(light: np.ndarray, effects: PhotoEffects, angle: float) -> np.ndarray:
    if effects.blur > 0:
        light = cv2.GaussianBlur(light, (0, 0), effects.blur)
    if effects.motion > 0:
        reach = int(np.ceil(effects.motion / 2)) + 1
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        # a line of `motion` pixels' length and one pixel's width, with soft ends
        kernel = np.clip(effects.motion / 2 + 0.5 - np.abs(along), 0, 1) * np.clip(1 - np.abs(across), 0, 1)
        light = cv2.filter2D(light, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)
    return light


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    if quality >= 100:
        return image
    ok, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert ok
    assert decoded is not None
    return np.ascontiguousarray(decoded[..., ::-1])
