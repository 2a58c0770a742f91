"""Writing a file whose latents carry a message: the door of encoding.

frame -> stack, pop carriers z with Q(z | y), push y with P(y | z), last pass first, push z with P(z) -> bytes

Source: Yang, Bamler, Mandt 2020, section 3.3; format_spec.md, section 8.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sgacodec.arrays import IndexArray, Int32Array
from sgacodec.bitsback import distributions
from sgacodec.bitsback.carrier_coder import CarrierCoder
from sgacodec.bitsback.carriers import Carriers
from sgacodec.bitsback.distributions import BitsBackModel
from sgacodec.bitsback.extract import STACK
from sgacodec.bitsback.message import Message, frame, to_stack
from sgacodec.entropy.stack import Stack
from sgacodec.entropy.tables import TOTAL, TableSet
from sgacodec.errors import EncodeError
from sgacodec.format.container import Section, SectionType
from sgacodec.latents.symbols import Pass, Symbols

_LEFT_BITS = 20
"""Popping stops while 20 bits are left: below that the state of the coder is not random, and what is popped biased."""

_ATTEMPTS = 2
"""How often an encoder chooses the number of carriers; the choice may change Q, and so what they swallow."""

_TOLERANCE_BITS, _TOLERANCE_SHARE = 8, 0.005
"""What may stay unused, and so be padded or left over, rather than choosing again."""

_CAPACITY_MARGIN = 1.25
"""A lattice has room for a message when all z's swallow so many times its bits: refinement of Q leaves fewer."""

_FEWEST_STEPS, _MOST_STEPS = 4, 16
_STEPS_TIMES_Y = 16 * 4096
"""Refinement steps of Q times places of y: above a megapixel there are fewer steps, which extraction has to repeat."""

_FINE_LATTICE_FROM_SHARE = 0.5
"""Bits are many from this share of the finest lattice's capacity on; fewer are cheaper on the integers."""

_MAX_CERTAINTY = 0.99
"""On the integers a z does not carry where Q has more than this for one value: it would cost more than it holds."""

_SECTION_ENTRY_BYTES = 3


@dataclass(frozen=True)
class Settings:
    """How to embed.

    Attributes:
        steps: refinement steps of Q, which extraction repeats; None takes fewer for a larger picture, and none where
            the model has no slope for them.
        exponent: the lattice has a step of 2^-exponent; None takes the integers, or for a long message a finer one.
        tries: how many variants of the message's bits are tried; the shortest file wins.
        must_carry: whether the message may not go to a section where that is shorter.
    """

    steps: int | None = None
    exponent: int | None = None
    tries: int = 16
    must_carry: bool = False

    @property
    def always_carries(self) -> bool:
        """Whether the latents carry the message even where a section is shorter."""
        return self.must_carry or self.exponent is not None


@dataclass(frozen=True, eq=False)
class Embedded:
    """Latents with a message.

    Attributes:
        stream: the file's only y stream; its z stream is empty.
        carriers: how z is used.
        symbols: z, with carriers in lattice steps, and whole y.
        table_bits: what y and z cost by the tables, and what the carriers left of the frame.
        appended: what of the frame found no room.
    """

    stream: bytes
    carriers: Carriers
    symbols: Symbols
    table_bits: float
    appended: bytes = b""

    @property
    def n_bytes(self) -> int:
        """Length of stream and sections, with their entries in the section table."""
        return len(self.stream) + sum(len(section.data) + _SECTION_ENTRY_BYTES for section in self.sections)

    @property
    def sections(self) -> tuple[Section, ...]:
        """What the file needs beside the stream."""
        used = Section(SectionType.BITS_BACK, self.carriers.to_bytes(), critical=True)
        rest = Section(SectionType.MESSAGE, self.appended)
        return (used, rest) if self.appended else (used,)


