"""What a model is, and the proof that its decoder is exact; the id is a hash of what the decoder uses.

Source: format_spec.md, section 6.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from sgacodec.arrays import Array
from sgacodec.entropy.lattice import lattice_tables
from sgacodec.entropy.tables import TableSet
from sgacodec.errors import ModelError
from sgacodec.exact import proof
from sgacodec.exact.layers import Clamp, Network
from sgacodec.exact.transpose import check_transpose
from sgacodec.format.container import MODEL_ID_BYTES
from sgacodec.models.entropy import LARGEST_INPUT, ContextModel, Hyperprior, ascends, check_gains
from sgacodec.models.stored import to_stored

BITS_BACK_PREFIX = "bits_back."

FloatArray = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Decoder:
    """What decoding needs; the model id is a hash of it.

    Attributes:
        entropy: what predicts y.
        g_s: integer network, y_hat to pixels 0..255 (3 channels).
        y_frac_bits: fractional bits of mu, sigma and y_hat.
        g_s_shift: right shift from y_hat times gain to g_s's input.
        inv_gain_y: int64 [L, M].
    """

    entropy: Any
    g_s: Network
    y_frac_bits: int
    g_s_shift: int
    inv_gain_y: Array

    @property
    def n_levels(self) -> int:
        """Number of rate levels L."""
        return int(self.inv_gain_y.shape[0])

    @property
    def m_channels(self) -> int:
        """Channels of y, M."""
        return int(self.inv_gain_y.shape[1])

    @property
    def n_channels(self) -> int:
        """Channels of z, N."""
        return len(self.entropy.z_tables)

    @cached_property
    def y_stride(self) -> int:
        """Pixels per y_hat sample along one side."""
        return proof.upscale(self.g_s, self.m_channels)

    @cached_property
    def halo(self) -> int:
        """Rows of y_hat on either side of a strip that reach its pixels."""
        return proof.halo(self.g_s, self.m_channels)

    @property
    def z_stride(self) -> int:
        """Pixels per z_hat sample along one side."""
        return self.y_stride * self.entropy.y_per_z


@dataclass(frozen=True, eq=False)
class Encoder:
    """What only encoding needs, in floating point; not part of the id.

    Attributes:
        g_a: float network, pixels in 0..1 to y.
        h_a: float network, y (after its gain) to z.
        gain_y: float32 [L, M].
        gain_z: float32 [L, N].
    """

    g_a: Network
    h_a: Network
    gain_y: FloatArray
    gain_z: FloatArray


@dataclass(frozen=True, eq=False)
class BitsBack:
    """The model for bits-back coding: a second hyper network, of integer y_hat (format_spec.md, section 8).

    N, M, `y_frac_bits` and `z_frac_bits` are the decoder's. With a hyperprior T, the number of scales, and
    `sigma_thresholds` are so too; with a context model that model, its units and its tables of y.

    Attributes:
        h_a: integer network, y_hat to mean and natural log-variance of z (2 * N channels, mean first), both
            Q.z_frac_bits; with a hyperprior it sees integers, with a context model what that sees: y_hat / unit.
        h_s: integer network, z_hat (Q.z_frac_bits, no gain) to what the decoder's own h_s gives: sigma and mu of y
            (2 * M channels, sigma first), or P channels to which the level's bias is added.
        lattice_bits: the finest lattice of z has a step of 2^-lattice_bits.
        log_variance_thresholds: int64 [T - 1], ascending, Q.z_frac_bits: where the next scale begins.
        scales: int64 [T], the sigma of each scale, Q.16.
        fraction_bits: int64 [T]; scale t has 2^fraction_bits[t] tables, one for each fraction of the mean.
        tables: Gaussians of unit-step values minus floor(mean), ordered by scale, then fraction: of Q(z | y), and with
            a hyperprior of P(y | z).
        z_cells: N tables of the density's mass in cells of width 2^-(lattice_bits + 1); cell c covers c .. c + 1.
        z_order: int64 [N], the channels in the order in which they carry a message.
    """

    h_a: Network
    h_s: Network
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
        bits_back: model for messages in the latents, or None.
        bits_back_id: 8 bytes, hash of decoder and bits-back model, which a file whose latents carry a message
            names instead of `model_id`.
    """

    name: str
    model_id: bytes
    lambdas: tuple[float, ...]
    decoder: Decoder
    encoder: Encoder
    card: Mapping[str, str]
    bits_back: BitsBack | None = None
    bits_back_id: bytes | None = None

    @cached_property
    def analysis_halo(self) -> int:
        """Rows of z on either side of a piece of a picture whose pixels reach the piece's y or z."""
        y = proof.shapes(self.encoder.g_a, 3, "g_a")[-1]
        return proof.shapes_behind(y, self.encoder.h_a, "h_a")[-1].reach


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
    check_encoder(encoder, decoder)
    if len(lambdas) != decoder.n_levels:
        raise ModelError(f"{len(lambdas)} lambdas for {decoder.n_levels} levels")
    model = Model(name, model_id(*decoder_content(decoder)), lambdas, decoder, encoder, dict(card))
    return model if bits_back is None else with_bits_back(model, bits_back)


def with_bits_back(model: Model, bits_back: BitsBack) -> Model:
    """Return a model with this bits-back model; its decoder, and so its `model_id`, stay what they are.

    Raises:
        ModelError: it does not fit the decoder, or cannot be evaluated exactly.
    """
    check_bits_back(bits_back, model.decoder)
    description, tensors = decoder_content(model.decoder)
    bits_back_description, bits_back_tensors = to_stored(bits_back)
    identity = model_id(
        description | {"bits_back": bits_back_description},
        tensors | {BITS_BACK_PREFIX + name: array for name, array in bits_back_tensors.items()},
    )
    return replace(model, bits_back=bits_back, bits_back_id=identity)


