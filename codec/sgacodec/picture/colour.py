"""Colours that a file describes without a profile (PNG's cICP, gAMA and cHRM, nclx of AVIF and HEIC), as sRGB.

Source: ISO/IEC 15948 (PNG), sections 11.3.2 and 13.13; ITU-T H.273, tables 2 and 3; Bradford adaptation: ICC.1:2022,
annex E.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sgacodec.picture import bmff, png
from sgacodec.picture.losses import Tell
from sgacodec.picture.profile import FloatArray, srgb_to_linear, tell_clipped

Pixels = npt.NDArray[np.uint8]

_SRGB = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
"""White, red, green and blue, each as x and y."""

_PRIMARIES = {
    1: _SRGB,
    2: _SRGB,  # unspecified
    5: (0.3127, 0.3290, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (0.3127, 0.3290, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    9: (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    12: (0.3127, 0.3290, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
"""By their number in H.273."""

_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
_AS_SRGB = (1, 2, 6, 13, 14, 15)
"""Transfer functions of H.273: those of television show as sRGB does, and 2 is unspecified."""

_HDR = {16: "PQ", 18: "HLG"}
_SRGB_GAMMA = 1 / 0.45455
"""What PNGs of sRGB have."""

_NEAR = 0.005
_ROWS = 256
"""So many rows are converted at a time."""

_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


@dataclass(frozen=True, eq=False)
class Encoding:
    """What RGB values stand for.

    Attributes:
        linear: float64 [256], the light of each value.
        matrix: float64 [3, 3], from that light to that of sRGB's primaries; None where they are the same.
    """

    linear: FloatArray
    matrix: FloatArray | None = None


def encoding_of(info: dict[Any, Any], data: bytes, tell: Tell) -> Encoding | None:
    """Return the encoding that a file describes, or None if it is that of sRGB or a matter of its profile.

    Args:
        info: what Pillow found in it.
        data: the file, or nothing where it is not known.
        tell: is told what cannot be converted.
    """
    code_points = _in_png(data) or _in_properties(data)
    if code_points is not None:
        return _of_code_points(code_points, tell)
    if "icc_profile" in info or "srgb" in info or not {"gamma", "chromaticity"} & set(info):
        return None
    gamma, chromaticities = info.get("gamma", 1 / _SRGB_GAMMA), info.get("chromaticity", _SRGB)
    if not (0.1 <= gamma <= 10 and all(0 < y < 1 for y in chromaticities[1::2])):
        tell("lost: gamma and chromaticities that no display has; coded as sRGB")
        return None
    return _encoding(1 / gamma, chromaticities, tell)


def to_srgb(rgb: Pixels, encoding: Encoding, tell: Tell) -> Pixels:
    """Return the same colours as sRGB, uint8 [H, W, 3]; those outside of it are clipped, which is told."""
    if encoding.matrix is None:
        return _from_linear(encoding.linear)[rgb]
    out, clipped = np.empty_like(rgb), 0
    for top in range(0, len(rgb), _ROWS):
        light = encoding.linear[rgb[top : top + _ROWS]] @ encoding.matrix.T
        clipped += int(((light < -_NEAR) | (light > 1 + _NEAR)).any(axis=2).sum())
        out[top : top + _ROWS] = _from_linear(light)
    tell_clipped(clipped, tell)
    return out


@dataclass(frozen=True)
class _CodePoints:
    """What H.273 has numbers for.

    Attributes:
        primaries, transfer: by these numbers.
        is_narrow: whether the values lie in 16..235, of 8 bits.
    """

    primaries: int
    transfer: int
    is_narrow: bool = False


def _in_png(data: bytes) -> _CodePoints | None:
    """Return what the cICP of a PNG says."""
    found = next((chunk.content(data) for chunk in png.header(data) if chunk.name == b"cICP"), b"")
    return _CodePoints(found[0], found[1], is_narrow=not found[3]) if len(found) == 4 else None


def _in_properties(data: bytes) -> _CodePoints | None:
    """Return what the nclx of an AVIF or HEIC says, unless there is a profile; decoders have widened a narrow range."""
    colours = list(bmff.properties(data, b"colr"))
    found = next((colour for colour in colours if colour.startswith(b"nclx") and len(colour) >= 8), None)
    if found is None or any(colour.startswith((b"prof", b"rICC")) for colour in colours):
        return None
    return _CodePoints(int.from_bytes(found[4:6], "big"), int.from_bytes(found[6:8], "big"))


def _of_code_points(found: _CodePoints, tell: Tell) -> Encoding | None:
    primaries, transfer = found.primaries, found.transfer
    if found.is_narrow:
        tell("the values are of narrow range (16 to 235); they are coded as they are, as if they were sRGB")
        return None
    if transfer in _HDR:
        name = _HDR[transfer]
        tell("lost: the transfer function %s; the values are coded as they are, as if they were sRGB", name)
        return None
    if primaries not in _PRIMARIES or not (transfer in _GAMMAS or transfer in _AS_SRGB):
        tell("lost: the colour description (primaries %d, transfer %d); coded as sRGB", primaries, transfer)
        return None
    return _encoding(_GAMMAS.get(transfer, _SRGB_GAMMA), _PRIMARIES[primaries], tell)


def _encoding(exponent: float, chromaticities: tuple[float, ...], tell: Tell) -> Encoding | None:
    same_curve = abs(1 / exponent - 1 / _SRGB_GAMMA) < _NEAR
    same_primaries = bool(np.abs(np.subtract(chromaticities, _SRGB)).max() < _NEAR)
    if same_curve and same_primaries:
        return None
    values = np.arange(256) / 255
    try:
        matrix = None if same_primaries else _matrix(chromaticities)
    except np.linalg.LinAlgError:
        tell("lost: chromaticities that span no colours; coded as sRGB")
        return None
    return Encoding(srgb_to_linear(values) if same_curve else values**exponent, matrix)


def _from_linear(light: FloatArray) -> Pixels:
    light = np.clip(light, 0, 1)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * encoded).astype(np.uint8)


def _matrix(chromaticities: tuple[float, ...]) -> FloatArray:
    """Return the matrix from light of these primaries to that of sRGB's, float64 [3, 3]."""
    own, srgb = _to_xyz(chromaticities), _to_xyz(_SRGB)
    cones = (_BRADFORD @ srgb.sum(axis=1)) / (_BRADFORD @ own.sum(axis=1))
    adapted = np.linalg.inv(_BRADFORD) @ np.diag(cones) @ _BRADFORD
    return np.asarray(np.linalg.inv(srgb) @ adapted @ own)


def _to_xyz(chromaticities: tuple[float, ...]) -> FloatArray:
    """Return the matrix from RGB to XYZ: the columns are the primaries, and their sum is the white."""
    white, *primaries = (np.array([x, y, 1 - x - y]) / y for x, y in zip(*[iter(chromaticities)] * 2, strict=True))
    columns = np.stack(primaries, axis=1)
    return np.asarray(columns * np.linalg.solve(columns, white))