def embed(
    model: BitsBackModel,
    y: Int32Array,
    message: Message,
    settings: Settings | None = None,
    z_plain: Int32Array | None = None,
) -> Embedded:
    """Code latents so that they carry a message; what they cannot carry goes to a section.

    Args:
        model: the bits-back model.
        y: int32 [1, M, H/16, W/16], y_hat on the integers.
        message: what to carry.
        settings: how.
        z_plain: int32 [1, N, H/64, W/64], values of the z's that are no carriers; None takes the nearest to Q's mean.

    Raises:
        EncodeError: the message is too long, or a latent too large; or steps are wanted that the model does not have.
    """
    framed, settings = frame(message), settings or Settings()
    steps = _choose_steps(model, y) if settings.steps is None else settings.steps
    if steps and not model.likelihood.has_steps:
        raise EncodeError("this model's posterior cannot be refined; set steps to 0")
    analysis = distributions.analyse(model, y)
    if z_plain is None:
        z_plain = np.floor(distributions.amortised_posterior(model, analysis, 0).mean + 0.5).astype(np.int32)
    latents = _Latents(model, analysis, y, z_plain)
    exponent = _choose_lattice(model, analysis, _bits_for_carriers(len(framed)), settings)
    start = Carriers(0, exponent, steps)
    carried = min(_candidates(latents, start, framed, settings.tries), key=lambda embedded: embedded.n_bytes)
    if settings.always_carries:
        return carried
    return min(carried, _uncarried(latents, framed), key=lambda embedded: embedded.n_bytes)


def likely_carriers(model: BitsBackModel, y: Int32Array, message: Message, settings: Settings) -> npt.NDArray[np.bool_]:
    """Say which z's will probably carry, so that refinement can reckon with them.

    On the integers none does: Q is too narrow there for a density to say what it costs.

    Args:
        model: the bits-back model.
        y: int32 [1, M, H/16, W/16], close to what will be embedded in.
        message: what to carry.
        settings: how.

    Returns:
        bool [1, N, H/64, W/64].
    """
    analysis, wanted = distributions.analyse(model, y), _bits_for_carriers(len(frame(message)))
    exponent = _choose_lattice(model, analysis, wanted, settings)
    n = int(np.searchsorted(carrier_capacity(model, analysis, exponent), wanted))
    return distributions.lattice_mask(model, Carriers(n, exponent, 0), analysis.z_shape)


@dataclass(frozen=True, eq=False)
class _Latents:
    model: BitsBackModel
    analysis: distributions.Analysis
    y: Int32Array
    z: Int32Array

    def carrying(self, carriers: Carriers) -> CarrierCoder:
        return CarrierCoder(self.model, self.analysis, carriers, self.y, self.z)


def carrier_capacity(model: BitsBackModel, analysis: distributions.Analysis, exponent: int) -> npt.NDArray[np.float64]:
    """Return how many bits the first 0, 1, ... carriers swallow on average, by h_a's Q, for all that may carry."""
    grid = distributions.z_grid(model, distributions.amortised_posterior(model, analysis, exponent), exponent)
    tables, index = model.bits_back.tables.without_escape, grid.table_index.ravel()
    order = distributions.carrier_order(model, exponent, analysis)
    if exponent == 0:
        order = order[tables.largest[index[order]] <= _MAX_CERTAINTY * TOTAL]
    return np.concatenate([[0.0], np.cumsum(tables.entropies[index[order]])])


