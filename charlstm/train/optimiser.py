"""What turns gradients into weights: Muon and Adam, the schedule, the moving average."""

import math

import torch
from torch import Tensor

from charlstm.config import TrainConfig
from charlstm.train.network import LanguageModel

MOMENTUM = 0.95
ADAM_BETAS, ADAM_EPSILON = (0.9, 0.99), 1e-8
POLAR_EXPRESS = (
    (8.093368512548254, -23.620430328824266, 17.446151749836243),
    (3.636585554259041, -2.7219267466089088, 0.5365462883273615),
)
"""a, b and c of two steps: of all a s + b s^3 + c s^5 the one that is nowhere far from 1, for s in
[0.01, 1] first, then for s in what the first step makes of that (Amsel et al. 2025)."""
SAFETY = 1.02
"""Beyond 1 the first step's polynomial rises steeply: rounding must not lead there."""


def orthogonalise(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """U V^T, roughly, where ``matrix`` (R, C) is U S V^T: every singular value brought near 1.

    Two Newton-Schulz steps with the polynomials of Polar Express,

        X <- a X + b X G + c X G G,  with G = X^T X

    from X = matrix / (1.02 m), where m = (sum of s^8)^(1/8) = ||G G||^(1/4) is hardly more than the
    largest singular value s and costs nothing, G G being needed anyway. From Frobenius' norm, as
    usual, a third step would be needed for the same training loss (docs/experiments.md). Of the
    singular values, those above m / 100 end between 0.29 and 1.71.

    G is computed anew in each step although it could be iterated alone in half of the arithmetic:
    in bfloat16 an iterated G gets negative eigenvalues, which the polynomial blows up.
    """
    if matrix.shape[0] < matrix.shape[1]:
        return orthogonalise(matrix.transpose(0, 1), dtype).transpose(0, 1)
    x: Tensor = (matrix / (matrix.norm() + 1e-30)).to(dtype)
    size: Tensor | None = None
    for a, b, c in POLAR_EXPRESS:
        gram = x.T @ x
        square = gram @ gram
        if size is None:
            size = SAFETY * square.norm(dtype=torch.float32) ** 0.25 + 1e-7
            x, gram, square = x / size, gram / size**2, square / size**4
        x = torch.addmm(x, x, b * gram + c * square, beta=a)
    return x.to(matrix.dtype)


class Optimiser:
    """Muon on the recurrent layers' matrices, Adam on everything else.

    Muon (Jordan et al. 2024) steps along the orthogonalised momentum, with Nesterov's look-ahead
    and a rate that grows with the square root of rows over columns; the matrices decay towards 0
    (Loshchilov & Hutter 2019). Adam is that of Kingma & Ba 2015, algorithm 1. Both follow one
    schedule, each from its own peak rate. docs/training.md has what Muon gains.
    """

    def __init__(self, model: LanguageModel, config: TrainConfig) -> None:
        named = dict(model.named_parameters())
        self._config = config
        self._matrices = {
            name: p for name, p in named.items() if name.startswith("layers.") and p.ndim == 2
        }
        self._others = {name: p for name, p in named.items() if name not in self._matrices}
        self._momenta = {name: torch.zeros_like(p) for name, p in named.items()}
        self._squares = {name: torch.zeros_like(p) for name, p in self._others.items()}
        self._steps = torch.zeros((), dtype=torch.int64)
        # float16 has too small a range for the squares of singular values.
        self._dtype = torch.float32 if config.precision == "float32" else torch.bfloat16

    @torch.no_grad()
    def step(self, share: float) -> None:
        """Apply the gradients at ``share`` of the peak rates, and clear them."""
        self._steps += 1
        self._step_muon(self._config.learning_rate * share)
        self._step_adam(self._config.adam_rate * share)

    def _step_muon(self, rate: float) -> None:
        for name, matrix in self._matrices.items():
            gradient, momentum = matrix.grad, self._momenta[name]
            assert gradient is not None
            momentum.lerp_(gradient, 1 - MOMENTUM)
            direction = orthogonalise(gradient.lerp_(momentum, MOMENTUM), self._dtype)
            scale = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
            matrix.mul_(1 - rate * self._config.weight_decay)
            matrix.add_(direction, alpha=-rate * scale)
            matrix.grad = None

    def _step_adam(self, rate: float) -> None:
        beta1, beta2 = ADAM_BETAS
        steps = int(self._steps)
        rate /= 1 - beta1**steps
        for name, parameter in self._others.items():
            gradient, momentum, square = parameter.grad, self._momenta[name], self._squares[name]
            assert gradient is not None
            momentum.lerp_(gradient, 1 - beta1)
            square.lerp_(gradient.square(), 1 - beta2)
            deviation = (square / (1 - beta2**steps)).sqrt_().add_(ADAM_EPSILON)
            parameter.addcdiv_(momentum, deviation, value=-rate)
            parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """Momenta by ``PARAMETER/momentum``, Adam's squares by ``PARAMETER/square``, ``steps``."""
        return {
            **{f"{name}/momentum": momentum for name, momentum in self._momenta.items()},
            **{f"{name}/square": square for name, square in self._squares.items()},
            "steps": self._steps,
        }

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Set what ``state`` gave.

        Raises:
            KeyError: a tensor is missing.
        """
        for name, tensor in self.state().items():
            tensor.copy_(tensors[name])


def rate_share(step: int, total_steps: int | None, config: TrainConfig) -> float:
    """The learning rate of step ``step`` as a share of its peak.

    Linear warm-up over ``warmup_steps`` (at most a tenth of the budget), then half a cosine
    from 1 to ``final_rate`` at the end of the budget. While the budget is not yet known, the
    peak is held.
    """
    warmup = config.warmup_steps
    if total_steps is not None:
        warmup = min(warmup, total_steps // 10)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if total_steps is None:
        return 1.0
    progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return config.final_rate + (1 - config.final_rate) * cosine


@torch.no_grad()
def update_average(average: LanguageModel, model: LanguageModel, decay: float, step: int) -> None:
    """average += (1 - d) * (weights - average), with d = min(decay, (1 + step) / (10 + step)).

    The smaller d of the first steps lets the average forget the untrained weights.
    """
    d = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - d)
