"""Model files: safetensors with a JSON description; the id is a hash of what the decoder uses.

Source: format_spec.md, section 6.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from sgacodec.entropy.stack import lattice_tables
from sgacodec.entropy.tables import TableSet
from sgacodec.errors import ModelError, ModelMismatchError
from sgacodec.exact import layers
from sgacodec.exact.fixedpoint import MAX_ACTIVATION_BITS, require_exact
from sgacodec.format.container import MODEL_ID_BYTES
from sgacodec.limits import MAX_MODEL_BYTES

FORMAT = 1
_JSON_KEY = "sgacodec"
_DECODER = "decoder."
_BITS_BACK = "bits_back."

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Decoder:
    """What decoding needs; the model id is a hash of it.

    Attributes:
        h_s: integer network, z_hat to sigma and mu (2 * M channels, sigma first).
        g_s: integer network, y_hat to pixels 0..255 (3 channels).
        y_frac_bits: fractional bits of mu, sigma and y_hat (h_s's output).
        z_frac_bits: fractional bits of z_hat before its gain.
        h_s_shift: right shift from z_hat times gain to h_s's input.
        g_s_shift: right shift from y_hat times gain to g_s's input.
        inv_gain_y: int64 [L, M].
        inv_gain_z: int64 [L, N].
        z_median: int64 [N], Q.z_frac_bits.
        sigma_thresholds: int64 [T - 1], ascending, Q.y_frac_bits.
        z_tables: N tables.
        y_tables: T tables.
    """

    h_s: layers.Network
    g_s: layers.Network
    y_frac_bits: int
    z_frac_bits: int
    h_s_shift: int
    g_s_shift: int
    inv_gain_y: Array
    inv_gain_z: Array
    z_median: Array
    sigma_thresholds: Array
    z_tables: TableSet
    y_tables: TableSet

    @property
    def n_levels(self) -> int:
        """Number of rate levels L."""
        return int(self.inv_gain_y.shape[0])

    @property
    def y_stride(self) -> int:
        """Pixels per y_hat sample along one side."""
        return layers.upscale(self.g_s)

    @property
    def z_stride(self) -> int:
        """Pixels per z_hat sample along one side."""
        return self.y_stride * layers.upscale(self.h_s)


@dataclass(frozen=True, eq=False)
class Encoder:
    """What only encoding needs, in floating point; not part of the id.

    Attributes:
        g_a: float network, pixels in 0..1 to y.
        h_a: float network, y (after its gain) to z.
        gain_y: float32 [L, M].
        gain_z: float32 [L, N].
    """

    g_a: layers.Network
    h_a: layers.Network
    gain_y: Array
    gain_z: Array


@dataclass(frozen=True, eq=False)
class BitsBack:
    """The head for bits-back coding: a second hyper network, of integer y_hat (format_spec.md, section 8).

    N, M, T (number of scales), `y_frac_bits`, `z_frac_bits` and `sigma_thresholds` are the decoder's.

    Attributes:
        h_a: integer network, y_hat (integers) to mean and natural log-variance of z (2 * N channels, mean first),
            both Q.z_frac_bits.
        h_s: integer network, z_hat (Q.z_frac_bits, no gain) to sigma and mu of y (2 * M channels, sigma first).
        lattice_bits: the finest lattice of z has a step of 2^-lattice_bits.
        log_variance_thresholds: int64 [T - 1], ascending, Q.z_frac_bits: where the next scale begins.
        scales: int64 [T], the sigma of each scale, Q.16.
        fraction_bits: int64 [T]; scale t has 2^fraction_bits[t] tables, one for each fraction of the mean.
        tables: Gaussians of unit-step values minus floor(mean), ordered by scale, then fraction.
        z_cells: N tables of the density's mass in cells of width 2^-(lattice_bits + 1); cell c covers c .. c + 1.
        z_order: int64 [N], the channels in the order in which they carry side information.
    """

    h_a: layers.Network
    h_s: layers.Network
    lattice_bits: int
    log_variance_thresholds: Array
    scales: Array
    fraction_bits: Array
    tables: TableSet
    z_cells: TableSet
    z_order: Array


@dataclass(frozen=True, eq=False)
class Model:
    """A model: decoder, encoder, and what people want to know of it.

    Attributes:
        name: what `--model` takes.
        model_id: 8 bytes, hash of the decoder.
        lambdas: R-D trade-off of each level, loss = lambda * 255^2 * MSE + bpp.
        decoder: integer part.
        encoder: float part.
        card: free text fields (training data, steps, licence ...).
        bits_back: head for side information, or None.
        bits_back_id: 8 bytes, hash of decoder and head, which a file with side information names instead of `model_id`.
    """

    name: str
    model_id: bytes
    lambdas: tuple[float, ...]
    decoder: Decoder
    encoder: Encoder
    card: Mapping[str, str]
    bits_back: BitsBack | None = None
    bits_back_id: bytes | None = None


def make_model(
    name: str,
    lambdas: tuple[float, ...],
    decoder: Decoder,
    encoder: Encoder,
    card: Mapping[str, str],
    bits_back: BitsBack | None = None,
) -> Model:
    """Check the integer parts, compute their ids, and put a model together.

    Raises:
        ModelError: an integer part cannot be evaluated exactly.
    """
    check_decoder(decoder)
    if len(lambdas) != decoder.n_levels:
        raise ModelError(f"{len(lambdas)} lambdas for {decoder.n_levels} levels")
    model = Model(name, model_id(*_decoder_content(decoder)), lambdas, decoder, encoder, dict(card))
    return model if bits_back is None else with_bits_back(model, bits_back)


def with_bits_back(model: Model, bits_back: BitsBack) -> Model:
    """Return a model with this head; its decoder, and so its `model_id`, stay what they are.

    Raises:
        ModelError: the head does not fit the decoder, or cannot be evaluated exactly.
    """
    check_bits_back(bits_back, model.decoder)
    description, tensors = _decoder_content(model.decoder)
    head_description, head_tensors = _bits_back_content(bits_back)
    identity = model_id(
        description | {"bits_back": head_description},
        tensors | {_BITS_BACK + name: array for name, array in head_tensors.items()},
    )
    return replace(model, bits_back=bits_back, bits_back_id=identity)


def model_id(description: Mapping[str, Any], tensors: Mapping[str, Array]) -> bytes:
    """Return the first 8 bytes of SHA-256 over a decoder's description and tensors (format_spec.md, section 6.2)."""
    digest = hashlib.sha256(_canonical_json(description))
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"{name}|{array.dtype.str[1:]}|{','.join(map(str, array.shape))}|".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.digest()[:MODEL_ID_BYTES]


def check_decoder(decoder: Decoder) -> None:
    """Prove that every integer step of a decoder is exact in float64.

    Raises:
        ModelError: it is not, or shapes do not fit.
    """
    n_channels = decoder.inv_gain_z.shape[1] if decoder.inv_gain_z.ndim == 2 else 0
    m_channels = decoder.inv_gain_y.shape[1] if decoder.inv_gain_y.ndim == 2 else 0
    levels = decoder.n_levels
    shapes_fit = (
        n_channels > 0
        and m_channels > 0
        and 1 <= levels <= 16
        and decoder.inv_gain_z.shape[0] == levels
        and decoder.z_median.shape == (n_channels,)
        and len(decoder.z_tables) == n_channels
        and decoder.sigma_thresholds.shape == (len(decoder.y_tables) - 1,)
        and bool(np.all(np.diff(decoder.sigma_thresholds) > 0))
    )
    bits_fit = all(1 <= bits <= 20 for bits in (decoder.y_frac_bits, decoder.z_frac_bits))
    shifts_fit = all(1 <= shift <= 40 for shift in (decoder.h_s_shift, decoder.g_s_shift))
    if not (shapes_fit and bits_fit and shifts_fit):
        raise ModelError("the model's gains, medians, thresholds and tables do not fit together")
    bound = 1 << (MAX_ACTIVATION_BITS - 1)
    for gains in (decoder.inv_gain_y, decoder.inv_gain_z):
        if int(gains.min()) < 1:
            raise ModelError("a gain is not positive")
        require_exact(bound * int(gains.max()) + (1 << 40), "a gain's product")
    h_s_channels = layers.check_network(decoder.h_s, n_channels, bound, "h_s")
    g_s_channels = layers.check_network(decoder.g_s, m_channels, bound, "g_s")
    if h_s_channels != 2 * m_channels or g_s_channels != 3:
        raise ModelError(f"h_s gives {h_s_channels} channels and g_s {g_s_channels}; needed are {2 * m_channels} and 3")
    if not isinstance(decoder.g_s[-1], layers.Clamp) or (decoder.g_s[-1].low, decoder.g_s[-1].high) != (0, 255):
        raise ModelError("g_s does not end by clamping to 0..255")


def check_bits_back(head: BitsBack, decoder: Decoder) -> None:
    """Prove that every integer step of a head is exact in float64, and that it fits its decoder.

    Raises:
        ModelError: it is not, or does not.
    """
    n_channels, m_channels = decoder.inv_gain_z.shape[1], decoder.inv_gain_y.shape[1]
    n_scales = len(decoder.y_tables)
    shapes_fit = (
        n_scales >= 2
        and 0 <= head.lattice_bits <= decoder.z_frac_bits
        and head.log_variance_thresholds.shape == (n_scales - 1,)
        and bool(np.all(np.diff(head.log_variance_thresholds) > 0))
        and head.scales.shape == head.fraction_bits.shape == (n_scales,)
        and int(head.scales.min()) > 0
        and int(head.scales.max()) < 2**26
        and bool(np.all(np.diff(head.scales) > 0))
        and 0 <= int(head.fraction_bits.min()) <= int(head.fraction_bits.max()) <= decoder.y_frac_bits
        and len(head.tables) == int((1 << head.fraction_bits).sum())
        and int(head.tables.lengths.min()) >= 3
        and len(head.z_cells) == n_channels
        and np.array_equal(np.sort(head.z_order), np.arange(n_channels))
    )
    if not shapes_fit:
        raise ModelError("the bits-back head's thresholds, scales and tables do not fit together")
    lattice_tables(head.z_cells, head.lattice_bits + 1, 0)
    bound = 1 << (MAX_ACTIVATION_BITS - 1)
    h_a_channels = layers.check_network(head.h_a, m_channels, bound, "bits-back h_a")
    h_s_channels = layers.check_network(head.h_s, n_channels, bound, "bits-back h_s")
    if (h_a_channels, h_s_channels) != (2 * n_channels, 2 * m_channels):
        raise ModelError(f"the bits-back networks give {h_a_channels} and {h_s_channels} channels")
    if layers.downscale(head.h_a) != layers.upscale(head.h_s) or layers.upscale(head.h_s) != layers.upscale(
        decoder.h_s
    ):
        raise ModelError("the bits-back networks' strides are not the decoder's")
    layers.check_adjoint(head.h_s, "bits-back h_s")


_DECODER_NUMBERS = ("y_frac_bits", "z_frac_bits", "h_s_shift", "g_s_shift")
_DECODER_ARRAYS = ("inv_gain_y", "inv_gain_z", "z_median", "sigma_thresholds")
_BITS_BACK_ARRAYS = ("log_variance_thresholds", "scales", "fraction_bits", "z_order")
_TABLE_FIELDS = {"frequencies": np.uint32, "lengths": np.int32, "minima": np.int32}


def _decoder_content(decoder: Decoder) -> tuple[dict[str, Any], dict[str, Array]]:
    h_s, h_s_tensors = layers.to_stored(decoder.h_s, "h_s")
    g_s, g_s_tensors = layers.to_stored(decoder.g_s, "g_s")
    description = {"h_s": h_s, "g_s": g_s, **{name: getattr(decoder, name) for name in _DECODER_NUMBERS}}
    tensors = {**h_s_tensors, **g_s_tensors, **{name: getattr(decoder, name) for name in _DECODER_ARRAYS}}
    for name in ("z_tables", "y_tables"):
        tensors |= _stored_tables(name, getattr(decoder, name))
    return description, tensors


def _bits_back_content(head: BitsBack) -> tuple[dict[str, Any], dict[str, Array]]:
    h_a, h_a_tensors = layers.to_stored(head.h_a, "h_a")
    h_s, h_s_tensors = layers.to_stored(head.h_s, "h_s")
    tensors = {**h_a_tensors, **h_s_tensors, **{name: getattr(head, name) for name in _BITS_BACK_ARRAYS}}
    for name in ("tables", "z_cells"):
        tensors |= _stored_tables(name, getattr(head, name))
    return {"h_a": h_a, "h_s": h_s, "lattice_bits": head.lattice_bits}, tensors


def _stored_tables(name: str, tables: TableSet) -> dict[str, Array]:
    return {f"{name}.{field}": getattr(tables, field).astype(dtype) for field, dtype in _TABLE_FIELDS.items()}


def _canonical_json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def dump_model(model: Model) -> bytes:
    """Return the bytes of a model file."""
    description, decoder_tensors = _decoder_content(model.decoder)
    g_a, g_a_tensors = layers.to_stored(model.encoder.g_a, "g_a")
    h_a, h_a_tensors = layers.to_stored(model.encoder.h_a, "h_a")
    encoder_tensors = {
        **g_a_tensors,
        **h_a_tensors,
        "gain_y": model.encoder.gain_y,
        "gain_z": model.encoder.gain_z,
    }
    head = {
        "format": FORMAT,
        "name": model.name,
        "id": model.model_id.hex(),
        "lambdas": list(model.lambdas),
        "decoder": description,
        "encoder": {"g_a": g_a, "h_a": h_a},
        "card": dict(model.card),
    }
    tensors = {_DECODER + name: array for name, array in decoder_tensors.items()}
    tensors |= {f"encoder.{name}": array for name, array in encoder_tensors.items()}
    if model.bits_back is not None and model.bits_back_id is not None:
        head["bits_back"], bits_back_tensors = _bits_back_content(model.bits_back)
        head["bits_back_id"] = model.bits_back_id.hex()
        tensors |= {_BITS_BACK + name: array for name, array in bits_back_tensors.items()}
    contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    return save_safetensors(contiguous, {_JSON_KEY: _canonical_json(head).decode()})


def load_model(data: bytes) -> Model:
    """Read a model file and prove that its decoder is exact.

    Raises:
        ModelError: the bytes are not a model file, or one that cannot be evaluated exactly.
        ModelMismatchError: its content does not have the id that it names.
    """
    head = read_head(data)
    try:
        tensors = load_safetensors(data)
        model = _assemble(head, tensors)
    except SafetensorError as err:
        raise ModelError(f"the model file's tensors cannot be read: {err}") from err
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as err:
        raise ModelError(f"the model file is damaged: {err}") from err
    ids = {"id": model.model_id, "bits_back_id": model.bits_back_id}
    for key, identity in ids.items():
        found = None if identity is None else identity.hex()
        if found != head.get(key):
            raise ModelMismatchError(f"the model file says {key} {head.get(key)}, its content has {found}")
    return model


def read_head(data: bytes) -> dict[str, Any]:
    """Return a model file's JSON description; `data` may end after it.

    Raises:
        ModelError: there is none.
    """
    try:
        (n_bytes,) = struct.unpack_from("<Q", data)
        head = json.loads(json.loads(data[8 : 8 + n_bytes])["__metadata__"][_JSON_KEY])
    except (struct.error, ValueError, KeyError, TypeError, OverflowError) as err:
        raise ModelError("this is not a sgacodec model file") from err
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise ModelError("the model file has another format version; upgrade with: pip install --upgrade sgacodec")
    return head


def read_file_head(path: Path) -> dict[str, Any]:
    """Return a model file's JSON description without reading its tensors."""
    with path.open("rb") as file:
        start = file.read(8)
        n_bytes = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        return read_head(start + file.read(min(n_bytes, 2**24)))


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


def _assemble(head: Mapping[str, Any], tensors: Mapping[str, Array]) -> Model:
    encoder_tensors = _under("encoder.", tensors)
    encoder = Encoder(
        g_a=layers.from_stored(head["encoder"]["g_a"], encoder_tensors, "g_a"),
        h_a=layers.from_stored(head["encoder"]["h_a"], encoder_tensors, "h_a"),
        gain_y=encoder_tensors["gain_y"],
        gain_z=encoder_tensors["gain_z"],
    )
    decoder = _read_decoder(head["decoder"], _under(_DECODER, tensors))
    bits_back = _read_bits_back(head["bits_back"], _under(_BITS_BACK, tensors)) if "bits_back" in head else None
    lambdas = tuple(float(value) for value in head["lambdas"])
    return make_model(str(head["name"]), lambdas, decoder, encoder, head["card"], bits_back)


def _under(prefix: str, tensors: Mapping[str, Array]) -> dict[str, Array]:
    return {name[len(prefix) :]: array for name, array in tensors.items() if name.startswith(prefix)}


def _read_decoder(description: Mapping[str, Any], tensors: Mapping[str, Array]) -> Decoder:
    values: dict[str, Any] = {name: int(description[name]) for name in _DECODER_NUMBERS}
    values |= {name: tensors[name].astype(np.int64, casting="safe") for name in _DECODER_ARRAYS}
    return Decoder(
        h_s=layers.from_stored(description["h_s"], tensors, "h_s"),
        g_s=layers.from_stored(description["g_s"], tensors, "g_s"),
        **values,
        z_tables=_read_tables("z_tables", tensors),
        y_tables=_read_tables("y_tables", tensors),
    )


def _read_bits_back(description: Mapping[str, Any], tensors: Mapping[str, Array]) -> BitsBack:
    arrays = {name: tensors[name].astype(np.int64, casting="safe") for name in _BITS_BACK_ARRAYS}
    return BitsBack(
        h_a=layers.from_stored(description["h_a"], tensors, "h_a"),
        h_s=layers.from_stored(description["h_s"], tensors, "h_s"),
        lattice_bits=int(description["lattice_bits"]),
        **arrays,
        tables=_read_tables("tables", tensors),
        z_cells=_read_tables("z_cells", tensors),
    )


def _read_tables(name: str, tensors: Mapping[str, Array]) -> TableSet:
    frequencies, lengths, minima = (
        tensors[f"{name}.{field}"].astype(np.int64, casting="safe") for field in _TABLE_FIELDS
    )
    return TableSet(frequencies, lengths, minima)
