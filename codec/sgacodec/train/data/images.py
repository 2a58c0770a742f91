"""Training images: folders and zips, decoded once into one tensor."""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sgacodec.errors import InvalidImageError, TrainError, one_line
from sgacodec.picture import parse_colours
from sgacodec.picture.quiet import in_own_process

log = logging.getLogger(__name__)

_VALIDATION_SHARE = 5
"""At most one image in so many is held out."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of several sizes in one tensor.

    Attributes:
        pixels: uint8 [n_pixels, 3], image after image, row after row.
        sizes: int64 [n_images, 2], height and width.
    """

    pixels: Tensor
    sizes: Tensor

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.sizes)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images to train on, and the centres of held-out ones.

    Attributes:
        train: images of at least the patch size on each side.
        validation: uint8 [n, 3, P, P], centres of images that are not in `train`; chosen by content, so that the same
            files are held out in every run.
        fingerprint: hash of all contents.
    """

    train: ImageSet
    validation: Tensor
    fingerprint: str


@dataclass(frozen=True)
class _File:
    name: str
    read: Callable[[], bytes]


@dataclass(frozen=True, eq=False)
class _Decoded:
    digest: str
    rgb: npt.NDArray[np.uint8]


def load_images(paths: Sequence[Path], patch_size: int, n_validation: int, device: torch.device) -> Dataset:
    """Decode all images of folders and zips; what cannot be used is skipped with its name in the log.

    Args:
        paths: folders, searched with their subfolders, and zip archives.
        patch_size: smaller images are skipped.
        n_validation: images to hold out, at most a fifth of all.
        device: where the pixels are kept.

    Raises:
        TrainError: a path is neither folder nor zip, or fewer than two images are left.
    """
    images = _decode_all([file for path in paths for file in _files(path)], patch_size)
    if len(images) < 2:
        raise TrainError(
            f"{len(images)} images of at least {patch_size}x{patch_size} pixels in {', '.join(map(str, paths))}; "
            "training needs two or more, one of them to validate"
        )
    n_held = min(n_validation, max(1, len(images) // _VALIDATION_SHARE))
    return Dataset(
        train=_pack([found.rgb for found in images[n_held:]], device),
        validation=torch.stack([_centre(found.rgb, patch_size) for found in images[:n_held]]).to(device),
        fingerprint=hashlib.sha256("".join(found.digest for found in images).encode()).hexdigest()[:16],
    )


def _files(path: Path) -> Iterator[_File]:
    if path.is_dir():
        inside = sorted(found for found in path.rglob("*") if found.is_file() and not found.name.startswith("."))
        yield from (_File(str(found), found.read_bytes) for found in inside)
        return
    try:
        archive = zipfile.ZipFile(path)
    except Exception as err:  # a damaged directory raises what its fields lead to
        raise TrainError(f"{path} is neither a folder nor a zip archive of images") from err
    for entry in archive.infolist():
        if not entry.is_dir() and not Path(entry.filename).name.startswith("."):
            yield _File(f"{path}:{entry.filename}", partial(archive.read, entry))


def _decode_all(files: Sequence[_File], patch_size: int) -> list[_Decoded]:
    """Return the usable images in the order of their hashes, equal files once."""
    with in_own_process(), ThreadPoolExecutor(os.cpu_count()) as threads:
        found = [decoded for decoded in threads.map(_decode, files) if decoded is not None]
    usable = {decoded.digest: decoded for decoded in found if min(decoded.rgb.shape[:2]) >= patch_size}
    n_small = sum(min(decoded.rgb.shape[:2]) < patch_size for decoded in found)
    if n_small:
        log.warning("skipped %d images that are smaller than a patch of %dx%d", n_small, patch_size, patch_size)
    return [usable[digest] for digest in sorted(usable)]


def _decode(file: _File) -> _Decoded | None:
    try:
        data = file.read()
        return _Decoded(hashlib.sha256(data).hexdigest(), parse_colours(data, name=file.name))
    except InvalidImageError as err:
        log.warning("skipped: %s", err)
    except Exception as err:  # damaged archives raise errors of zipfile's and of each of its decompressors
        log.warning("skipped: %s cannot be read: %s", file.name, one_line(err))
    return None


def _pack(images: Sequence[npt.NDArray[np.uint8]], device: torch.device) -> ImageSet:
    pixels = torch.empty(sum(rgb.size for rgb in images) // 3, 3, dtype=torch.uint8, device=device)
    first = 0
    for rgb in images:
        end = first + rgb.size // 3
        pixels[first:end] = torch.tensor(rgb.reshape(-1, 3))
        first = end
    return ImageSet(pixels, torch.tensor([rgb.shape[:2] for rgb in images], device=device))


def _centre(rgb: npt.NDArray[np.uint8], size: int) -> Tensor:
    top, left = (rgb.shape[0] - size) // 2, (rgb.shape[1] - size) // 2
    return torch.tensor(rgb[top : top + size, left : left + size]).permute(2, 0, 1)
