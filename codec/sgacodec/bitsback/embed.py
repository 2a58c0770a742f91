"""Side information inside a picture's latents: lossy bits-back coding.

embed:   frame -> stack, pop carriers z with Q(z | y), push y with P(y | z), push z with P(z) -> bytes
extract: bytes -> stack, pop z with P(z), pop y with P(y | z), push carriers with Q(z | y) -> frame

Source: Yang, Bamler, Mandt 2020, section 3.3; format_spec.md, section 8.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sgacodec import limits
from sgacodec.bitsback import distributions as heads
from sgacodec.bitsback import message, posterior
from sgacodec.bitsback.distributions import Carriers, Grid, Head
from sgacodec.bitsback.message import SideInformation
from sgacodec.entropy.range_coder import Int32Array
from sgacodec.entropy.stack import Stack
from sgacodec.entropy.tables import TOTAL
from sgacodec.errors import CorruptStreamError, LimitError, SymbolRangeError
from sgacodec.format.container import Container, Section, SectionType
from sgacodec.latents.hyperprior import Symbols, YParameters
from sgacodec.models.model import Model

_STACK = "bits-back stack"
_LEFT_BITS = 20
"""The stack must be left with so many bits: the last carriers are popped off random bits, not off its empty end."""

_ATTEMPTS = 2
"""How often an encoder chooses the number of carriers; the choice may change Q, and so what they swallow."""

_TOLERANCE_BITS, _TOLERANCE_SHARE = 8, 0.005
"""What may stay unused, and so be padded or left over, rather than choosing again."""

_ROOM = 1.25
"""A lattice has room for a message when all z's swallow so many times its bits: refinement of Q leaves fewer."""

_FEWEST_STEPS, _MOST_STEPS = 4, 16
_STEPS_TIMES_Y = 16 * 4096
"""Refinement steps of Q times places of y: above a megapixel there are fewer steps, which extraction has to repeat."""

_MANY = 0.5
"""Bits are many from this share of the finest lattice's capacity on; fewer are cheaper on the integers."""

_CERTAIN = 0.99
"""On the integers a z does not carry where Q has more than this for one value: it would cost more than it holds."""

_SECTION_ENTRY_BYTES = 3


@dataclass(frozen=True)
class Settings:
    """How to embed.

    Attributes:
        steps: refinement steps of Q, which extraction repeats; None takes fewer for a larger picture.
        exponent: the lattice has a step of 2^-exponent; None takes the integers, or for a long message a finer one.
        tries: how many variants of the message's bits are tried; the shortest file wins.
        must_carry: whether the message may not go to a section where that is shorter.
    """

    steps: int | None = None
    exponent: int | None = None
    tries: int = 16
    must_carry: bool = False


@dataclass(frozen=True, eq=False)
class Embedded:
    """Latents with side information.

    Attributes:
        stream: the file's only y stream; its z stream is empty.
        carriers: how z is used.
        symbols: z, with carriers in lattice steps, y, and what h_s says of y.
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
        rest = Section(SectionType.SIDE_INFORMATION, self.appended)
        return (used, rest) if self.appended else (used,)


def is_embedded(box: Container) -> bool:
    """Say whether a file's latents carry side information."""
    return box.section(SectionType.BITS_BACK) is not None


def appended(side_information: SideInformation) -> Section:
    """Return the section that carries side information in a file whose latents do not.

    Raises:
        EncodeError: it is too long.
    """
    return Section(SectionType.SIDE_INFORMATION, message.frame(side_information))


# --- decoding -------------------------------------------------------------------------------------------------------


def read_carriers(box: Container) -> Carriers:
    """Return the content of a file's BITS_BACK section.

    Raises:
        FormatError: it has none, or one that is damaged.
    """
    content = box.section(SectionType.BITS_BACK)
    if content is None:
        raise CorruptStreamError("the file names a bits-back head and does not use it", section=_STACK)
    return Carriers.from_bytes(content)


