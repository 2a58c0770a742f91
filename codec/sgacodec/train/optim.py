"""Optimisers by name: Adam, Muon and SOAP, each for all parameters of the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from sgacodec.devices import has_fast_bfloat16

_ADAM_BETAS = (0.9, 0.98)
_AUX_RATE = 1e-3
_MIN_SIDE = 8
"""Kernels with fewer channels on a side are left to Adam: they have no structure worth a matrix method."""

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


class Muon(Optimizer):
    """Momentum, orthogonalised: every direction of a kernel moves equally far.

    Source: Jordan et al. 2024, Muon.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        """Take convolution kernels; their first dimension makes the rows of a matrix."""
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Move every kernel that has a gradient."""
        for group in self.param_groups:
            for parameter in (p for p in group["params"] if p.grad is not None):
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                average = state["momentum"].mul_(group["momentum"]).add_(parameter.grad)
                direction = parameter.grad + group["momentum"] * average  # Nesterov's look ahead
                matrix = orthogonalise(direction.reshape(len(parameter), -1))
                scale = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
                parameter.add_(matrix.reshape(parameter.shape), alpha=-group["lr"] * scale)


def orthogonalise(matrix: Tensor, iterations: int = 5) -> Tensor:
    """Return nearly U V^T of the singular value decomposition U S V^T, by Newton-Schulz iterations in bfloat16.

    Args:
        matrix: float [rows, columns].
        iterations: five bring singular values to about 0.7..1.2.
    """
    a, b, c = _NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return (x.T if tall else x).to(matrix.dtype)


class Soap(Optimizer):
    """Adam in the eigenbasis of Shampoo's preconditioner.

    A kernel [O, I, K, K] is seen as [O, I, K * K]; each of the three modes has its own basis.

    Source: Vyas et al. 2024, SOAP, algorithm 3.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
        every: int = 20,
        observe_every: int = 5,
    ) -> None:
        """Take convolution kernels; the moments are looked at, and the bases renewed, every so many steps."""
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "every": every, "observe_every": observe_every})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a state.

        Raises:
            ValueError: the state is of other parameters, or of the time when the average gradient was kept unrotated.
        """
        if any("observe_every" not in group for group in state_dict["param_groups"]):
            raise ValueError("this state of SOAP is an earlier version's; take the weights alone with --warm")
        super().load_state_dict(state_dict)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Move every kernel that has a gradient; the first step only measures it."""
        for group in self.param_groups:
            for parameter in (p for p in group["params"] if p.grad is not None):
                gradient = parameter.grad.flatten(2)
                state = self.state[parameter]
                if state:
                    update = _soap_update(state, gradient, group)
                    parameter.add_(update.reshape(parameter.shape), alpha=-group["lr"])
                    _observe(state, gradient, group)
                else:
                    state.update(_soap_start(gradient))


def _soap_start(gradient: Tensor) -> dict[str, Any]:
    moments = _mode_moments(gradient)
    return {
        "n_steps": 0,
        "average": torch.zeros_like(gradient),
        "square": torch.zeros_like(gradient),
        "moments": moments,
        "bases": [torch.linalg.eigh(moment)[1].flip(1) for moment in moments],
    }


def _soap_update(state: dict[str, Any], gradient: Tensor, group: dict[str, Any]) -> Tensor:
    """Return Adam's step, taken in the eigenbasis, where both of its averages are kept."""
    (beta1, beta2), bases = group["betas"], state["bases"]
    state["n_steps"] += 1
    rotated = _rotate(gradient, bases)
    state["average"].lerp_(rotated, 1 - beta1)
    state["square"].lerp_(rotated.square_(), 1 - beta2)
    average = state["average"] / (1 - beta1 ** state["n_steps"])
    square = state["square"] / (1 - beta2 ** state["n_steps"])
    return _rotate(average.div_(square.sqrt_().add_(group["eps"])), _inverse(bases))


def _observe(state: dict[str, Any], gradient: Tensor, group: dict[str, Any]) -> None:
    """Follow the gradient's second moments, and more seldom their eigenbases: products of matrices are what costs."""
    if state["n_steps"] % group["observe_every"] == 0:
        weight = 1 - group["betas"][1] ** group["observe_every"]
        for moment, new in zip(state["moments"], _mode_moments(gradient), strict=True):
            moment.lerp_(new, weight)
    if state["n_steps"] % group["every"] == 0:
        average = _rotate(state["average"], _inverse(state["bases"]))
        for mode, moment in enumerate(state["moments"]):
            state["bases"][mode], order = _next_basis(moment, state["bases"][mode])
            state["square"] = state["square"].index_select(mode, order)
        state["average"] = _rotate(average, state["bases"])


