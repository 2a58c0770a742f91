"""The proof of a network: its layers fit each other, and every integer step is exact in float64.

Source: format_spec.md, sections 4.1 and 4.2.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

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
    geometry, bounds = shapes(network, in_channels, name), [in_bound]
    for index, layer in enumerate(network):
        with _named(f"{name}.{index} ({layer.kind})"):
            bounds.append(layer.bound(bounds))
    return geometry[-1]


def check_synthesis(network: Network, in_channels: int, in_bound: int, name: str) -> Shape:
    """Prove an integer network as `check_integers` does, and that no layer makes what enters it smaller.

    Only then does it multiply an input of any size by the same factor.
    """
    shape = check_integers(network, in_channels, in_bound, name)
    scales = [each.scale for each in shapes(network, in_channels, name)]
    shrinking = [index for index, (before, after) in enumerate(itertools.pairwise(scales)) if after < before]
    if shrinking:
        raise ModelError(f"layer {name}.{shrinking[0]} ({network[shrinking[0]].kind}): a synthesis has no strides")
    return shape


def shapes(network: Network, in_channels: int, name: str) -> list[Shape]:
    """Return the geometry of a network's input and of every layer's output.

    Raises:
        ModelError: layers do not fit each other.
    """
    found = [Shape(in_channels)]
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


def scale(network: Network, in_channels: int) -> Fraction:
    """Return by how much a network multiplies height and width; below 1 for an analysis."""
    return shapes(network, in_channels, "network")[-1].scale


def halo(network: Network, in_channels: int) -> int:
    """Return how many more input rows on either side make a horizontal strip's outputs exact."""
    end = shapes(network, in_channels, "network")[-1]
    return -(-end.reach * end.scale.denominator // end.scale.numerator)
