"""The golden files of format version 1, and how their stages are hashed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

V1 = Path(__file__).parents[1] / "golden" / "v1"
CASES = ("scene", "one-pixel", "gray", "alpha", "metadata", "escapes", "bands")
"""The files without a message."""
WITH_MESSAGE = "side-information"


def file_of(case: str) -> bytes:
    return (V1 / case / "file.sga").read_bytes()


def hashes_of(case: str) -> dict[str, str]:
    return json.loads((V1 / case / "hashes.json").read_text())


def sha256(array: np.ndarray, dtype: str) -> str:
    """SHA-256 of an array in this dtype and C order, as the hashes of the golden files are made."""
    return hashlib.sha256(np.ascontiguousarray(array.astype(dtype)).tobytes()).hexdigest()