def _next_basis(moment: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Return one power iteration's orthonormal basis, by falling eigenvalue, and the order its columns came from."""
    order = torch.argsort((basis * (moment @ basis)).sum(0), descending=True)
    return torch.linalg.qr(moment @ basis[:, order])[0], order


def _mode_moments(gradient: Tensor) -> list[Tensor]:
    """Return the second moment G G^T of each mode."""
    unfolded = [gradient.movedim(mode, 0).flatten(1) for mode in range(gradient.ndim)]
    return [matrix @ matrix.T for matrix in unfolded]


def _inverse(bases: Sequence[Tensor]) -> list[Tensor]:
    return [basis.T for basis in bases]


def _rotate(tensor: Tensor, bases: Sequence[Tensor]) -> Tensor:
    """Multiply each mode by its basis, transposed; tensordot moves the result to the back, so modes come round.

    Where the machine is made for bfloat16, products are in it: its rounding is lost in the noise of a gradient.
    """
    for basis in bases:
        if len(basis) == 1:  # of a 1x1 kernel: nothing to turn
            tensor = tensor.movedim(0, -1)
            continue
        dtype = torch.bfloat16 if has_fast_bfloat16(tensor.device, len(basis)) else torch.float32
        tensor = torch.tensordot(tensor.to(dtype), basis.to(dtype), dims=([0], [0]))
    return tensor.float()


class Optimizers:
    """All that moves the parameters in one step: a few torch optimisers and the learning rate's schedule."""

    def __init__(self, scheduled: Sequence[Optimizer], auxiliary: Sequence[nn.Parameter]) -> None:
        """Take the optimisers that follow the schedule; parameters of the auxiliary loss have their own."""
        self._scheduled = scheduled
        self._all = (*scheduled, *([Adam(auxiliary, _AUX_RATE)] if auxiliary else []))
        self._rates = [group["lr"] for optimizer in scheduled for group in optimizer.param_groups]

    def step(self, factor: float) -> None:
        """Move all parameters, with learning rates of `factor` times their full value."""
        groups = [group for optimizer in self._scheduled for group in optimizer.param_groups]
        for group, rate in zip(groups, self._rates, strict=True):
            group["lr"] = rate * factor
        for optimizer in self._all:
            optimizer.step()

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for optimizer in self._all:
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> list[dict[str, Any]]:
        """Return what a checkpoint needs."""
        return [optimizer.state_dict() for optimizer in self._all]

    def restore(self, states: Sequence[dict[str, Any]]) -> None:
        """Continue from `state`.

        Raises:
            ValueError: the state is that of other parameters.
        """
        for optimizer, state in zip(self._all, states, strict=True):
            optimizer.load_state_dict(state)


Parameters = list[nn.Parameter]
Maker = Callable[[Parameters, Parameters, float], list[Optimizer]]


def _adam(kernels: Parameters, others: Parameters, lr: float) -> list[Optimizer]:
    return [Adam(kernels + others, lr, betas=_ADAM_BETAS, fused=True)]


def _muon(kernels: Parameters, others: Parameters, lr: float) -> list[Optimizer]:
    return _beside_adam(Muon, kernels, lr, others, lr / 2)


def _soap(kernels: Parameters, others: Parameters, lr: float) -> list[Optimizer]:
    return _beside_adam(Soap, kernels, lr, others, lr)


def _beside_adam(
    of_kernels: type[Muon | Soap], kernels: Parameters, lr: float, others: Parameters, others_lr: float
) -> list[Optimizer]:
    """Return an optimiser of the kernels and Adam of the others; torch refuses one of nothing."""
    made: list[Optimizer] = [of_kernels(kernels, lr)] if kernels else []
    return made + (_adam([], others, others_lr) if others else [])


OPTIMIZERS: dict[str, Maker] = {"adam": _adam, "muon": _muon, "soap": _soap}
"""Makes the optimisers of the kernels and of all other parameters, for a learning rate; one of both may be missing."""


def create(name: str, net: nn.Module, lr: float) -> Optimizers:
    """Return the optimisers called `name` (a key of `OPTIMIZERS`) for a network."""
    auxiliary = net.auxiliary()
    by_factor: dict[float, Parameters] = {}
    for parameter_name, parameter in net.named_parameters():
        if parameter.requires_grad and not any(parameter is other for other in auxiliary):
            by_factor.setdefault(net.rate_factor(parameter_name), []).append(parameter)
    scheduled: list[Optimizer] = []
    for factor, trained in sorted(by_factor.items()):
        kernels = [parameter for parameter in trained if _is_kernel(parameter)]
        others = [parameter for parameter in trained if not _is_kernel(parameter)]
        scheduled += OPTIMIZERS[name](kernels, others, lr * factor)
    return Optimizers(scheduled, auxiliary)


def _is_kernel(parameter: nn.Parameter) -> bool:
    return parameter.ndim == 4 and min(parameter.shape[:2]) >= _MIN_SIDE