def capacity_bytes(model: BitsBackModel, y: Int32Array) -> tuple[int, ...]:
    """Return how many bytes all z's that may carry swallow on each lattice, coarsest first, frame included.

    Args:
        model: the bits-back model.
        y: int32 [1, M, H/16, W/16].
    """
    analysis = distributions.analyse(model, y)
    bits = (carrier_capacity(model, analysis, k)[-1] for k in range(model.bits_back.lattice_bits + 1))
    return tuple(int(n_bits) // 8 for n_bits in bits)


def _bits_for_carriers(n_bytes: int) -> int:
    """Return how many bits of a stack of so many bytes and an end mark are for the carriers."""
    return 8 * n_bytes + 1 - _LEFT_BITS


def _choose_lattice(model: BitsBackModel, analysis: distributions.Analysis, wanted: int, settings: Settings) -> int:
    """Return 0 for the integers, where bits cost least, or for many bits the exponent of a lattice with room."""
    if settings.exponent is not None:
        return settings.exponent
    finest = model.bits_back.lattice_bits
    if wanted < _FINE_LATTICE_FROM_SHARE * carrier_capacity(model, analysis, finest)[-1]:
        return 0
    return next(
        (k for k in range(finest) if carrier_capacity(model, analysis, k)[-1] >= _CAPACITY_MARGIN * wanted), finest
    )


def _choose_steps(model: BitsBackModel, y: Int32Array) -> int:
    if not model.likelihood.has_steps:
        return 0
    return max(_FEWEST_STEPS, min(_MOST_STEPS, _STEPS_TIMES_Y // (y.shape[2] * y.shape[3])))


def _candidates(latents: _Latents, start: Carriers, framed: bytes, tries: int) -> Iterator[Embedded]:
    """Yield files of the same content: other bits on the stack give other z's, which may cost less."""
    carrying, n_bytes = _choose_carriers(latents, start, len(framed))
    for variant in range(tries):
        stack, values, n_used = _pop_carriers(carrying, framed, n_bytes, variant)
        yield replace(_push_latents(latents, carrying, stack, values), appended=framed[n_used:])


def _uncarried(latents: _Latents, framed: bytes) -> Embedded:
    """Return a file without carriers: z's that refinement has chosen may be worth more than the message's length."""
    carrying = latents.carrying(Carriers(0, 0, 0))
    stack, values, _ = _pop_carriers(carrying, framed, 0, 0)
    return replace(_push_latents(latents, carrying, stack, values), appended=framed)


def _choose_carriers(latents: _Latents, carriers: Carriers, n_framed: int) -> tuple[CarrierCoder, int]:
    """Return the fewest carriers that swallow a frame, or all of them, and how many of its bytes go on the stack."""
    capacity = carrier_capacity(latents.model, latents.analysis, carriers.exponent)
    wanted: float = _bits_for_carriers(n_framed)
    for _ in range(_ATTEMPTS):
        n = min(int(np.searchsorted(capacity, wanted)), len(capacity) - 1)
        n_bytes = max(0, n_framed - math.ceil(max(0.0, wanted - capacity[-1]) / 8))
        carrying = latents.carrying(replace(carriers, n=n))
        missing = _bits_for_carriers(n_bytes) - carrying.n_bits
        if abs(missing) <= _TOLERANCE_BITS + _TOLERANCE_SHARE * wanted:
            break
        wanted += missing  # refinement changed Q
    return carrying, n_bytes


def _pop_carriers(carrying: CarrierCoder, framed: bytes, n_bytes: int, variant: int) -> tuple[Stack, Int32Array, int]:
    """Put a frame's first bytes on a stack and pop carriers off it.

    Args:
        carrying: the carriers.
        framed: zero bytes follow it where it is too short.
        n_bytes: how many bytes are enough on average.
        variant: see `message.to_stack`.

    Returns:
        What is left of the stack, the carriers' values, and how many bytes were put on it.
    """
    while True:
        stack = Stack(to_stack(framed[:n_bytes].ljust(n_bytes, b"\0"), variant), STACK)
        values = carrying.pop(stack)
        if len(values) == 0 or stack.n_bits >= _LEFT_BITS:
            return stack, values, n_bytes
        n_bytes += 1


def _push_latents(latents: _Latents, carrying: CarrierCoder, stack: Stack, values: Int32Array) -> Embedded:
    """Code y, then z, on what the carriers left of the stack."""
    model, carriers = latents.model, carrying.carriers
    z = latents.z.copy()
    z[carrying.is_carrier] = values
    z_index = distributions.z_table_index(carrying.on_lattice)
    z_tables = distributions.z_tables(model, carriers.exponent)
    recorder = _Recorder(latents.y, model.decoder.y_frac_bits)
    coded = distributions.walk_y(model, z, carrying.on_lattice, carriers.exponent, recorder)
    y_tables = model.likelihood.tables
    y_bits = sum(y_tables.information_bits(*part) for part in recorder.parts)
    table_bits = stack.n_bits + y_bits + z_tables.information_bits(z.ravel(), z_index)
    for values_of_pass, index in reversed(recorder.parts):  # what is popped first is pushed last
        stack.push(values_of_pass, index, y_tables)
    stack.push(z.ravel(), z_index, z_tables)
    return Embedded(stack.to_bytes(), carriers, replace(coded, y=latents.y), table_bits)


class _Recorder:
    """Keeps the symbols of a y that is given.

    Attributes:
        parts: symbols of each pass, int32 [n], and their tables, intp [n].
    """

    def __init__(self, y: Int32Array, frac_bits: int) -> None:
        """Take whole y, int32 [1, M, H/16, W/16], and the fractional bits of a pass's centre."""
        self._y, self._frac_bits = y, frac_bits
        self.parts: list[tuple[Int32Array, IndexArray]] = []

    def open(self, rows: slice) -> None:
        """Begin the only band."""

    def visit(self, part: Pass, tables: TableSet) -> Int32Array:
        """Take a pass around the centre that the decoder will have."""
        symbols = (self._y[part.where].ravel() - (part.centre_q >> self._frac_bits)).astype(np.int32)
        self.parts.append((symbols, part.table_index))
        return symbols

    def close(self) -> None:
        """End the band."""
