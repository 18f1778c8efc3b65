"""Draws what was recognised onto the camera image: box, id and score, the mesh's outline at its pose, its axes.

The outline is the border of the mesh's silhouette: projected triangles filled into a small mask, then its contours.
Lens distortion is applied to the vertices, so outlines lie on the image as the camera gave it.
"""

from __future__ import annotations

import colorsys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import trimesh

from pasr_perception.geometry.camera import distort_points, project
from pasr_perception.types import Camera, ObjectEstimate

Colour = tuple[int, int, int]

MASK_SIDE = 320  # pixels of the mask's longer side at most; larger silhouettes are filled coarser
MAX_POLYGONS = 8000  # triangles filled one by one; the smaller ones are splatted as points
SUB_PIXEL_AREA = 1.0  # mask pixels squared
FIXED_POINT_BITS = 4  # OpenCV's sub-pixel precision
MARGIN = 4
NEAREST = 1e-3  # metres; triangles that come closer to the camera's plane are not drawn
AXIS_COLOURS: tuple[Colour, Colour, Colour] = ((230, 40, 40), (40, 200, 40), (60, 90, 255))  # x red, y green, z blue


@dataclass(frozen=True)
class Style:
    """How one object is drawn."""

    colour: Colour
    thickness: int = 2
    axes: bool = True
    box: bool = True


def draw_overlay(
    image_rgb: np.ndarray, camera: Camera, estimates: Sequence[ObjectEstimate], meshes: Mapping[str, trimesh.Trimesh]
) -> np.ndarray:
    """A copy of the RGB image [H, W, 3] uint8 with every estimate's best hypothesis drawn in its own colour.

    `meshes`: by mesh id, in the mesh file's frame and metres; where one is missing, only box and label are drawn.
    Raises ValueError for an image of another shape or type.
    """
    canvas = _copy(image_rgb)
    for index, estimate in enumerate(estimates):
        best, box = estimate.best, estimate.detection.box
        style = Style(object_colour(estimate.detection.id or str(index)), thickness=line_width(canvas))
        draw_box(canvas, box, style)
        if best.mesh_id in meshes:
            draw_pose(canvas, camera, meshes[best.mesh_id], best.T_cam_obj, style)
    for index, estimate in enumerate(estimates):  # labels last: no outline runs over them
        colour = object_colour(estimate.detection.id or str(index))
        draw_label(canvas, estimate.detection.box, f"{estimate.best.mesh_id} {estimate.best.score:.2f}", colour)
    return canvas


def object_colour(name: str) -> Colour:
    """A bright colour that stays with the name."""
    hue = zlib.crc32(name.encode()) % 997 / 997
    return _rgb(colorsys.hsv_to_rgb(hue, 0.85, 1.0))


def line_width(image: np.ndarray) -> int:
    return max(1, round(max(image.shape[:2]) / 700))


def draw_pose(canvas: np.ndarray, camera: Camera, mesh: trimesh.Trimesh, T_cam_obj: np.ndarray, style: Style) -> None:
    """Draw the mesh's outline (and axes) at T_cam_obj [4, 4] into canvas, in place."""
    contours = silhouette_contours(camera, mesh, T_cam_obj)
    cv2.polylines(canvas, contours, True, style.colour, style.thickness, cv2.LINE_AA, FIXED_POINT_BITS)
    if style.axes:
        draw_axes(canvas, camera, mesh, T_cam_obj, style)


def draw_axes(canvas: np.ndarray, camera: Camera, mesh: trimesh.Trimesh, T_cam_obj: np.ndarray, style: Style) -> None:
    """Draw the object's axes from the middle of its box, a third of the box's diagonal long, in place."""
    middle = mesh.bounds.mean(0)
    tips = np.concatenate([middle[None], middle + np.eye(3) * mesh.scale / 3])
    points = tips @ T_cam_obj[:3, :3].T + T_cam_obj[:3, 3]
    uv = distort_points(project(points, camera.K), camera)
    for tip, colour in zip(uv[1:], AXIS_COLOURS, strict=True):
        if np.isfinite([uv[0], tip]).all() and np.abs([uv[0], tip]).max() < 1e5:
            start, end = (tuple(_fixed(p).tolist()) for p in (uv[0], tip))
            cv2.line(canvas, start, end, colour, style.thickness, cv2.LINE_AA, FIXED_POINT_BITS)


def draw_box(canvas: np.ndarray, box: np.ndarray, style: Style) -> None:
    """Draw a box [4] xyxy in image pixels, in place; one that is not finite is left out."""
    if np.isfinite(box).all():
        x0, y0, x1, y1 = np.clip(box, -1e4, 1e5)
        start, end = (tuple(_fixed(np.array(p)).tolist()) for p in ((x0, y0), (x1, y1)))
        cv2.rectangle(canvas, start, end, style.colour, 1, cv2.LINE_AA, FIXED_POINT_BITS)