def read_symbols(box: Container, model: Model, z_shape: tuple[int, int, int]) -> Symbols:
    """Decode z and y of a file with embedded side information; their stack stays for `extract`.

    Args:
        box: a parsed file.
        model: the model that it names.
        z_shape: [N, H/64, W/64].

    Raises:
        FormatError: the file is damaged.
        ModelMismatchError: the model has no head.
    """
    head, carriers = heads.of_model(model), read_carriers(box)
    _check(box, carriers, head, z_shape)
    stack = Stack(box.y_streams[0], _STACK)
    on_lattice = heads.lattice_mask(head, carriers, z_shape)
    tables = heads.z_tables(head, carriers.exponent)
    z = stack.pop(heads.z_table_index(on_lattice), tables).reshape(1, *z_shape)
    grid = heads.y_grid(head, heads.z_hat_q(head, z, on_lattice, carriers.exponent))
    y = stack.pop(grid.table_index.ravel(), head.bits_back.tables).reshape(grid.floor.shape) + grid.floor
    return Symbols(z, y.astype(np.int32), _parameters(grid), stack)


def _check(box: Container, carriers: Carriers, head: Head, z_shape: tuple[int, int, int]) -> None:
    fits = (
        carriers.n <= int(np.prod(z_shape))
        and carriers.exponent <= head.bits_back.lattice_bits
        and not box.z_stream
        and len(box.y_streams) == 1
    )
    if not fits:
        raise CorruptStreamError("the bits-back parameters do not fit the file or its model", section=_STACK)
    if carriers.steps > limits.MAX_POSTERIOR_STEPS:
        raise LimitError(f"{carriers.steps} steps of the posterior are over the limit", section=_STACK)


def _parameters(grid: Grid) -> YParameters:
    """Return what reconstruction needs: y is on the integers, so mu is 0."""
    return YParameters(np.zeros_like(grid.floor), grid.table_index)


def extract(box: Container, model: Model, symbols: Symbols) -> SideInformation | None:
    """Return a file's side information, or None if it has none.

    Args:
        box: a parsed file.
        model: the model that it names.
        symbols: what its streams code; their stack is used up.

    Raises:
        FormatError: the side information is damaged.
    """
    rest = box.section(SectionType.SIDE_INFORMATION)
    if symbols.stack is None:
        return None if rest is None else message.unframe(rest)
    head, carriers = heads.of_model(model), read_carriers(box)
    try:
        analysis = heads.analyse(head, symbols.y)
        _Carrying(head, analysis, carriers, symbols.y, symbols.z).push(symbols.stack, symbols.z)
    except SymbolRangeError as err:
        raise CorruptStreamError("the side information cannot be recovered", section=_STACK) from err
    return message.unframe(message.from_stack(symbols.stack.to_bytes()) + (rest or b""))


class _Carrying:
    """The carriers of one picture with their Q, for encoder and decoder."""

    def __init__(self, head: Head, analysis: heads.Analysis, carriers: Carriers, y: Int32Array, z: Int32Array) -> None:
        """Compute Q.

        Args:
            head: the head.
            analysis: what h_a says of z, given y.
            carriers: how many, on which lattice, with how many steps.
            y: int32 [1, M, H/16, W/16].
            z: int32 [1, N, H/64, W/64]; what it has at carriers does not matter.
        """
        self.carriers = carriers
        self.is_carrier = heads.carrier_mask(head, carriers, analysis)
        self.on_lattice = heads.lattice_mask(head, carriers, analysis.z_shape)
        fixed_q = heads.z_hat_q(head, z, self.on_lattice, carriers.exponent)
        amortised = heads.amortised_posterior(head, analysis, carriers.exponent)
        q = posterior.refine(head, amortised, posterior.Observed(y, fixed_q, self.is_carrier), carriers.steps)
        grid = heads.z_grid(head, q, carriers.exponent)
        self._table_index = grid.table_index[self.is_carrier]
        self._floor = grid.floor[self.is_carrier].astype(np.int32)
        self._tables = head.bits_back.tables.without_escape

    @property
    def n_bits(self) -> float:
        """How many bits the carriers swallow on average."""
        return float(self._tables.entropies[self._table_index].sum())

    def pop(self, stack: Stack) -> Int32Array:
        """Return carriers' values, int32 [K], in place of bits on the stack."""
        return stack.pop(self._table_index, self._tables) + self._floor

    def push(self, stack: Stack, z: Int32Array) -> None:
        """Turn carriers' values back into bits; the inverse of `pop`."""
        stack.push(z[self.is_carrier] - self._floor, self._table_index, self._tables)


