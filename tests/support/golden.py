"""The golden files of format version 1, and how their stages are hashed."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

import numpy as np

from sgacodec.models.file import load_model

V1 = Path(__file__).parents[1] / "golden" / "v1"
OVERLAID = ("overlay", "overlay-everywhere", "context-overlay")
CODED_ALPHA = ("alpha-stream", "alpha-constant")
_HYPERPRIOR = ("scene", "one-pixel", "gray", "alpha", "metadata", "escapes", "bands", *OVERLAID[:2], *CODED_ALPHA)
_CONTEXT = ("context", "context-one-pixel", "context-escapes", "context-bands", OVERLAID[2])
_PASSES = "context-passes"
"""Of a model whose first group has five passes."""
_LAP = "context-lap"
"""Of a model whose synthesis ends with a lapped transform."""
CASES = (*_HYPERPRIOR, *_CONTEXT, _PASSES, _LAP)
"""The files without a message."""
BANDS = ("bands", "context-bands")
ESCAPES = ("escapes", "context-escapes")
WITH_MESSAGE = {"side-information": "tiny-head", "context-message": "tiny-context-head"}
"""The files with a message in their latents, and their models."""


def model_of(case: str) -> str:
    """The name of the model of a file."""
    others = {_PASSES: "tiny-context-passes", _LAP: "tiny-context-lap", **WITH_MESSAGE}
    return others.get(case, "tiny-context" if case in _CONTEXT else "tiny")


def model_bytes(case: str) -> bytes:
    """The model file of a file."""
    return (V1 / f"{model_of(case)}.safetensors").read_bytes()


@cache
def load_model_of(case: str):
    """The model of a file."""
    return load_model(model_bytes(case))


def file_of(case: str) -> bytes:
    return (V1 / case / "file.sga").read_bytes()


def hashes_of(case: str) -> dict[str, str]:
    return json.loads((V1 / case / "hashes.json").read_text())


def sha256(array: np.ndarray, dtype: str) -> str:
    """SHA-256 of an array in this dtype and C order, as the hashes of the golden files are made."""
    return hashlib.sha256(np.ascontiguousarray(array.astype(dtype)).tobytes()).hexdigest()
