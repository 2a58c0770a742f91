"""Reading a file whose latents carry a message: the door of decoding.

bytes -> stack, pop z with P(z), pop y with P(y | z) pass by pass, push carriers with Q(z | y) -> frame -> message

Source: Yang, Bamler, Mandt 2020, section 3.3; format_spec.md, section 8.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sgacodec import limits
from sgacodec.arrays import Int32Array
from sgacodec.bitsback import distributions
from sgacodec.bitsback.carrier_coder import CarrierCoder
from sgacodec.bitsback.carriers import Carriers
from sgacodec.bitsback.distributions import BitsBackModel, bits_back_of
from sgacodec.bitsback.message import Message, from_stack, unframe
from sgacodec.entropy.stack import Stack
from sgacodec.entropy.tables import TableSet
from sgacodec.errors import CorruptStreamError, LimitError, SymbolRangeError
from sgacodec.format.container import Container, SectionType
from sgacodec.latents import streams
from sgacodec.latents.symbols import Pass, Symbols
from sgacodec.models.model import Model

STACK = "bits-back stack"


@dataclass(frozen=True, eq=False)
class Carried:
    """Latents that carry a message.

    Attributes:
        symbols: z, with carriers in lattice steps, and whole y.
        rest: the stack that they were popped off.
    """

    symbols: Symbols
    rest: bytes


def read_carried(container: Container, model: Model) -> Carried:
    """Decode z and y of a file with a BITS_BACK section.

    Args:
        container: a parsed file.
        model: the model that it names.

    Raises:
        FormatError: the file is damaged.
        ModelMismatchError: the model has no bits-back model.
    """
    bits_back, carriers = _bits_back_for(container, model), read_carriers(container)
    shape = streams.z_shape(model.decoder, container.height, container.width)
    _check(container, carriers, bits_back, shape)
    stack = Stack(container.y_streams[0], STACK)
    on_lattice = distributions.lattice_mask(bits_back, carriers, shape)
    tables = distributions.z_tables(bits_back, carriers.exponent)
    z = stack.pop(distributions.z_table_index(on_lattice), tables).reshape(1, *shape)
    popper = _Popper(stack, streams.y_shape(model.decoder, z), model.decoder.y_frac_bits)
    coded = distributions.walk_y(bits_back, z, on_lattice, carriers.exponent, popper)
    return Carried(replace(coded, y=popper.y), stack.to_bytes())


class _Popper:
    """Takes the symbols of y off a stack.

    Attributes:
        y: int32 [1, M, H/16, W/16], whole y_hat.
    """

    def __init__(self, stack: Stack, shape: tuple[int, ...], frac_bits: int) -> None:
        """Take the stack, the shape of y, and the fractional bits of a pass's centre."""
        self._stack, self._frac_bits = stack, frac_bits
        self.y = np.zeros(shape, np.int32)

    def open(self, rows: slice) -> None:
        """Begin the only band."""

    def visit(self, part: Pass, tables: TableSet) -> Int32Array:
        """Pop a pass."""
        symbols = self._stack.pop(part.table_index, tables)
        whole = symbols + (part.centre_q >> self._frac_bits)
        self.y[part.where] = whole.reshape(self.y[part.where].shape)
        return symbols

    def close(self) -> None:
        """End the band."""


def _bits_back_for(container: Container, model: Model) -> BitsBackModel:
    if container.model_id == model.model_id:
        raise CorruptStreamError("the file does not name the bits-back model that it uses", section="model_id")
    return bits_back_of(model, container.level_q4)


def read_carriers(container: Container) -> Carriers:
    """Return the content of a file's BITS_BACK section, which must be there.

    Raises:
        FormatError: it is damaged.
    """
    return Carriers.from_bytes(container.section(SectionType.BITS_BACK) or b"")


def _check(container: Container, carriers: Carriers, model: BitsBackModel, shape: tuple[int, int, int]) -> None:
    if carriers.steps > limits.MAX_POSTERIOR_STEPS:
        raise LimitError(f"{carriers.steps} steps of the posterior are over the limit", section=STACK)
    fits = (
        carriers.n <= int(np.prod(shape))
        and carriers.exponent <= model.bits_back.lattice_bits
        and not container.z_stream
        and len(container.y_streams) == 1
        and (carriers.steps == 0 or model.likelihood.has_steps)
    )
    if not fits:
        raise CorruptStreamError("the bits-back parameters do not fit the file or its model", section=STACK)


def carried_message(container: Container, model: Model, carried: Carried) -> Message:
    """Return the message that a file's latents carry, with what of it stands in a section.

    Args:
        container: a parsed file.
        model: the model that it names.
        carried: what its streams code.

    Raises:
        FormatError: the message is damaged.
    """
    bits_back, carriers = bits_back_of(model, container.level_q4), read_carriers(container)
    stack, symbols = Stack(carried.rest, STACK), carried.symbols
    try:
        analysis = distributions.analyse(bits_back, symbols.y)
        CarrierCoder(bits_back, analysis, carriers, symbols.y, symbols.z).push(stack, symbols.z)
    except SymbolRangeError as err:
        raise CorruptStreamError("the message cannot be recovered", section=STACK) from err
    return unframe(from_stack(stack.to_bytes()) + (container.section(SectionType.MESSAGE) or b""))