# --- encoding -------------------------------------------------------------------------------------------------------


def embed(
    head: Head,
    y: Int32Array,
    side_information: SideInformation,
    settings: Settings | None = None,
    z_plain: Int32Array | None = None,
) -> Embedded:
    """Code latents so that they carry side information; what they cannot carry goes to a section.

    Args:
        head: the model's head.
        y: int32 [1, M, H/16, W/16], y_hat on the integers.
        side_information: what to carry.
        settings: how.
        z_plain: int32 [1, N, H/64, W/64], values of the z's that are no carriers; None takes the nearest to Q's mean.

    Raises:
        EncodeError: the side information is too long, or a latent too large.
    """
    framed, settings = message.frame(side_information), settings or Settings()
    analysis = heads.analyse(head, y)
    if z_plain is None:
        z_plain = np.floor(heads.amortised_posterior(head, analysis, 0).mean + 0.5).astype(np.int32)
    latents = _Latents(head, analysis, y, z_plain)
    exponent = _choose_lattice(head, analysis, _to_swallow(len(framed)), settings)
    start = Carriers(0, exponent, _choose_steps(y) if settings.steps is None else settings.steps)
    carried = min(_candidates(latents, start, framed, settings.tries), key=lambda embedded: embedded.n_bytes)
    if settings.must_carry or settings.exponent is not None:
        return carried
    return min(carried, _uncarried(latents, framed), key=lambda embedded: embedded.n_bytes)


def likely_carriers(
    head: Head, y: Int32Array, side_information: SideInformation, settings: Settings
) -> npt.NDArray[np.bool_]:
    """Say which z's will probably carry, so that refinement can reckon with them.

    On the integers none does: Q is too narrow there for a density to say what it costs.

    Args:
        head: the model's head.
        y: int32 [1, M, H/16, W/16], close to what will be embedded in.
        side_information: what to carry.
        settings: how.

    Returns:
        bool [1, N, H/64, W/64].
    """
    analysis, wanted = heads.analyse(head, y), _to_swallow(len(message.frame(side_information)))
    exponent = _choose_lattice(head, analysis, wanted, settings)
    n = int(np.searchsorted(carrier_capacity(head, analysis, exponent), wanted))
    return heads.lattice_mask(head, Carriers(n, exponent, 0), analysis.z_shape)


@dataclass(frozen=True, eq=False)
class _Latents:
    head: Head
    analysis: heads.Analysis
    y: Int32Array
    z: Int32Array

    def carrying(self, carriers: Carriers) -> _Carrying:
        return _Carrying(self.head, self.analysis, carriers, self.y, self.z)


def carrier_capacity(head: Head, analysis: heads.Analysis, exponent: int) -> npt.NDArray[np.float64]:
    """Return how many bits the first 0, 1, ... carriers swallow on average, by h_a's Q, for all that may carry."""
    grid = heads.z_grid(head, heads.amortised_posterior(head, analysis, exponent), exponent)
    tables, index = head.bits_back.tables.without_escape, grid.table_index.ravel()
    order = heads.carrier_order(head, exponent, analysis)
    if exponent == 0:
        order = order[tables.largest[index[order]] <= _CERTAIN * TOTAL]
    return np.concatenate([[0.0], np.cumsum(tables.entropies[index[order]])])


