"""A stored network as float torch, ready for gradients with respect to its input."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sgacodec.exact import on_torch
from sgacodec.exact.layers import Add, Network


class FloatNetwork:
    """A stored network on a torch device, kernels frozen; activations keep the stored network's units."""

    def __init__(self, network: Network, device: torch.device) -> None:
        """Copy the kernels to `device` as float32."""
        self._device = device
        operators = [(layer, on_torch.REAL[type(layer)]) for layer in network]
        self._sources = {layer.source for layer in network if isinstance(layer, Add)}
        self._layers = [
            (layer, operator.apply, tuple(map(self._tensor, operator.parameters(layer))))
            for layer, operator in operators
        ]

    def __call__(self, x: Tensor) -> Tensor:
        """Evaluate on x, float [B, C, H, W]; what no layer or gradient needs is let go of on the way."""
        outputs: list[Any] = [_channels_last(x)]
        for index, (layer, apply, parameters) in enumerate(self._layers):
            outputs.append(apply(layer, outputs, *parameters))
            if index not in self._sources:
                outputs[index] = None
        return outputs[-1]

    def activations(self, x: Tensor) -> list[Tensor]:
        """Return x and the output of every layer."""
        outputs = [_channels_last(x)]
        for layer, apply, parameters in self._layers:
            outputs.append(apply(layer, outputs, *parameters))
        return outputs

    def _tensor(self, array: npt.NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(np.array(array, np.float32)).to(self._device)
        return _channels_last(tensor) if tensor.ndim == 4 else tensor


def _channels_last(x: Tensor) -> Tensor:
    """Return x in the memory format that convolutions like best.

    That of x decides where kernels are 1x1 or depthwise, which have none of their own; else each would reorder values.
    """
    return x.contiguous(memory_format=torch.channels_last)


def by_channel(values: npt.NDArray[Any], device: torch.device) -> Tensor:
    """Return one value for each channel, [C], as float32 [1, C, 1, 1]."""
    return torch.from_numpy(np.asarray(values, np.float32)).to(device)[None, :, None, None]
