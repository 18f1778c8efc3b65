"""The data flow: tighten, crop, encode, coarse search, refine, rank, lift. One frame in, mesh ids and metric 6-DoF poses out."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pasr_perception.bank import Bank
from pasr_perception.boxes import Tight, Tightener
from pasr_perception.boxes.shown import shown_in
from pasr_perception.budget import check_fits, free_bytes, needs
from pasr_perception.chroma import crop_chroma
from pasr_perception.coarse import Shortlist, coarse_search, turn_maps
from pasr_perception.config import PasrConfig, RefineConfig
from pasr_perception.crop import CropSpec, crop_detections, look_through
from pasr_perception.encoders.base import Encoder
from pasr_perception.encoders.efficientnet_lite import EfficientNetLite
from pasr_perception.kernels import prepare
from pasr_perception.library.index import read_bank
from pasr_perception.library.opening import open_with_encoder
from pasr_perception.library.resident import ResidentLibrary, attraction
from pasr_perception.library.store import LibraryError, MeshLibrary
from pasr_perception.placing import Placing, Told
from pasr_perception.rank import Ranked, rank
from pasr_perception.refine import RenderScene
from pasr_perception.refine.likeness import likeness
from pasr_perception.refinement import Refinement, Search
from pasr_perception.reframe import Look, Searched, better_boxes, reframed
from pasr_perception.settling import Settling
from pasr_perception.shortlist import Shortlister
from pasr_perception.sieve import Sieve
from pasr_perception.types import Candidates, Crop, Detection, Frame, FrameResult, Hypothesis, Rivals, StageTimings
from pasr_perception.uncertainty import Uncertainty
from pasr_perception.valuing import Valuing

logger = logging.getLogger(__name__)

LEADING_CHANNELS = 64  # that tell refinement and the sieve where to look; measured, 128 find no more


class Pipeline:
    """Retrieval and pose of detected objects against one mesh library.

    >>> pipeline = Pipeline.open("lib/")
    >>> result = pipeline.detect(frame, [Detection(box)])
    >>> result.objects[0].best.mesh_id, result.objects[0].best.T_cam_obj
    """

    def __init__(
        self,
        library: MeshLibrary,
        encoder: Encoder,
        config: PasrConfig,
        device: torch.device,
        tightener: Tightener | None = None,
    ) -> None:
        """`tightener`: one that is loaded already, of the same configuration."""
        if not library.entries:
            raise ValueError(f"library {library.path}: expected at least one mesh, it has none")
        header = library.header
        self.library, self.encoder, self.config, self.device = library, encoder, config, device
        self.crop_spec = CropSpec(encoder.image_size, header.fill)
        network = encoder.network if isinstance(encoder, EfficientNetLite) else None  # the boxes' is part of it
        self._tighten = (tightener or Tightener(device, config.boxes, network)) if config.boxes.tighten else None
        self._scene = RenderScene(header.view, header.splat)
        unmeasured = [e.id for e in library.entries if e.offset_std == 0]
        if unmeasured:
            raise LibraryError(
                f"library {library.path}: the score offset of {', '.join(unmeasured[:5])} was never measured (a build that was "
                "killed?); finish it with `pasr library build --resume` and the same meshes"
            )
        self._attraction = attraction(library)
        rivals = self._attraction.rivals(config.rank)
        bank = read_bank(library)
        channels = None if bank is None else bank.basis.channels[:, :LEADING_CHANNELS].contiguous()
        self._space = ResidentLibrary(library, rivals, device, config.coarse.resident_mb * 2**20, channels)
        self.turns = tuple(range(1 + max(max(turns) for turns in self._space.turns)))
        if bank is not None:
            stored = sum(e.data_bytes for e in library.entries)
            wanted = needs(bank, stored, len(self.turns), config.coarse.resident_mb * 2**20, device)
            check_fits(wanted, free_bytes(device), device)
        valuing = Valuing(self._space, self._scene, config.coarse, encoder.grid, device)
        self._refinement = Refinement(valuing)
        self._uncertainty = Uncertainty(library, self._space, self._scene)
        self._shortlist = self._shortlister(bank, channels) if config.coarse.method == "shortlist" else None
        self._mesh_index = {entry.id: i for i, entry in enumerate(library.entries)}

    @classmethod
    def open(cls, library_dir: str | Path, config: PasrConfig | None = None) -> Pipeline:
        """Load the encoder and a library that was built with it; raises LibraryError if they do not belong together."""
        config = config or PasrConfig()
        library, encoder, device = open_with_encoder(library_dir, config.encoder)
        if device.type == "cpu":
            prepare()
        return cls(library, encoder, config, device)

    def reopened(self, library_dir: str | Path) -> Pipeline:
        """The same encoder and settings with a library as it is on disk now; raises LibraryError if it does not fit."""
        encoder = (self.encoder.name, self.encoder.fingerprint)
        return Pipeline(MeshLibrary.open(library_dir, encoder), self.encoder, self.config, self.device, self._tighten)

    def _shortlister(self, bank: Bank | None, channels: torch.Tensor | None) -> Shortlist | None:
        if bank is None or channels is None:
            logger.warning(
                "library %s has no index that this version reads: every mesh is searched exhaustively, which is slow; "
                "make it with `pasr library build --resume` and the same meshes",
                self.library.path,
            )
            return None
        margin = self._space.rivals.offset - self._attraction.mean
        coarse = self.config.coarse
        shortlister = Shortlister(bank.to(self.device), self._space.turns, margin, coarse)
        return Sieve(shortlister, self._space, channels.to(self.device), coarse)

    def detect(
        self,
        frame: Frame,
        detections: Sequence[Detection],
        only: Sequence[str | None] | None = None,
        covariances: bool = True,
        loose: bool = True,
        refine: RefineConfig | None = None,
    ) -> FrameResult:
        """Identify and locate every detection; `only` restricts a detection to one mesh id (its pose is then all that is asked).

        Best poses come with their `covariances`, unless that is not wanted. Boxes are taken to be `loose`: they are made tight
        and looked through again as `config.boxes` and `config.reframe` say; otherwise they are taken as they are. `refine` stands
        for `config.refine`.
        """
        wanted = self._wanted(detections, only)
        look = self.look(frame, detections, loose)
        asked = None if only is None else [wanted[id(d)] for d in look.asked]
        return self.explain(look, asked, covariances, loose, refine)

    def look(self, frame: Frame, detections: Sequence[Detection], loose: bool = True) -> Look:
        """Tighten boxes, crop and encode: all that does not depend on which meshes are asked about."""
        times = [time.perf_counter()]
        self.check()
        tight = self.tightened(frame, detections) if loose else [Tight(d) for d in detections]
        times.append(time.perf_counter())
        cut, rejected = crop_detections(frame, [t.detection for t in tight], self.crop_spec)
        seen = {id(t.detection): t.shown for t in tight}
        crops = [shown_in(crop, seen[id(crop.detection)], self.encoder.grid) for crop in cut]
        times.append(time.perf_counter())
        maps = self.encode(crops) if crops else None
        times.append(time.perf_counter())
        came = {id(t.detection): d for t, d in zip(tight, detections, strict=True)}
        tightening, cropping, encoding = (b - a for a, b in itertools.pairwise(times))
        return Look(
            frame,
            tuple(came[id(crop.detection)] for crop in crops),
            tuple(crops),
            maps,
            tuple((came[id(d)], reason) for d, reason in rejected),
            StageTimings(tighten=tightening, crop=cropping, encode=encoding if crops else 0.0),
        )

    def tightened(self, frame: Frame, detections: Sequence[Detection]) -> list[Tight]:
        """The detections with the boxes that are looked through, in their order."""
        return [Tight(d) for d in detections] if self._tighten is None else self._tighten(frame, detections)

    def explain(
        self,
        look: Look,
        only: Sequence[int | None] | None = None,
        covariances: bool = True,
        loose: bool = True,
        refine: RefineConfig | None = None,
    ) -> FrameResult:
        """`detect` for detections that were looked at; `only` restricts each crop to a mesh, by its index."""
        if look.maps is None:
            return FrameResult((), look.timings, look.rejected)
        frame, searched = look.frame, self._searched(look, look.maps, only)
        for _ in range(self.config.reframe.rounds if loose else 0):
            searched = self._searched_again(frame, searched, only)
        crops, maps, times = searched.crops, searched.maps, [time.perf_counter()]
        again = self.search_in(crops, maps) if only is None else None
        refined = self.refine(searched.candidates, maps, crops, refine, search=again)
        times.append(time.perf_counter())
        refined = Settling(self.placing, self.config)(refined, crops, frame)
        before, after = self._rank(searched.candidates), self._rank(refined)
        times.append(time.perf_counter())
        sure: Sequence[np.ndarray | None] = [None] * len(crops)
        if covariances:
            sure = self._uncertainty(after, maps, crops, frame.camera, refine or self.config.refine)
        told = (Told(*each) for each in zip(look.asked, crops, before, after, sure, strict=True))
        objects = [self.placing.estimate(frame, each) for each in told]
        times.append(time.perf_counter())
        refining, ranking, lifting = (b - a for a, b in itertools.pairwise(times))
        timings = searched.timings + StageTimings(refine=refining, rank=ranking, lift=lifting)
        unplaced = [(d, "no pose explains its box") for d, o in zip(look.asked, objects, strict=True) if o is None]
        return FrameResult(tuple(o for o in objects if o is not None), timings, (*look.rejected, *unplaced))

    def _searched(self, look: Look, maps: torch.Tensor, only: Sequence[int | None] | None) -> Searched:
        """A search of a look's crops, maps [B, T, D, g, g]."""
        began = time.perf_counter()
        candidates = self._candidates(look.crops, maps, only)
        timings = look.timings + StageTimings(coarse=time.perf_counter() - began)
        return Searched(look.crops, maps, tuple(candidates), timings)

    def _candidates(
        self, crops: Sequence[Crop], maps: torch.Tensor, only: Sequence[int | None] | None
    ) -> list[Candidates]:
        """What a search finds in crops."""
        size = torch.tensor(np.stack([c.box[2:] - c.box[:2] for c in crops]), dtype=torch.float32)
        chroma = None
        if self.config.coarse.colour_weight > 0:
            chroma = crop_chroma(crops, self.encoder.grid, self.turns).to(self.device)
        return self.search(maps, size.to(self.device), only, chroma)

    def _searched_again(self, frame: Frame, searched: Searched, only: Sequence[int | None] | None) -> Searched:
        """The same with those crops replaced whose best candidate says that the object ends elsewhere than its box."""
        began = time.perf_counter()
        boxes = better_boxes(searched, frame.camera, self, self.config.refine, self.config.reframe)
        spent = StageTimings(refine=time.perf_counter() - began)
        detections = reframed(searched.crops, boxes)
        look = self.look(frame, detections, loose=False)
        if look.maps is None:
            return replace(searched, timings=searched.timings + spent)
        cropped = {id(crop.detection) for crop in look.crops}
        where = [number for number, d in zip(boxes, detections, strict=True) if id(d) in cropped]
        again = self._searched(look, look.maps, None if only is None else [only[number] for number in where])
        return searched.replaced(replace(again, timings=again.timings + spent), where)

    def check(self) -> None:
        """Raise LibraryError if a file of the library was cut short while in use: reading what is gone would end the process."""
        self._space.check()

    @property
    def shortlist(self) -> Shortlist | None:
        """What says which poses a search compares exactly; None where it compares all."""
        return self._shortlist

    @property
    def placing(self) -> Placing:
        """What puts a hypothesis in a crop before the camera."""
        return Placing(self.library, self._space, self.config)

    @property
    def rivals(self) -> Rivals:
        """What a mesh's value has to stand out from: shards of one library are merged by it."""
        return self._space.rivals

    def search(
        self,
        maps: torch.Tensor,
        box_size: torch.Tensor,
        only: Sequence[int | None] | None = None,
        chroma: torch.Tensor | None = None,
    ) -> list[Candidates]:
        """The best (mesh, pose) pairs of crops: maps [B, T, D, g, g] of `encode`, box_size [B, 2] in any unit.

        `only` restricts a crop to one mesh, by its index in the library; chroma [B, T, g*g, 2]: without, colours are not compared.
        """
        return coarse_search(maps, box_size, self._space, self.config.coarse, only, self._shortlist, chroma)

    def search_in(self, crops: Sequence[Crop], maps: torch.Tensor) -> Search:
        """What says what is found in crops of one mesh each, as `refine` asks for it; maps [B, T, D, g, g] of `encode`."""
        return lambda meshes: self._candidates(crops, maps, meshes)

    def likeness(self, hypotheses: Sequence[Hypothesis]) -> dict[str, float]:
        """How alike each hypothesis' mesh and the first one's look from the camera, each at its own pose: {mesh id: 0..1}."""
        meshes, cloud = torch.unique(
            torch.tensor([self._mesh_index[h.mesh_id] for h in hypotheses]), return_inverse=True
        )
        aimed = []
        for h in hypotheses:
            middle = h.T_cam_obj[:3, :3] @ np.asarray(self.library.entries[self._mesh_index[h.mesh_id]].center)
            aimed.append(look_through(middle + h.T_cam_obj[:3, 3]).T @ h.T_cam_obj[:3, :3])
        rotation = torch.as_tensor(np.stack(aimed), dtype=torch.float32, device=self.device)
        found = likeness(rotation, cloud.to(self.device), self._space.clouds(meshes.tolist()), self._scene)
        return dict(zip((h.mesh_id for h in hypotheses), found.tolist(), strict=True))

    def margin(self, value: float, mesh: int) -> float:
        """By how many spreads a value stands out from what strangers reach with a mesh."""
        return float(self._space.rivals.margin(torch.tensor([value]), torch.tensor([mesh]))[0])

    def encode(self, crops: Sequence[Crop]) -> torch.Tensor:
        """Feature maps [B, T, D, g, g] of crops, each turned anticlockwise by 0..T-1 quarters, on the pipeline's device."""
        batch_size = self.config.encoder.batch_size or (1 if self.device.type == "cpu" else 8)
        return turn_maps(self.encoder, crops, self.turns, batch_size)

    def _wanted(self, detections: Sequence[Detection], only: Sequence[str | None] | None) -> dict[int, int | None]:
        if only is None:
            return {}
        if len(only) != len(detections):
            raise ValueError(f"only: expected one entry per detection ({len(detections)}), got {len(only)}")
        unknown = [m for m in only if m is not None and m not in self._mesh_index]
        if unknown:
            raise ValueError(f"only: expected mesh ids of the library, got {unknown}")
        return {id(d): None if m is None else self._mesh_index[m] for d, m in zip(detections, only, strict=True)}

    def refine(
        self,
        candidates: Sequence[Candidates],
        maps: torch.Tensor,
        crops: Sequence[Crop],
        config: RefineConfig | None = None,
        compared: bool = True,
        search: Search | None = None,
    ) -> list[Candidates]:
        """Refine each crop's first `refine.top_k` candidates, each in the turned crop that it was found in.

        maps [B, T, D, g, g] of `encode`, or [B, 1, D, g, g] of the one turn that all candidates of a crop share. `compared` says
        that the candidates' similarities are those of their poses, as a search leaves them. `search` says what is found in the
        crops of one mesh each, by its index: without it winners' meshes are not searched for again (`refine.again`).
        """
        return self._refinement(candidates, maps, crops, config or self.config.refine, compared, search)

    def _rank(self, candidates: Sequence[Candidates]) -> list[Ranked]:
        return [rank(c, self.rivals, self.config.rank, self.config.confidence) for c in candidates]
