"""What the backbone is tuned on: surface points of a mesh in a synthetic photo of it, and in renderings near the photo's pose.

The renderings are what a library sees: own colours, a random texture, and a random texture through a random camera. Of each view
only the backbone's first tap is kept, since what makes it is not tuned, and where its points are.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from pasr_perception.crop import CropSpec, crop_detection
from pasr_perception.data.detector import jitter_box
from pasr_perception.data.photo import photograph, random_effects
from pasr_perception.data.split import meshes_of
from pasr_perception.data.synthetic.photo_set import PhotoMesh, PhotoRecord, PhotoSet
from pasr_perception.encoders.base import image_batch
from pasr_perception.encoders.efficientnet_lite import IMAGE_SIZE, EfficientNetLite
from pasr_perception.encoders.fit import GAMMA, MIN_FACING
from pasr_perception.geometry.camera import project
from pasr_perception.geometry.placement import ViewSpec
from pasr_perception.library.lifted import visibility
from pasr_perception.library.meshes import MeshError, load_mesh
from pasr_perception.library.sample import normalised, sample_surface
from pasr_perception.library.views import RandomTexture, ViewRenderer, random_background
from pasr_perception.types import Crop, Detection

logger = logging.getLogger(__name__)

JITTER = 0.05  # how far each edge of a photo's box is off, as a share of the side
SAME_PLACE = 0.03  # radii between a surface point and what a photo shows there, up to which it is seen
PHOTO = 0  # the view that is the photo


@dataclass(frozen=True)
class ViewConfig:
    """How meshes are seen."""

    points: int = 256  # surface points per mesh
    turned_deg: float = 35.0  # a rendering's pose is at most this far from the photo's
    supersample: int = 2
    max_faces: int = 60_000  # heavier meshes are left out
    view: ViewSpec = field(default_factory=ViewSpec)
    seed: int = 0


@dataclass(frozen=True)
class MeshViews:
    """One mesh in V views: its photo first."""

    id: str
    category: str
    place: torch.Tensor  # [P, 3] float32, surface points in the normalised frame
    first: torch.Tensor  # [V, C, g, g] float16, the backbone's first tap
    uv: torch.Tensor  # [V, P, 2] float32, where the points are, in image sizes (0..1)
    seen: torch.Tensor  # [V, P] bool

    def common(self, a: int, b: int) -> torch.Tensor:
        """Indices [n] of the points that both views show."""
        return (self.seen[a] & self.seen[b]).nonzero()[:, 0]


def seen_in_photo(
    points: np.ndarray, photos: PhotoSet, record: PhotoRecord, crop: Crop
) -> tuple[np.ndarray, np.ndarray]:
    """Where normalised points [P, 3] are in a photo's crop, uv [P, 2] in its sizes, and which the photo shows [P] bool."""
    scale = np.linalg.norm(record.size) / 2
    pose = record.pose
    at = (points * scale + np.array(record.center)) @ pose[:3, :3].T + pose[:3, 3]
    noc = photos.noc(record)
    with np.errstate(invalid="ignore"):  # behind the camera is nowhere
        pixel = np.nan_to_num(project(at, record.camera.K), nan=-1.0)
        u, v = np.floor(pixel).astype(int).T
        inside = (u >= 0) & (u < record.width) & (v >= 0) & (v < record.height)
        shown = noc[v.clip(0, record.height - 1), u.clip(0, record.width - 1)]
        seen = inside & (np.linalg.norm(shown - points, axis=1) < SAME_PLACE)
    return np.nan_to_num(project(at @ crop.R_cam_crop, crop.K_crop)) / len(crop.image), seen


def near_pose(rotation: np.ndarray, limit: float, rng: np.random.Generator) -> np.ndarray:
    """A rotation [3, 3] by at most `limit` (radians) about any axis away from another one."""
    axis = rng.normal(size=3)
    turn = Rotation.from_rotvec(axis / np.linalg.norm(axis) * rng.uniform(0, limit))
    return np.asarray(turn.as_matrix() @ rotation)


def look_at_mesh(photos: PhotoSet, record: PhotoRecord, encoder: EfficientNetLite, config: ViewConfig) -> MeshViews:
    """The views of the mesh of one photo, settled by seed and photo. Raises MeshError if its file is of no use."""
    mesh: PhotoMesh = next(m for m in photos.meshes if m.id == record.mesh_id)
    rng = np.random.default_rng([config.seed, zlib.crc32(record.name.encode())])
    loaded = load_mesh(mesh.path, mesh.unit)
    if len(loaded.faces) > config.max_faces:
        raise MeshError(f"{mesh.path}: {len(loaded.faces)} faces are more than the {config.max_faces} wanted here")
    unit_mesh = normalised(loaded)
    samples = sample_surface(unit_mesh, 8 * config.points, int(rng.integers(2**31)))
    frame = photos.frame(record).frame
    box = jitter_box(np.array(record.box_whole), JITTER, frame.camera, rng)
    crop = crop_detection(frame, Detection(box), CropSpec(IMAGE_SIZE, config.view.fill))
    uv, seen = (torch.as_tensor(x) for x in seen_in_photo(samples.points, photos, record, crop))
    places, shown, images = [uv.float()], [seen], [crop.image]
    renderer = ViewRenderer(unit_mesh, config.view, IMAGE_SIZE, config.supersample)
    turned = crop.R_cam_crop.T @ record.pose[:3, :3]
    for texture in (None, RandomTexture(rng), RandomTexture(rng)):
        pose = near_pose(turned, np.radians(config.turned_deg), rng)
        view = renderer.render(pose, random_background(IMAGE_SIZE, rng), texture)
        where, facing = visibility(samples, view)
        places.append(where)
        shown.append(facing > MIN_FACING)
        images.append(view.image)
    images[-1] = photograph((images[-1] / 255.0) ** GAMMA, random_effects(rng), rng)
    in_photo = torch.stack(shown)[PHOTO].nonzero()[:, 0].numpy()
    kept = torch.as_tensor(rng.permutation(in_photo)[: config.points])
    first = torch.cat([encoder.first_tap(image_batch([image])) for image in images])
    return MeshViews(
        mesh.id,
        mesh.category,
        torch.as_tensor(samples.points)[kept],
        first.half().cpu(),
        torch.stack(places)[:, kept],
        torch.stack(shown)[:, kept],
    )


def look_at_meshes(
    photos: PhotoSet,
    part: str,
    encoder: EfficientNetLite,
    config: ViewConfig,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> list[MeshViews]:
    """The views of every photo of a mesh of one part of the split. What cannot be used is logged and left out.

    Raises ValueError where the photos show none.
    """
    chosen = set(meshes_of(part, (mesh.id for mesh in photos.meshes)))
    records = [record for record in photos.records if record.mesh_id in chosen]
    found = []
    for done, record in enumerate(records):
        progress(record.name, done, len(records))
        try:
            views = look_at_mesh(photos, record, encoder, config)
        except MeshError as error:
            logger.warning("photo %s left out: %s", record.name, error)
            continue
        if len(views.place) < config.points // 4:
            logger.info("photo %s left out: it shows too little", record.name)
            continue
        found.append(views)
    if not found:
        raise ValueError(f"{photos.root}: expected usable photos of {part} meshes, got none")
    return found
