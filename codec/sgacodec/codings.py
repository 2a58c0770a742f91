"""Ways to code a picture's latents: z and y in streams of their own, or y there and a message in z's.

picture -> analysis (g_a, h_a) -> y, z -> refined by whoever asks -> symbols -> streams -> container
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sgacodec.arrays import Int32Array
from sgacodec.bitsback import embed
from sgacodec.bitsback.distributions import bits_back_of
from sgacodec.bitsback.message import Message, frame
from sgacodec.errors import SymbolRangeError
from sgacodec.format import container
from sgacodec.format.container import Container, Section, SectionType
from sgacodec.latents import streams
from sgacodec.latents.symbols import Band
from sgacodec.nets.bits_back import BitsBackNets, CarryingNets
from sgacodec.nets.pieces import analyse as analysed
from sgacodec.nets.registry import FloatModel, RefinedModel, float_model
from sgacodec.picture import Picture
from sgacodec.plan import Plan

_BAND_PIXELS = 2**21
"""A decoder holds what it knows of a band, some 100 bytes a pixel. Of 3.9 Mpx in two bands, the border costs 0.1 %."""

_DEAD_ZONE_OF_THE_EDGE = 3.0
"""Of places just outside of a picture: without refinement, thumbnails of 16 to 96 pixels gain 0.2 to 0.8 dB by it."""


@dataclass(frozen=True, eq=False)
class Coded:
    """A picture's latents as streams; the container's pixel CRC is still to come.

    Attributes:
        container: has the streams.
        digests: of z, and of y of each band.
        table_bits: see `Encoded`.
    """

    container: Container
    digests: list[bytes]
    table_bits: float


class Coding(Protocol):
    """A way to code latents.

    Attributes:
        y, z: where refinement starts, float32 [1, M, H/16, W/16] and [1, N, H/64, W/64].
        trims: whether `code` has a use for a dead zone.
    """

    y: Tensor
    z: Tensor
    trims: bool

    @property
    def model(self) -> RefinedModel:
        """What rates and synthesises the latents while they are refined."""

    @property
    def unrefined(self) -> Coded:
        """The latents without refinement as a container, about as long as it will be."""

    def moved(self, other: Any, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return latents of another coding scaled to the level of this one, or None if they do not serve."""

    def code(self, y: Tensor, z: Tensor, dead_zone: float = 0.0) -> Coded:
        """Return latents, refined or not, as a container; shapes are those of the attributes."""


def choose_coding(plan: Plan, picture: Picture, message: Message | None = None) -> Coding:
    """Return how a picture is coded: a message goes to the latents where that makes a shorter file, else to a section.

    Either way the latents are refined for what was chosen, so the lengths are compared before.
    """
    if message is None:
        return Plain(plan, picture)
    plain = Plain(plan, picture, (Section(SectionType.MESSAGE, frame(message)),))
    if plan.model.bits_back is None:
        return plain
    carrying = Carrying(plan, picture, message, plain)
    if plan.embedding.always_carries or n_bytes_of(carrying.unrefined) < n_bytes_of(plain.unrefined):
        return carrying
    return plain