def draw_label(canvas: np.ndarray, box: np.ndarray, text: str, colour: Colour) -> None:
    """Write `text` on a filled strip above the box (below its upper edge where there is no room), in place."""
    if not np.isfinite(box).all():
        return
    scale = max(0.4, max(canvas.shape[:2]) / 2600)
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    x = int(np.clip(box[0], 0, max(0, canvas.shape[1] - width - 2)))
    y = int(np.clip(box[1], height + base, canvas.shape[0]))
    cv2.rectangle(canvas, (x, y - height - base), (x + width + 2, y), colour, cv2.FILLED)
    ink = (0, 0, 0) if np.dot(colour, (0.3, 0.59, 0.11)) > 110 else (255, 255, 255)
    cv2.putText(canvas, text, (x + 1, y - base // 2 - 1), cv2.FONT_HERSHEY_SIMPLEX, scale, ink, 1, cv2.LINE_AA)


def silhouette_contours(camera: Camera, mesh: trimesh.Trimesh, T_cam_obj: np.ndarray) -> list[np.ndarray]:
    """Borders of the mesh's silhouette at T_cam_obj [4, 4]: int32 arrays [n, 1, 2] in 1/16 pixels of OpenCV's drawing.

    The part outside the image (but for a small margin) is cut away. Empty when nothing of the mesh is in front of the
    camera and in the image.
    """
    triangles = _triangles(camera, mesh, T_cam_obj)
    size = np.array([camera.width, camera.height], dtype=np.float64)
    inside = (triangles.max(1) > 0).all(1) & (triangles.min(1) < size).all(1)
    triangles = triangles[inside]
    if not len(triangles):
        return []
    low = np.maximum(triangles.min((0, 1)), -MARGIN)
    high = np.minimum(triangles.max((0, 1)), size + MARGIN)
    scale = min(1.0, MASK_SIDE / float((high - low).max()))
    shape = np.ceil((high - low) * scale).astype(int) + 2 * MARGIN
    mask = np.zeros((shape[1], shape[0]), dtype=np.uint8)
    _fill(mask, (triangles - low) * scale + MARGIN)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    contours = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)[0]
    # Contours run through the middles of border pixels; small ones are cracks between triangles.
    return [_fixed((c + 0.5 - MARGIN) / scale + low).reshape(-1, 1, 2) for c in contours if cv2.contourArea(c) >= 4]


def _triangles(camera: Camera, mesh: trimesh.Trimesh, T_cam_obj: np.ndarray) -> np.ndarray:
    """Faces in front of the camera in image pixels [F, 3, 2] float64."""
    points = np.asarray(mesh.vertices) @ T_cam_obj[:3, :3].T + T_cam_obj[:3, 3]
    ahead = points[:, 2] > NEAREST
    uv = np.full((len(points), 2), np.nan)
    uv[ahead] = distort_points(project(points[ahead], camera.K), camera)
    triangles = uv[np.asarray(mesh.faces)]
    return triangles[np.isfinite(triangles).all((1, 2))]


def _fill(mask: np.ndarray, triangles: np.ndarray) -> None:
    """Fill triangles [F, 3, 2] in mask pixels, in place; those under a pixel are set at their corners and middles."""
    edge_a, edge_b = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    area = np.abs(edge_a[:, 0] * edge_b[:, 1] - edge_a[:, 1] * edge_b[:, 0]) / 2
    size = np.where(area > SUB_PIXEL_AREA, area, 0.0)
    order = np.argsort(-size, kind="stable")
    count = min(MAX_POLYGONS, int(np.count_nonzero(size)))
    rest = triangles[order[count:]]
    spots = np.concatenate([rest.reshape(-1, 2), rest.mean(1), (rest + np.roll(rest, 1, axis=1)).reshape(-1, 2) / 2])
    spots = np.floor(spots).astype(int)
    height, width = mask.shape
    spots = spots[((spots >= 0) & (spots < (width, height))).all(1)]
    mask[spots[:, 1], spots[:, 0]] = 255
    limit = 4 * max(mask.shape)  # far corners of near triangles: keeps OpenCV's 32 bit fixed point from overflowing
    for triangle in _fixed(np.clip(triangles[order[:count]], -limit, limit)):
        cv2.fillConvexPoly(mask, triangle, 255, cv2.LINE_8, FIXED_POINT_BITS)


def _fixed(uv: np.ndarray) -> np.ndarray:
    """Continuous pixels (centres at +0.5) to OpenCV's fixed point (centres at whole numbers)."""
    return np.round((uv - 0.5) * (1 << FIXED_POINT_BITS)).astype(np.int32)


def _copy(image_rgb: np.ndarray) -> np.ndarray:
    if image_rgb.ndim != 3 or image_rgb.shape[2] != 3 or image_rgb.dtype != np.uint8:
        raise ValueError(f"image_rgb: expected [H, W, 3] uint8, got {list(image_rgb.shape)} {image_rgb.dtype}")
    return np.ascontiguousarray(image_rgb).copy()


def _rgb(colour: tuple[float, float, float]) -> Colour:
    return int(255 * colour[0]), int(255 * colour[1]), int(255 * colour[2])
