"""The proof of a network: its layers fit each other, and every integer step is exact in float64.

Source: format_spec.md, sections 4.1 and 4.2.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

from sgacodec.errors import ModelError
from sgacodec.exact.layers import Network, Shape


def check_integers(network: Network, in_channels: int, in_bound: int, name: str) -> Shape:
    """Prove an integer network's geometry, and that it is exact in float64.

    Args:
        network: integer layers only.
        in_channels: channels of its input.
        in_bound: largest magnitude of its input.
        name: for messages.

    Returns:
        The geometry of its output.

    Raises:
        ModelError: shapes do not fit, a field is out of range, or an accumulator may reach 2^53.
    """
    return _proven(network, in_channels, in_bound, name)[-1]


def check_synthesis(network: Network, in_channels: int, in_bound: int, name: str) -> Shape:
    """Prove an integer network as `check_integers` does, and that no layer makes what enters it smaller.

    Only then does it multiply an input of any size by the same factor. What a layer's sides must be multiples of they
    are by the layers before it.
    """
    geometry = _proven(network, in_channels, in_bound, name)
    pairs = itertools.pairwise(geometry)
    shrinking = [i for i, (before, after) in enumerate(pairs) if after.up * before.down < before.up * after.down]
    if shrinking:
        raise ModelError(f"layer {name}.{shrinking[0]} ({network[shrinking[0]].kind}): a synthesis has no strides")
    _require_sides(network, geometry, 1, name)
    return geometry[-1]


def _proven(network: Network, in_channels: int, in_bound: int, name: str) -> list[Shape]:
    geometry, bounds = shapes(network, in_channels, name), [in_bound]
    for index, layer in enumerate(network):
        with _named(f"{name}.{index} ({layer.kind})"):
            bounds.append(layer.bound(bounds))
    return geometry


def shapes(network: Network, in_channels: int, name: str) -> list[Shape]:
    """Return the geometry of a network's input and of every layer's output.

    Raises:
        ModelError: layers do not fit each other.
    """
    return shapes_behind(Shape(in_channels), network, name)


def shapes_behind(entering: Shape, network: Network, name: str) -> list[Shape]:
    """Return what `shapes` does of a network that follows another one, relative to the input of the first."""
    found = [entering]
    for index, layer in enumerate(network):
        with _named(f"{name}.{index} ({layer.kind})"):
            found.append(layer.shape(found))
    return found


@contextmanager
def _named(layer: str) -> Iterator[None]:
    try:
        yield
    except ModelError as err:
        raise ModelError(f"layer {layer}: {err}") from err


def check_divides(network: Network, in_channels: int, side: int, name: str) -> Shape:
    """Check that an input whose sides are multiples of `side` has sides that fit behind every layer.

    Returns:
        The geometry of the output.

    Raises:
        ModelError: it has not, or layers do not fit each other.
    """
    geometry = shapes(network, in_channels, name)
    _require_sides(network, geometry, side, name)
    return geometry[-1]


def _require_sides(network: Network, geometry: list[Shape], side: int, name: str) -> None:
    """Refuse a network for which it is not enough that the sides of its input are multiples of `side`."""
    broken = [i for i, shape in enumerate(geometry[1:]) if side % shape.multiple]
    if broken:
        layer, shape = network[broken[0]], geometry[broken[0] + 1]
        raise ModelError(
            f"layer {name}.{broken[0]} ({layer.kind}): it needs an input of the network whose sides are multiples of "
            f"{shape.multiple}, and they are multiples of {side}"
        )


def check_same_size(network: Network, in_channels: int, in_bound: int, name: str) -> Shape:
    """Prove an integer network as `check_integers` does, and that every layer keeps the size, whatever it is.

    Raises:
        ModelError: it does not.
    """
    geometry = _proven(network, in_channels, in_bound, name)
    changing = [i for i, shape in enumerate(geometry[1:]) if (shape.up, shape.down) != (1, 1)]
    if changing:
        raise ModelError(f"layer {name}.{changing[0]} ({network[changing[0]].kind}): it must keep the size")
    _require_sides(network, geometry, 1, name)
    return geometry[-1]


def upscale(network: Network, in_channels: int) -> int:
    """Return by how much a synthesis multiplies height and width."""
    return shapes(network, in_channels, "network")[-1].up


def halo(network: Network, in_channels: int) -> int:
    """Return how many more input rows on either side make a horizontal strip's outputs exact."""
    end = shapes(network, in_channels, "network")[-1]
    return -(-end.reach * end.down // end.up)