def capacity_bytes(head: Head, y: Int32Array) -> tuple[int, ...]:
    """Return how many bytes all z's that may carry swallow on each lattice, coarsest first, frame included.

    Args:
        head: the model's head.
        y: int32 [1, M, H/16, W/16].
    """
    analysis = heads.analyse(head, y)
    bits = (carrier_capacity(head, analysis, k)[-1] for k in range(head.bits_back.lattice_bits + 1))
    return tuple(int(n_bits) // 8 for n_bits in bits)


def _to_swallow(n_bytes: int) -> int:
    """Return how many bits of a stack of so many bytes and an end mark are for the carriers."""
    return 8 * n_bytes + 1 - _LEFT_BITS


def _choose_lattice(head: Head, analysis: heads.Analysis, wanted: int, settings: Settings) -> int:
    """Return 0 for the integers, where bits cost least, or for many bits the exponent of a lattice with room."""
    if settings.exponent is not None:
        return settings.exponent
    finest = head.bits_back.lattice_bits
    if wanted < _MANY * carrier_capacity(head, analysis, finest)[-1]:
        return 0
    return next((k for k in range(finest) if carrier_capacity(head, analysis, k)[-1] >= _ROOM * wanted), finest)


def _choose_steps(y: Int32Array) -> int:
    return max(_FEWEST_STEPS, min(_MOST_STEPS, _STEPS_TIMES_Y // (y.shape[2] * y.shape[3])))


def _candidates(latents: _Latents, start: Carriers, framed: bytes, tries: int) -> Iterator[Embedded]:
    """Yield files of the same content: other bits on the stack give other z's, which may cost less."""
    carrying, n_bytes = _choose_carriers(latents, start, len(framed))
    for variant in range(tries):
        stack, values, n_used = _fill(carrying, framed, n_bytes, variant)
        yield replace(_push(latents, carrying, stack, values), appended=framed[n_used:])


def _uncarried(latents: _Latents, framed: bytes) -> Embedded:
    """Return a file without carriers: z's that refinement has chosen may be worth more than the message's length."""
    carrying = latents.carrying(Carriers(0, 0, 0))
    stack, values, _ = _fill(carrying, framed, 0, 0)
    return replace(_push(latents, carrying, stack, values), appended=framed)


def _choose_carriers(latents: _Latents, carriers: Carriers, n_framed: int) -> tuple[_Carrying, int]:
    """Return the fewest carriers that swallow a frame, or all of them, and how many of its bytes go on the stack."""
    capacity = carrier_capacity(latents.head, latents.analysis, carriers.exponent)
    wanted: float = _to_swallow(n_framed)
    for _ in range(_ATTEMPTS):
        n = min(int(np.searchsorted(capacity, wanted)), len(capacity) - 1)
        n_bytes = max(0, n_framed - math.ceil(max(0.0, wanted - capacity[-1]) / 8))
        carrying = latents.carrying(replace(carriers, n=n))
        missing = _to_swallow(n_bytes) - carrying.n_bits
        if abs(missing) <= _TOLERANCE_BITS + _TOLERANCE_SHARE * wanted:
            break
        wanted += missing  # refinement changed Q
    return carrying, n_bytes


def _fill(carrying: _Carrying, framed: bytes, n_bytes: int, variant: int) -> tuple[Stack, Int32Array, int]:
    """Put a frame's first bytes on a stack and pop carriers off it.

    Args:
        carrying: the carriers.
        framed: zero bytes follow it where it is too short.
        n_bytes: how many bytes are enough on average.
        variant: see `framing.to_stack`.

    Returns:
        What is left of the stack, the carriers' values, and how many bytes were put on it.
    """
    while True:
        stack = Stack(message.to_stack(framed[:n_bytes].ljust(n_bytes, b"\0"), variant), _STACK)
        values = carrying.pop(stack)
        if len(values) == 0 or stack.n_bits >= _LEFT_BITS:
            return stack, values, n_bytes
        n_bytes += 1


def _push(latents: _Latents, carrying: _Carrying, stack: Stack, values: Int32Array) -> Embedded:
    """Code y, then z, on what the carriers left of the stack."""
    head, carriers = latents.head, carrying.carriers
    z = latents.z.copy()
    z[carrying.is_carrier] = values
    z_index, z_tables = heads.z_table_index(carrying.on_lattice), heads.z_tables(head, carriers.exponent)
    grid = heads.y_grid(head, heads.z_hat_q(head, z, carrying.on_lattice, carriers.exponent))
    residual, y_index = (latents.y - grid.floor).astype(np.int32).ravel(), grid.table_index.ravel()
    y_tables = head.bits_back.tables
    table_bits = (
        stack.n_bits + y_tables.information_bits(residual, y_index) + z_tables.information_bits(z.ravel(), z_index)
    )
    stack.push(residual, y_index, y_tables)
    stack.push(z.ravel(), z_index, z_tables)
    return Embedded(stack.to_bytes(), carriers, Symbols(z, latents.y, _parameters(grid)), table_bits)