def model_id(description: Mapping[str, Any], tensors: Mapping[str, Array]) -> bytes:
    """Return the first 8 bytes of SHA-256 over a decoder's description and tensors (format_spec.md, section 6.2)."""
    digest = hashlib.sha256(canonical_json(description))
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
    if decoder.inv_gain_y.ndim != 2 or decoder.m_channels == 0 or not 1 <= decoder.n_levels <= 16:
        raise ModelError("the model's gains of y do not fit its levels")
    if not 1 <= decoder.y_frac_bits <= 20 or not 1 <= decoder.g_s_shift <= 40:
        raise ModelError("the model's fixed-point formats are out of range")
    check_gains(decoder.inv_gain_y)
    decoder.entropy.check(decoder.m_channels, decoder.n_levels, decoder.y_frac_bits)
    shape = proof.check_synthesis(decoder.g_s, decoder.m_channels, LARGEST_INPUT, "g_s")
    if shape.channels != 3:
        raise ModelError(f"g_s gives {shape.channels} channels; needed are 3")
    last = decoder.g_s[-1]
    if not isinstance(last, Clamp) or (last.low, last.high) != (0, 255):
        raise ModelError("g_s does not end by clamping to 0..255")


def check_encoder(encoder: Encoder, decoder: Decoder) -> None:
    """Check that the float networks give y and z the sizes that the decoder expects.

    Raises:
        ModelError: they do not.
    """
    g_a = proof.check_divides(encoder.g_a, 3, decoder.z_stride, "g_a")
    h_a = proof.check_divides(encoder.h_a, decoder.m_channels, decoder.entropy.y_per_z, "h_a")
    gains_fit = encoder.gain_y.shape == (decoder.n_levels, decoder.m_channels) and encoder.gain_z.shape == (
        decoder.n_levels,
        decoder.n_channels,
    )
    sizes_fit = (g_a.up, g_a.down, h_a.up, h_a.down) == (1, decoder.y_stride, 1, decoder.entropy.y_per_z)
    if not gains_fit or not sizes_fit or (g_a.channels, h_a.channels) != (decoder.m_channels, decoder.n_channels):
        raise ModelError("the encoder's networks do not fit the decoder")


def check_bits_back(bits_back: BitsBack, decoder: Decoder) -> None:
    """Prove that every integer step of a bits-back model is exact in float64, and that it fits its decoder.

    Raises:
        ModelError: it is not, or does not.
    """
    prior, n_channels, n_scales = decoder.entropy, decoder.n_channels, len(bits_back.scales)
    if not isinstance(prior, (Hyperprior, ContextModel)):
        raise ModelError(f"there is no bits-back coding with the entropy model {prior.kind}")
    shapes_fit = (
        n_scales >= 2
        and 0 <= bits_back.lattice_bits <= prior.z_frac_bits
        and bits_back.log_variance_thresholds.shape == (n_scales - 1,)
        and ascends(bits_back.log_variance_thresholds)
        and bits_back.scales.shape == bits_back.fraction_bits.shape == (n_scales,)
        and int(bits_back.scales.min()) > 0
        and int(bits_back.scales.max()) < 2**26
        and ascends(bits_back.scales)
        and 0 <= int(bits_back.fraction_bits.min()) <= int(bits_back.fraction_bits.max()) <= decoder.y_frac_bits
        and len(bits_back.tables) == int((1 << bits_back.fraction_bits).sum())
        and int(bits_back.tables.lengths.min()) >= 3
        and len(bits_back.z_cells) == n_channels
        and np.array_equal(np.sort(bits_back.z_order), np.arange(n_channels))
    )
    if not shapes_fit:
        raise ModelError("the bits-back model's thresholds, scales and tables do not fit together")
    lattice_tables(bits_back.z_cells, bits_back.lattice_bits + 1, 0)
    h_a = proof.check_integers(bits_back.h_a, decoder.m_channels, LARGEST_INPUT, "bits-back h_a")
    proof.check_divides(bits_back.h_a, decoder.m_channels, prior.y_per_z, "bits-back h_a")
    h_s = proof.check_synthesis(bits_back.h_s, n_channels, LARGEST_INPUT, "bits-back h_s")
    own_h_s = proof.shapes(prior.h_s, n_channels, "h_s")[-1]
    if (h_a.channels, h_s.channels) != (2 * n_channels, own_h_s.channels):
        raise ModelError(f"the bits-back networks give {h_a.channels} and {h_s.channels} channels")
    if (h_a.up, h_a.down, h_s.up) != (1, prior.y_per_z, prior.y_per_z):
        raise ModelError("the bits-back networks' strides are not the decoder's")
    if isinstance(prior, Hyperprior):  # its scales are those of y, too, and Q is refined through h_s
        if n_scales != len(prior.y_tables):
            raise ModelError(f"the bits-back model has {n_scales} scales, the decoder {len(prior.y_tables)}")
        check_transpose(bits_back.h_s, "bits-back h_s")


def decoder_content(decoder: Decoder) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return description and tensors of a decoder, its entropy model's among them, of which the id is a hash."""
    description, tensors = to_stored(decoder)
    entropy_description, entropy_tensors = to_stored(decoder.entropy)
    kind = decoder.entropy.kind
    named = {} if kind == Hyperprior.kind else {"entropy_model": kind}
    return description | entropy_description | named, tensors | entropy_tensors


def canonical_json(value: Any) -> bytes:
    """Return JSON in the one form of which ids are hashes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
