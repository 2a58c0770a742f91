"""Parts of a model as a model file stores them: a JSON description, and tensors by name.

A part is a frozen dataclass whose annotations say how each field is stored: numbers (`int`) stand in its description;
arrays (`Array`, `FloatArray`), tables (`TableSet`) and the arrays of its networks' layers (`Network`, `Networks`) are
tensors. A field that has its default value stands nowhere, so that new fields do not change old files.
Source: format_spec.md, section 6.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from sgacodec.arrays import Array
from sgacodec.entropy.tables import TableSet
from sgacodec.errors import ModelError
from sgacodec.exact.layers import KINDS, Layer, Network
from sgacodec.limits import MAX_LAYERS

Part = TypeVar("Part")

_ARRAY_TYPES = ("Array", "FloatArray")
_AS_STORED = ("weight", "gamma", "matrix")
"""What a layer is mostly made of keeps its narrow type."""

_TABLE_FIELDS = {"frequencies": np.uint32, "lengths": np.int32, "minima": np.int32}


def to_stored(part: Any) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the description and the tensors of a part, without those of its fields that are parts themselves."""
    description: dict[str, Any] = {}
    tensors: dict[str, Array] = {}
    for field in dataclasses.fields(part):
        name, value = field.name, getattr(part, field.name)
        if field.type == "int":
            if value != field.default:
                description[name] = value
        elif field.type == "Network":
            description[name], more = network_to_stored(value, name)
            tensors |= more
        elif field.type == "Networks":
            stored = [network_to_stored(network, f"{name}.{index}") for index, network in enumerate(value)]
            description[name] = [listing for listing, _ in stored]
            for _, more in stored:
                tensors |= more
        elif field.type == "TableSet":
            tensors |= {f"{name}.{key}": getattr(value, key).astype(kind) for key, kind in _TABLE_FIELDS.items()}
        elif field.type in _ARRAY_TYPES:
            tensors[name] = value
        elif not dataclasses.is_dataclass(value):
            raise TypeError(f"{type(part).__name__}.{name} is a {field.type}, which has no stored form")
    return description, tensors


def from_stored(cls: type[Part], description: Mapping[str, Any], tensors: Mapping[str, Array], **others: Any) -> Part:
    """Return the part that `to_stored` took apart.

    Args:
        cls: its class.
        description: the description; what it has beside the part's numbers and networks is not looked at.
        tensors: the tensors, likewise.
        others: fields that are parts themselves.

    Raises:
        KeyError, ModelError: a field is missing or damaged.
    """
    values = dict(others)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name not in others:
            values[field.name] = _read_field(field, description, tensors)
    return cls(**values)


def _read_field(field: dataclasses.Field[Any], description: Mapping[str, Any], tensors: Mapping[str, Array]) -> Any:
    name, kind = field.name, field.type
    if kind == "Network":
        return network_from_stored(description[name], tensors, name)
    if kind == "Networks":
        listings = _listings(description[name], name)
        return tuple(network_from_stored(listing, tensors, f"{name}.{index}") for index, listing in enumerate(listings))
    if kind == "int":
        return _number(description.get(name, field.default), name)
    if kind == "TableSet":
        return TableSet(**{field: _integers(tensors[f"{name}.{field}"]) for field in _TABLE_FIELDS})  # type: ignore[arg-type]
    return tensors[name] if kind == "FloatArray" else _integers(tensors[name])


def _number(value: Any, name: str) -> int:
    if type(value) is not int:
        raise ModelError(f"the number {name} is missing or no integer")
    return value


def _listings(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > MAX_LAYERS:
        raise ModelError(f"{name} is not a list of at most {MAX_LAYERS} networks")
    return value


def _integers(array: Array) -> npt.NDArray[np.int64]:
    return array.astype(np.int64, casting="safe")


def _typed(name: str, value: Any) -> Any:
    """Return integers as int64, which the layers reckon with; those of `_AS_STORED` and floats stay as they are."""
    if not isinstance(value, np.ndarray) or name in _AS_STORED or not np.issubdtype(value.dtype, np.integer):
        return value
    return _integers(value)


def network_to_stored(network: Network, prefix: str) -> tuple[list[dict[str, Any]], dict[str, Array]]:
    """Return the JSON layer list and the named tensors `<prefix>.<layer>.<field>` of a network."""
    listing, tensors = [], {}
    for index, layer in enumerate(network):
        entry: dict[str, Any] = {"kind": layer.kind}
        for field in dataclasses.fields(layer):  # type: ignore[arg-type]
            value = getattr(layer, field.name)
            if isinstance(value, np.ndarray):
                tensors[f"{prefix}.{index}.{field.name}"] = value
            elif value != field.default:
                entry[field.name] = value
        listing.append(entry)
    return listing, tensors


def network_from_stored(listing: Any, tensors: Mapping[str, Array], prefix: str) -> Network:
    """Return the network that `network_to_stored` took apart.

    Raises:
        ModelError: a layer is unknown, or a field is missing, superfluous or of a wrong type.
    """
    if not isinstance(listing, list) or len(listing) > MAX_LAYERS:
        raise ModelError(f"{prefix} is not a list of at most {MAX_LAYERS} layers")
    return tuple(_read_layer(entry, tensors, f"{prefix}.{index}") for index, entry in enumerate(listing))


def _read_layer(entry: Any, tensors: Mapping[str, Array], name: str) -> Layer:
    if not isinstance(entry, dict) or entry.get("kind") not in KINDS:
        raise ModelError(f"layer {name} has an unknown kind; a newer sgacodec may know it")
    cls = KINDS[entry["kind"]]
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        default = None if field.default is dataclasses.MISSING else field.default
        stored = tensors.get(f"{name}.{field.name}") if field.type == "Array" else entry.get(field.name, default)
        if stored is None or (field.type == "int" and type(stored) is not int):
            raise ModelError(f"layer {name}: field {field.name} is missing or has a wrong type")
        values[field.name] = _typed(field.name, stored)
    if set(entry) - {"kind", *values}:
        raise ModelError(f"layer {name} has fields this version does not know")
    return cls(**values)
