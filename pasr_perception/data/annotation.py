"""Reading other people's annotations with care: JSON, images and numbers, with errors that name the place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

MAX_JSON_BYTES = 512 * 2**20


class DatasetError(ValueError):
    """Files that do not follow the layout; the message names file, entry, what was expected and what came."""


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Whatever is missing or malformed inside the block becomes a DatasetError that begins with `where`."""
    try:
        yield
    except KeyError as error:
        raise DatasetError(f"{where}: key {error} is missing") from error
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{where}: {error}") from error


def read_json(path: Path) -> Any:
    """Parsed JSON; DatasetError where it is missing, too large or broken."""
    if not path.is_file():
        raise DatasetError(f"{path}: no such file")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise DatasetError(f"{path}: {path.stat().st_size} bytes is more than {MAX_JSON_BYTES}")
    try:
        return json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DatasetError(f"{path}: is no JSON ({error})") from error


def read_image(path: Path) -> np.ndarray:
    """RGB [H, W, 3] uint8 as the sensor gave it: EXIF rotation is not applied, for the intrinsics do not know of it."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise DatasetError(f"{path}: no readable image")
    return np.ascontiguousarray(image[..., ::-1])


def plain_name(name: Any) -> str:
    """A file name that stays in its folder; ValueError for anything else."""
    if not isinstance(name, str) or Path(name).name != name:
        raise ValueError(f"file name: expected a name without folders, got {name!r}")
    return name


def numbers(values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A finite float64 array of `shape` from (nested) lists; ValueError otherwise."""
    array = np.asarray(values, float)
    if array.size != int(np.prod(shape)) or not np.isfinite(array).all():
        raise ValueError(f"expected {int(np.prod(shape))} finite numbers, got {values!r}")
    return array.reshape(shape)


def unit_quaternion(values: Any) -> np.ndarray:
    """A quaternion with rounding errors of a few decimals, made exact."""
    quaternion = numbers(values, (4,))
    norm = float(np.linalg.norm(quaternion))
    if abs(norm - 1) > 1e-2:
        raise ValueError(f"quaternion_xyzw: expected unit length, got {quaternion.tolist()}")
    return quaternion / norm


def box_from_xywh(box: Any) -> np.ndarray:
    """xyxy [4] from x, y, width, height."""
    x, y, w, h = numbers(box, (4,))
    return np.array([x, y, x + w, y + h])