class Plain:
    """z and y in streams of their own; a message, if any, in a section."""

    trims = True

    def __init__(self, plan: Plan, picture: Picture, sections: tuple[Section, ...] = ()) -> None:
        """Analyse the picture."""
        self._plan, self._picture, self._sections = plan, picture, sections
        self.model = nets = float_model(plan.model, plan.target.level_q4, plan.device)
        self.y, self.z = analyse(nets, picture)

    @cached_property
    def unrefined(self) -> Coded:
        """The latents without refinement."""
        return self.code(self.y, self.z)

    def moved(self, other: Coding, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor] | None:
        """Scale by what the levels' inverse gains differ in."""
        if not isinstance(other, Plain):
            return None
        ours, theirs = self.model, other.model
        return (
            y * (theirs.inverse_gain_y / ours.inverse_gain_y),
            z * (theirs.inverse_gain_z / ours.inverse_gain_z),
        )

    def code(self, y: Tensor, z: Tensor, dead_zone: float = 0.0) -> Coded:
        """Round z, then y around the mu that the decoder will compute."""
        decoder, level_q4 = self._plan.model.decoder, self._plan.target.level_q4
        prior = decoder.entropy
        median = prior.z_median[:, None, None] * 2.0**-prior.z_frac_bits
        z_symbols = streams.to_symbols(z.cpu().numpy() - median)
        z_stream, z_bits = streams.write_z(decoder, z_symbols)
        height, width = self._picture.rgb.shape[:2]
        n_bands = streams.number_of_bands(z.shape[2], round(height * width / _BAND_PIXELS))
        writer = streams.Writer(y.cpu().numpy(), decoder.y_frac_bits, self._dead_zone(y, dead_zone))
        bands = streams.y_bands(decoder, z.shape[2], n_bands)
        digests = digests_of(z_symbols, streams.walk_bands(decoder, level_q4, z_symbols, bands, writer))
        filled = Container(
            **_described(self._plan, self._picture, self._plan.model.model_id),
            z_stream=z_stream,
            y_streams=tuple(writer.streams),
            sections=(*self._picture.sections(), *self._sections),
        )
        return Coded(filled, digests, z_bits + writer.table_bits)

    def _dead_zone(self, y: Tensor, inside: float) -> npt.NDArray[np.float32]:
        """Return the dead zone of each place, [H/16, W/16]: what lies outside of the picture is taken as predicted.

        Places that begin less than half a stride outside still reach into the picture, so they have a wide one.
        """
        stride = self._plan.model.decoder.y_stride
        zones = np.full(y.shape[2:], np.inf, np.float32)
        for margin, zone in ((stride // 2, _DEAD_ZONE_OF_THE_EDGE), (0, inside)):
            rows, columns = (-(-(side + margin) // stride) for side in self._picture.rgb.shape[:2])
            zones[:rows, :columns] = zone
        return zones


class Carrying:
    """The z's carry a message, y lies on the integers."""

    trims = False

    def __init__(self, plan: Plan, picture: Picture, message: Message, plain: Plain) -> None:
        """Take what was analysed for plain streams: y is the same."""
        self._plan, self._picture, self._message = plan, picture, message
        level_q4 = plan.target.level_q4
        self._bits_back = bits_back_of(plan.model, level_q4)
        bits_back_nets = BitsBackNets(plan.model, level_q4, plan.device)
        self.y = plain.y
        with torch.no_grad():
            self.z, _ = bits_back_nets.posterior(torch.round(self.y))
        mask = embed.likely_carriers(self._bits_back, whole(self.y), message, plan.embedding)
        is_carrier = torch.from_numpy(mask).to(plan.device)
        self.model = CarryingNets(plain.model, bits_back_nets, is_carrier, plan.settings.seed)

    @cached_property
    def unrefined(self) -> Coded:
        """The latents without refinement, of one variant of the message's bits."""
        return self._embed(self.y, self.z, replace(self._plan.embedding, tries=1))

    def moved(self, other: Coding, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return None: what carries a message depends on the level."""
        return None

    def code(self, y: Tensor, z: Tensor, dead_zone: float = 0.0) -> Coded:
        """Embed the message in the z's."""
        return self._embed(y, z, self._plan.embedding)

    def _embed(self, y: Tensor, z: Tensor, settings: embed.Settings) -> Coded:
        embedded = embed.embed(self._bits_back, whole(y), self._message, settings, whole(z))
        model = self._plan.model
        filled = Container(
            **_described(self._plan, self._picture, model.bits_back_id or model.model_id),
            z_stream=b"",
            y_streams=(embedded.stream,),
            sections=(*embedded.sections, *self._picture.sections()),
        )
        symbols = embedded.symbols
        return Coded(filled, digests_of(symbols.z, [symbols.as_band]), embedded.table_bits)


def n_bytes_of(coded: Coded) -> int:
    """Return the length of the file."""
    return len(container.serialize(coded.container))


def whole(latent: Tensor) -> npt.NDArray[np.int32]:
    """Round a latent; errors as in `streams.to_symbols`."""
    return streams.to_symbols(latent.cpu().numpy())


def _described(plan: Plan, picture: Picture, model_id: bytes) -> dict[str, Any]:
    """Return what a container says of its picture; the pixel CRC is still to come."""
    height, width = picture.rgb.shape[:2]
    return {
        "width": width,
        "height": height,
        "grayscale": picture.grayscale,
        "model_id": model_id,
        "level_q4": plan.target.level_q4,
        "pixel_crc": 0,
    }


def analyse(nets: FloatModel, picture: Picture) -> tuple[Tensor, Tensor]:
    """Return y and z of a picture of any size, scaled to the level.

    Raises:
        SymbolRangeError: a latent is not finite.
    """
    y, z = analysed(nets, picture.rgb)
    if not torch.isfinite(y.sum() + z.sum()):
        raise SymbolRangeError("a latent is not finite; this model does not suit this image")
    return y, z


def digests_of(z: Int32Array, bands: Iterable[Band]) -> list[bytes]:
    """Return the digests of z and of y of each band."""
    return [digest_of(z), *(digest_of(band.y) for band in bands)]


def digest_of(symbols: Int32Array) -> bytes:
    """Return the SHA-256 of symbols in memory order."""
    return hashlib.sha256(np.ascontiguousarray(symbols).data).digest()
