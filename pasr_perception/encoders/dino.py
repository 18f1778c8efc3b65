"""DINOv2 and DINOv3 patch features through `transformers` (PASR supplementary A: ViT-B/16 at 592 px, a 37 x 37 map).

The features are the last layer's normed patch tokens; the class token and the registers are dropped. Weights come from
a local folder or from the local model cache: nothing is ever downloaded from here.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import torch

from pasr_perception.config import EncoderConfig
from pasr_perception.encoders.base import EncoderError, check_images, number_type

GRID = 37  # patches along each side, whatever the patch size
IMAGE_MEAN = (0.485, 0.456, 0.406)  # ImageNet, RGB in 0..1
IMAGE_STD = (0.229, 0.224, 0.225)

MODEL_CLASSES = {
    "dinov2": {"dinov2": "Dinov2Model", "dinov2_with_registers": "Dinov2WithRegistersModel"},
    "dinov3": {"dinov3_vit": "DINOv3ViTModel"},
}  # encoder name -> model_type in config.json -> class in transformers
HUB_ID = {"dinov2": "facebook/dinov2-base", "dinov3": "facebook/dinov3-vitb16-pretrain-lvd1689m"}
OFFICIAL = "facebook/"
GATED = ("dinov3",)  # their licence has to be accepted by a person first

# what changes features without being seen in the weights
FINGERPRINTED = (
    "model_type", "patch_size", "image_size", "num_attention_heads", "hidden_act", "layer_norm_eps", "rope_theta",
    "use_swiglu_ffn", "use_gated_mlp", "num_register_tokens",
)  # fmt: skip
SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
HUB_ID_PATTERN = re.compile(r"[\w.-]+/[\w.-]+")


def load_dino(config: EncoderConfig, device: torch.device) -> DinoEncoder:
    """The DINO model of `encoder.name` and `encoder.weights`; raises EncoderError with the steps to get it."""
    folder = find_weights(config)
    settings = _read_json(folder / "config.json")
    files = _weight_files(folder, config)
    model = _load_model(folder, settings, config)
    fingerprint = _fingerprint(model, files)
    return DinoEncoder(config.name, model, fingerprint, device, config.precision, config.compile)


def find_weights(config: EncoderConfig) -> Path:
    """The local folder of `encoder.weights`: itself a folder, or a hub id that the local model cache already holds."""
    _transformers()
    folder = Path(config.weights).expanduser()
    if config.weights and folder.is_dir():
        if not (folder / "config.json").is_file():
            raise EncoderError(f"encoder.weights: {folder} has no config.json; " + _steps(config))
        return folder
    if HUB_ID_PATTERN.fullmatch(config.weights) and not config.weights.startswith("."):
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            cached = try_to_load_from_cache(config.weights, "config.json")
        except HFValidationError:
            cached = None
        if isinstance(cached, str):
            return Path(cached).parent
    what = f"{config.weights!r} is neither a folder nor in the local model cache" if config.weights else "not set"
    raise EncoderError(f"encoder.weights: {what}; " + _steps(config))


def _steps(config: EncoderConfig) -> str:
    """What a person has to do to get the weights."""
    # any other "a/b" may as well be the relative path of a folder that is not there
    hub_id = config.weights if config.weights.startswith(OFFICIAL) else HUB_ID[config.name]
    target = f"weights/{hub_id.rsplit('/', 1)[1]}"
    steps = [f"hf download {hub_id} --local-dir {target}", f"pass encoder.weights={target}"]
    if config.name in GATED:
        steps = [
            f"{config.name} weights are gated: accept their licence on the model page of {hub_id} (Hugging Face hub)",
            "hf auth login   (with a token of the account that accepted it)",
            *steps,
        ]
    lines = "\n".join(f"  {number}. {step}" for number, step in enumerate(steps, 1))
    return f"nothing is downloaded on its own, so once:\n{lines}"


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise EncoderError(
            'dinov2 and dinov3 need the transformers package: pip install "pasr-perception[transformers]"'
        ) from error
    return transformers


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(f"encoder.weights: cannot read {path}: {error}") from error
    if not isinstance(data, dict):
        raise EncoderError(f"encoder.weights: {path}: expected a JSON object, got {type(data).__name__}")
    return data


def _weight_files(folder: Path, config: EncoderConfig) -> list[Path]:
    """The safetensors files that make up the model, in a fixed order."""
    names = [SINGLE_FILE]
    if not (folder / SINGLE_FILE).is_file() and (folder / INDEX_FILE).is_file():
        names = sorted(set(_read_json(folder / INDEX_FILE).get("weight_map", {}).values()))
    missing = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
    if missing or not names:
        what = ", ".join(missing) or f"weight files in {INDEX_FILE}"
        raise EncoderError(f"encoder.weights: {folder} has no {what}; " + _steps(config))
    return [folder / name for name in names]


def _load_model(folder: Path, settings: dict[str, Any], config: EncoderConfig) -> Any:
    """The model in eval mode; every one of its weights must come from the files."""
    from safetensors import SafetensorError

    kinds = MODEL_CLASSES[config.name]
    kind = settings.get("model_type")
    if kind not in kinds:
        expected = " or ".join(kinds)
        raise EncoderError(
            f"encoder.weights: {folder}: encoder.name={config.name} expects model_type {expected}, got {kind!r}"
        )
    transformers = _transformers()
    if not hasattr(transformers, kinds[kind]):
        raise EncoderError(f"{config.name} needs transformers 4.56 or newer, got {transformers.__version__}")
    try:
        model, report = getattr(transformers, kinds[kind]).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise EncoderError(f"encoder.weights: cannot load {folder}: {error}") from error
    if report["missing_keys"]:  # transformers only warns, and leaves these at random
        names = sorted(report["missing_keys"])
        raise EncoderError(
            f"encoder.weights: {folder} lacks {len(names)} of the model's weights ({', '.join(names[:3])}, ...); "
            + _steps(config)
        )
    return model.eval()


def _fingerprint(model: Any, files: list[Path]) -> str:
    """sha256 over all that decides the features: preprocessing, the model's settings, the weight files' bytes."""
    facts = {name: getattr(model.config, name, None) for name in FINGERPRINTED}
    facts["preprocessing"] = [GRID, IMAGE_MEAN, IMAGE_STD]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


class DinoEncoder:
    """A frozen DINO vision transformer as an `encoders.base.Encoder`."""

    def __init__(
        self,
        name: str,
        model: Any,
        fingerprint: str,
        device: torch.device,
        precision: str = "auto",
        compiled: bool = False,
    ) -> None:
        patch = model.config.patch_size
        if not isinstance(patch, int):
            height, width = patch
            if height != width:
                raise EncoderError(f"encoder.weights: expected square patches, got {height} x {width}")
            patch = height
        self.name = name
        self.dim = int(model.config.hidden_size)
        self.grid = GRID
        self.image_size = GRID * patch
        self.fingerprint = fingerprint
        self._device = device
        self._dtype = number_type(precision, device)
        self._skip = 1 + getattr(model.config, "num_register_tokens", 0)  # class token, then registers
        model = model.to(device, self._dtype).requires_grad_(False)
        self._model = torch.compile(model) if compiled else model
        self._mean = torch.tensor(IMAGE_MEAN, device=device)[:, None, None]
        self._std = torch.tensor(IMAGE_STD, device=device)[:, None, None]

    @torch.no_grad()
    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Crops [B, 3, S, S] uint8 RGB -> features [B, D, 37, 37] float32, of unit length over D."""
        check_images(images, self.image_size)
        pixels = (images.to(self._device).float() / 255 - self._mean) / self._std
        tokens = self._model(pixel_values=pixels.to(self._dtype)).last_hidden_state[:, self._skip :]  # [B, g * g, D]
        maps = tokens.float().transpose(1, 2).unflatten(2, (self.grid, self.grid))
        return torch.nn.functional.normalize(maps, dim=1)
