"""Model files: safetensors with a JSON header that describes the model.

Source: format_spec.md, section 6.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from sgacodec.arrays import Array
from sgacodec.errors import ModelError, ModelMismatchError
from sgacodec.limits import MAX_MODEL_BYTES
from sgacodec.models.entropy import ENTROPY_MODELS, Hyperprior
from sgacodec.models.model import (
    BITS_BACK_PREFIX,
    BitsBack,
    Decoder,
    Encoder,
    Model,
    canonical_json,
    decoder_content,
    make_model,
)
from sgacodec.models.stored import from_stored, to_stored

FORMAT = 1
_JSON_KEY = "sgacodec"
_DECODER_PREFIX = "decoder."
_ENCODER_PREFIX = "encoder."


def dump_model(model: Model) -> bytes:
    """Return the bytes of a model file."""
    description, decoder_tensors = decoder_content(model.decoder)
    encoder, encoder_tensors = to_stored(model.encoder)
    header = {
        "format": FORMAT,
        "name": model.name,
        "id": model.model_id.hex(),
        "lambdas": list(model.lambdas),
        "decoder": description,
        "encoder": encoder,
        "card": dict(model.card),
    }
    tensors = {_DECODER_PREFIX + name: array for name, array in decoder_tensors.items()}
    tensors |= {_ENCODER_PREFIX + name: array for name, array in encoder_tensors.items()}
    if model.bits_back is not None and model.bits_back_id is not None:
        header["bits_back"], bits_back_tensors = to_stored(model.bits_back)
        header["bits_back_id"] = model.bits_back_id.hex()
        tensors |= {BITS_BACK_PREFIX + name: array for name, array in bits_back_tensors.items()}
    contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    return save_safetensors(contiguous, {_JSON_KEY: canonical_json(header).decode()})


def load_model(data: bytes) -> Model:
    """Read a model file and prove that its decoder is exact.

    Raises:
        ModelError: the bytes are not a model file, or one that cannot be evaluated exactly.
        ModelMismatchError: its content does not have the id that it names.
    """
    header = read_header(data)
    try:
        tensors = load_safetensors(data)
        model = _assemble(header, tensors)
    except SafetensorError as err:
        raise ModelError(f"the model file's tensors cannot be read: {err}") from err
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as err:
        raise ModelError(f"the model file is damaged: {err}") from err
    ids = {"id": model.model_id, "bits_back_id": model.bits_back_id}
    for key, identity in ids.items():
        found = None if identity is None else identity.hex()
        if found != header.get(key):
            raise ModelMismatchError(f"the model file says {key} {header.get(key)}, its content has {found}")
    return model


def read_header(data: bytes) -> dict[str, Any]:
    """Return a model file's JSON header; `data` may end after it.

    Raises:
        ModelError: there is none.
    """
    try:
        (n_bytes,) = struct.unpack_from("<Q", data)
        header = json.loads(json.loads(data[8 : 8 + n_bytes])["__metadata__"][_JSON_KEY])
    except (struct.error, ValueError, KeyError, TypeError, OverflowError, RecursionError) as err:
        raise ModelError("this is not a sgacodec model file") from err
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ModelError("the model file has another format version; upgrade with: pip install --upgrade sgacodec")
    return header


def read_file_header(path: Path) -> dict[str, Any]:
    """Return a model file's JSON header without reading its tensors."""
    with path.open("rb") as file:
        start = file.read(8)
        n_bytes = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        return read_header(start + file.read(min(n_bytes, 2**24)))


def load_model_file(path: Path) -> Model:
    """Read a model file.

    Raises:
        ModelError: see `load_model`; also when it is too large.
    """
    if path.stat().st_size > MAX_MODEL_BYTES:
        raise ModelError(f"{path} is too large to be a model file")
    try:
        return load_model(path.read_bytes())
    except ModelError as err:
        raise type(err)(f"{path}: {err}") from err


def _assemble(header: Mapping[str, Any], tensors: Mapping[str, Array]) -> Model:
    return make_model(
        str(header["name"]),
        tuple(float(value) for value in header["lambdas"]),
        _read_decoder(header["decoder"], _under(_DECODER_PREFIX, tensors)),
        from_stored(Encoder, header["encoder"], _under(_ENCODER_PREFIX, tensors)),
        header["card"],
        from_stored(BitsBack, header["bits_back"], _under(BITS_BACK_PREFIX, tensors))
        if "bits_back" in header
        else None,
    )


def _under(prefix: str, tensors: Mapping[str, Array]) -> dict[str, Array]:
    return {name[len(prefix) :]: array for name, array in tensors.items() if name.startswith(prefix)}


def _read_decoder(description: Mapping[str, Any], tensors: Mapping[str, Array]) -> Decoder:
    kind = description.get("entropy_model", Hyperprior.kind)
    if kind not in ENTROPY_MODELS:
        raise ModelError(f"the model has an entropy model {kind!r}, which this version does not know")
    return from_stored(Decoder, description, tensors, entropy=from_stored(ENTROPY_MODELS[kind], description, tensors))
