"""Where weights and calibration images come from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open

from sgacodec.errors import InvalidImageError, ModelError, SgacodecError
from sgacodec.picture import parse_colours
from sgacodec.synthetic import render
from sgacodec.train.data import state_dicts

log = logging.getLogger(__name__)

ZOO = ("mbt2018-mean",)
ZOO_LAMBDAS = (0.0018, 0.0035, 0.0067, 0.0130, 0.0250, 0.0483, 0.0932, 0.1800)
"""CompressAI's lambdas of MSE quality 1 to 8."""

_CROP = 256
_N_CALIBRATION = 24


@dataclass(frozen=True, eq=False)
class Weights:
    """A state dict and what is known of it.

    Attributes:
        state: parameters with CompressAI's names.
        lambdas: one per level.
        name: a name for the model.
        origin: where it comes from, for the model card.
        seen_pixels: pixels it was trained on, if known.
    """

    state: Mapping[str, Any]
    lambdas: tuple[float, ...]
    name: str
    origin: str
    seen_pixels: int = 0


def zoo(architecture: str, quality: int | None) -> Weights:
    """Fetch a pretrained model of CompressAI's zoo, which downloads it.

    Raises:
        ModelError: CompressAI is missing, no quality was given, or the download failed.
    """
    if quality is None:
        raise ModelError(f"name the quality of {architecture}: --quality 1 to 8")
    try:
        from compressai.zoo import image_models
    except ImportError as err:
        raise ModelError("the zoo needs CompressAI; install it with: pip install 'sgacodec[train]'") from err
    try:
        net = image_models[architecture](quality=quality, metric="mse", pretrained=True)
    except (OSError, RuntimeError) as err:
        raise ModelError(f"{architecture} quality {quality} could not be downloaded: {err}") from err
    return Weights(
        net.state_dict(), (ZOO_LAMBDAS[quality - 1],), f"{architecture}-{quality}", f"CompressAI zoo, {architecture}"
    )


def load(path: Path, error: type[SgacodecError], kind: str, remedy: str = "") -> Any:
    """Return what torch.save wrote, tensors on the CPU.

    Args:
        path: the file.
        error: what is raised where it is missing or cannot be read.
        kind: what the file should be, for the message.
        remedy: what to do where it is missing, for the message.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as err:
        raise error(f"{path} does not exist{remedy}") from err
    except Exception as err:  # the unpickler raises whatever it stumbles over
        raise error(f"{path} is not {kind}") from err


def state_file(path: Path) -> Weights:
    """Read a state dict saved by torch.save or as safetensors, bare or inside a training checkpoint.

    Raises:
        ModelError: the file is missing or holds something else.
    """
    remedy = f"; give a state-dict file or one of: {', '.join(ZOO)}"
    if _is_safetensors(path):
        content = _load_safetensors(path)
    else:
        content = load(path, ModelError, "a file of torch.save with tensors only", remedy)
    if not isinstance(content, Mapping):
        raise ModelError(f"{path} holds no state dict")
    state = state_dicts.find(content)
    _check_finite(path, state)
    try:
        lambdas = tuple(float(value) for value in content.get("lambdas", ())) or (0.013,)
        seen_pixels = int(content.get("seen_pixels", 0))
    except (TypeError, ValueError) as err:
        raise ModelError(f"{path} is damaged: its lambdas or seen_pixels are no numbers") from err
    return Weights(state, lambdas, path.stem, f"state dict {path.name}", seen_pixels)


def _is_safetensors(path: Path) -> bool:
    """Say whether a file starts like one of safetensors: 8 bytes of length, then JSON."""
    try:
        with path.open("rb") as file:
            return file.read(9)[8:] == b"{"
    except OSError:
        return False


def _load_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            if "sgacodec" in (file.metadata() or {}):
                raise ModelError(
                    f"{path} is a model of sgacodec already; use it by its path, or name its folder in SGACODEC_MODELS"
                )
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (SafetensorError, OSError) as err:
        raise ModelError(f"{path} is damaged: {err}") from err


def _check_finite(path: Path, state: Mapping[str, Any]) -> None:
    for name, value in state.items():
        if isinstance(value, torch.Tensor) and value.is_floating_point() and not torch.isfinite(value).all():
            raise ModelError(f"{path} holds weights that are not finite, in {name}")


def as_arrays(state: Mapping[str, Any]) -> dict[str, npt.NDArray[np.float64]]:
    """Return a state dict's tensors or arrays as float64, by way of float32."""
    floats = {name: torch.as_tensor(value).float().cpu().numpy() for name, value in state.items()}
    return {name: np.asarray(value, np.float64) for name, value in floats.items()}


def as_tensors(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, torch.Tensor]:
    """Return arrays as float32 tensors."""
    return {name: torch.from_numpy(np.asarray(array, np.float32)) for name, array in arrays.items()}


def to_input(image: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Return a calibration image, uint8 [H, W, 3], as float32 [1, 3, H', W'] in 0..1, sides cut to multiples of 64.

    Raises:
        ModelError: it is smaller than 64x64.
    """
    height, width = image.shape[0] // 64 * 64, image.shape[1] // 64 * 64
    if not height or not width:
        raise ModelError("calibration images must be at least 64x64")
    crop = np.ascontiguousarray(image[:height, :width].transpose(2, 0, 1))
    return torch.from_numpy(crop)[None].float() / 255


def calibration_images(folder: Path | None, generator: np.random.Generator) -> list[npt.NDArray[np.uint8]]:
    """Return 24 crops of 256x256: of photographs in a folder, or of rendered scenes.

    Raises:
        ModelError: the folder has no image of at least 256x256.
    """
    if folder is None:
        return [render(_CROP, _CROP, np.random.default_rng(seed)) for seed in range(_N_CALIBRATION)]
    crops: list[npt.NDArray[np.uint8]] = []
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in generator.permutation(np.array(paths, dtype=object)):
        try:
            rgb = parse_colours(path.read_bytes(), name=str(path))
        except (InvalidImageError, OSError) as err:
            log.warning("skipped: %s", err)
            continue
        if min(rgb.shape[:2]) >= _CROP:
            row, column = (int(generator.integers(side - _CROP + 1)) for side in rgb.shape[:2])
            crops.append(rgb[row : row + _CROP, column : column + _CROP])
        if len(crops) == _N_CALIBRATION:
            break
    if not crops:
        raise ModelError(f"{folder} holds no image of at least {_CROP}x{_CROP} pixels")
    return crops
