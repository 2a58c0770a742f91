"""Finds a model by id, name or path: packaged with sgacodec, in a folder of the user's, or in the user's cache.

Never touches the network. Folders are searched in this order: `SGACODEC_MODELS` (separated like PATH), the user's
cache, the packaged models.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sgacodec.errors import ModelError, ModelNotFoundError
from sgacodec.models.file import load_model, load_model_file, read_file_header
from sgacodec.models.model import Model

SUFFIX = ".safetensors"
DEFAULT_MODEL = "context-96-320"
_PACKAGED = Path(__file__).parent
_given: dict[str, Model] = {}
"""Models that this process has from another one, on whose machine their files are."""


@dataclass(frozen=True)
class StoredModel:
    """A model file that was found.

    Attributes:
        path: the file.
        name: its name.
        model_id: its id as 16 hexadecimal digits.
        bits_back_id: the id that its files with a message name, or None.
        packaged: whether it came with sgacodec.
    """

    path: Path
    name: str
    model_id: str
    bits_back_id: str | None
    packaged: bool


def cache_folder() -> Path | None:
    """Return the folder that `sgacodec models import` writes to, or None for a user without a home folder."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    if base:
        return Path(base) / "sgacodec" / "models"
    try:
        return Path.home() / ".cache" / "sgacodec" / "models"
    except RuntimeError:  # HOME is not set, and the user has no name
        return None


def folders() -> list[Path]:
    """Return the folders that are searched, first one first."""
    own = [Path(folder) for folder in os.environ.get("SGACODEC_MODELS", "").split(os.pathsep) if folder]
    cache = cache_folder()
    return [*own, *([] if cache is None else [cache]), _PACKAGED]


def installed() -> list[StoredModel]:
    """Return all readable model files in the searched folders; later ones with the same name are hidden."""
    found: dict[str, StoredModel] = {}
    for entry in _scan():
        found.setdefault(entry.name, entry)
    return list(found.values())


def load_by_id(model_id: bytes) -> Model:
    """Return the model with an 8-byte id, its own or that of its decoder and bits-back model.

    Raises:
        ModelNotFoundError: it is in none of the folders.
    """
    for model in _given.values():
        if model_id in (model.model_id, model.bits_back_id):
            return model
    for entry in _scan():
        if model_id.hex() in (entry.model_id, entry.bits_back_id):
            return _load(entry.path, entry.path.stat().st_mtime_ns)
    raise ModelNotFoundError(
        f"no model with id {model_id.hex()} is installed; copy its file into {cache_folder() or 'a folder'}, name its "
        "folder in SGACODEC_MODELS, or upgrade with: pip install --upgrade sgacodec"
    )


def load_by_name(name: str) -> Model:
    """Return the model with a name, an id in hexadecimal, or at a path.

    Raises:
        ModelNotFoundError: there is none.
    """
    given = _given.get(str(name))
    if given is not None:
        return given
    path, _ = _found(name)
    return _load(path, path.stat().st_mtime_ns)


def file_to_hand_on(name: str) -> bytes | None:
    """Return the file of a model that other machines may not have, or None for one that comes with sgacodec.

    Raises:
        ModelNotFoundError: see `load_by_name`.
    """
    path, packaged = _found(name)
    return None if packaged else path.read_bytes()


def give(name: str, data: bytes) -> None:
    """Have this process find a model, from the bytes of its file, before all others.

    Raises:
        ModelError: see `file.load_model`.
    """
    if str(name) not in _given:
        _given[str(name)] = load_model(data)


def _found(name: str) -> tuple[Path, bool]:
    """Return the path of a model, and whether it comes with sgacodec; see `load_by_name`."""
    path = Path(name)
    if path.suffix == SUFFIX and path.is_file():
        return path, False
    entries = list(_scan())  # one that another of its name hides is still found by its id
    for entry in entries:
        if name in (entry.name, entry.model_id, entry.bits_back_id):
            return entry.path, entry.packaged
    known = ", ".join(sorted({entry.name for entry in entries})) or "none"
    raise ModelNotFoundError(f"no model is called {name!r}; installed are: {known}")


def _scan() -> Iterator[StoredModel]:
    for folder in folders():
        # by stem: where a model is there with and without a bits-back model, "x" comes before "x-head"
        for path in sorted(_files(folder), key=lambda path: path.stem):
            try:
                header = read_file_header(path)
            except (ModelError, OSError):
                continue  # a foreign or damaged file must not hide the others
            bits_back_id = header.get("bits_back_id")
            yield StoredModel(path, str(header.get("name")), str(header.get("id")), bits_back_id, folder == _PACKAGED)


def _files(folder: Path) -> list[Path]:
    try:
        return list(folder.glob(f"*{SUFFIX}"))
    except OSError:
        return []  # a folder that may not be read, such as another user's home, must not hide the others


@lru_cache(maxsize=4)
def _load(path: Path, mtime_ns: int) -> Model:
    return load_model_file(path)
