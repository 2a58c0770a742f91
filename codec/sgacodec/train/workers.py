"""One process of a data-parallel run: under torchrun one of several, else the only one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import distributed, nn

from sgacodec.devices import torch_device
from sgacodec.errors import TrainError


@dataclass(frozen=True)
class Worker:
    """This process among those of the run.

    Attributes:
        rank: 0 writes files and validates.
        count: number of processes.
        device: where this one computes.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes files and validates."""
        return self.rank == 0

    def share(self, batch_size: int) -> int:
        """Return how many patches of a batch this process takes.

        Raises:
            TrainError: the batch cannot be divided evenly.
        """
        if batch_size % self.count:
            raise TrainError(f"a batch of {batch_size} patches cannot be divided among {self.count} processes")
        return batch_size // self.count

    def generator(self, seed: int, position: int) -> torch.Generator:
        """Return the randomness of one step; it depends on the arguments and the rank alone, so no state is kept."""
        key = np.random.SeedSequence([seed, self.rank, position]).generate_state(1, np.uint64)[0]
        return torch.Generator(self.device).manual_seed(int(key) >> 1)

    def parallel(self, net: nn.Module) -> nn.Module:
        """Return the network such that a backward pass averages gradients over all processes."""
        if self.count == 1:
            return net
        devices = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(net, devices, broadcast_buffers=False)

    def agree(self, *values: float) -> list[float]:
        """Return the largest of each value over all processes, so that all take the same decisions."""
        if self.count == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
        return tensor.tolist()


def leads() -> bool:
    """Say whether this process is the only or the first one of torchrun's."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def join(device: str) -> Iterator[Worker]:
    """Join the processes that torchrun started, if it did.

    Args:
        device: torch device or "auto"; under torchrun on CUDA each process takes the device of its local rank.

    Raises:
        EncodeError: the device is not available.
    """
    chosen = torch_device(device)
    if "WORLD_SIZE" not in os.environ:
        yield Worker(0, 1, chosen)
        return
    if chosen.type == "cuda":
        chosen = torch_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(chosen)
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Worker(distributed.get_rank(), distributed.get_world_size(), chosen)
    finally:
        distributed.destroy_process_group()
