"""Reading a file whose latents carry a message: the door of decoding.

bytes -> stack, pop z with P(z), pop y with P(y | z), push carriers with Q(z | y) -> frame -> message

Source: Yang, Bamler, Mandt 2020, section 3.3; format_spec.md, section 8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sgacodec import limits
from sgacodec.bitsback import distributions
from sgacodec.bitsback.carrier_coder import CarrierCoder
from sgacodec.bitsback.carriers import Carriers
from sgacodec.bitsback.distributions import BitsBackModel, bits_back_of
from sgacodec.bitsback.message import Message, from_stack, unframe
from sgacodec.entropy.stack import Stack
from sgacodec.errors import CorruptStreamError, LimitError, SymbolRangeError
from sgacodec.format.container import Container, SectionType
from sgacodec.latents.streams import z_shape
from sgacodec.latents.symbols import Symbols, whole_symbols
from sgacodec.models.model import Model

STACK = "bits-back stack"


@dataclass(frozen=True, eq=False)
class Carried:
    """Latents that carry a message.

    Attributes:
        symbols: z, with carriers in lattice steps, and y.
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
    shape = z_shape(model.decoder, container.height, container.width)
    _check(container, carriers, bits_back, shape)
    stack = Stack(container.y_streams[0], STACK)
    on_lattice = distributions.lattice_mask(bits_back, carriers, shape)
    tables = distributions.z_tables(bits_back, carriers.exponent)
    z = stack.pop(distributions.z_table_index(on_lattice), tables).reshape(1, *shape)
    grid = distributions.y_grid(bits_back, distributions.z_hat_q(bits_back, z, on_lattice, carriers.exponent))
    y = stack.pop(grid.table_index.ravel(), bits_back.bits_back.tables).reshape(grid.floor.shape) + grid.floor
    return Carried(whole_symbols(z, y.astype(np.int32), model.decoder.y_frac_bits), stack.to_bytes())


def _bits_back_for(container: Container, model: Model) -> BitsBackModel:
    if container.model_id == model.model_id:
        raise CorruptStreamError("the file does not name the bits-back model that it uses", section="model_id")
    return bits_back_of(model)


def read_carriers(container: Container) -> Carriers:
    """Return the content of a file's BITS_BACK section, which must be there.

    Raises:
        FormatError: it is damaged.
    """
    return Carriers.from_bytes(container.section(SectionType.BITS_BACK) or b"")


def _check(container: Container, carriers: Carriers, model: BitsBackModel, shape: tuple[int, int, int]) -> None:
    fits = (
        carriers.n <= int(np.prod(shape))
        and carriers.exponent <= model.bits_back.lattice_bits
        and not container.z_stream
        and len(container.y_streams) == 1
    )
    if not fits:
        raise CorruptStreamError("the bits-back parameters do not fit the file or its model", section=STACK)
    if carriers.steps > limits.MAX_POSTERIOR_STEPS:
        raise LimitError(f"{carriers.steps} steps of the posterior are over the limit", section=STACK)


def carried_message(container: Container, model: Model, carried: Carried) -> Message:
    """Return the message that a file's latents carry, with what of it stands in a section.

    Args:
        container: a parsed file.
        model: the model that it names.
        carried: what its streams code.

    Raises:
        FormatError: the message is damaged.
    """
    bits_back, carriers, symbols = bits_back_of(model), read_carriers(container), carried.symbols
    stack = Stack(carried.rest, STACK)
    try:
        analysis = distributions.analyse(bits_back, symbols.y)
        CarrierCoder(bits_back, analysis, carriers, symbols.y, symbols.z).push(stack, symbols.z)
    except SymbolRangeError as err:
        raise CorruptStreamError("the message cannot be recovered", section=STACK) from err
    return unframe(from_stack(stack.to_bytes()) + (container.section(SectionType.MESSAGE) or b""))
