"""The optimisers Muon and Adam, and the moving average of the weights."""

import torch
from torch import Tensor

from charlstm.config import TrainConfig
from charlstm.training.network import LanguageModel
from charlstm.training.processes import Processes

MOMENTUM = 0.95
ADAM_BETAS, ADAM_EPSILON = (0.9, 0.99), 1e-8
POLAR_EXPRESS = (
    (8.093368512548254, -23.620430328824266, 17.446151749836243),
    (3.636585554259041, -2.7219267466089088, 0.5365462883273615),
)
"""Coefficients a, b, c of two steps: the polynomial a s + b s^3 + c s^5 that is closest to 1, first
for s in [0.01, 1], then for s in the range of the first step (Polar Express, Amsel et al. 2025)."""
ROOT_EVERY = 4
"""Steps for which Muon reuses an inverse root; even 10 are no worse than 1
(docs/research/experiments/optimiser.md)."""
SAFETY = 1.02
"""Above 1 the first step's polynomial rises steeply; this margin keeps rounding below it."""


def inverse_root(x: Tensor) -> Tensor:
    """Approximate (X^T X)^(-1/2), (C, C), for X = ``x`` (R, C) of Frobenius norm 1, in its dtype.

    Multiplying X = U S V^T by it gives about U V^T: every singular value comes close to 1. It is
    the matrix by which two Newton-Schulz steps with the polynomials of Polar Express,

        X <- X P,  P = a I + b G + c G G,  G = X^T X

    multiply X. Only the first G is computed from X; the second is P G P, a product of small
    matrices. Further steps would not be stable in bfloat16: rounding gives G small negative
    eigenvalues, and each step amplifies them.

    The iteration starts at X / (1.02 m), where m = (sum of s^8)^(1/8) = ||G G||^(1/4) is slightly
    larger than the largest singular value s. It costs nothing, because G G is needed anyway. With
    the usual Frobenius norm, a third step would be needed for the same training loss
    (docs/research/experiments/optimiser.md). Singular values above m / 100 end between 0.29 and
    1.71.
    """
    gram = x.T @ x
    square = gram @ gram
    # The bound is the value for C equal singular values; only a zero matrix is below it.
    m = square.norm(dtype=torch.float32).clamp_min(x.shape[1] ** -1.5) ** 0.25
    size = SAFETY * m
    first: Tensor = _polynomial(gram / size**2, square / size**4, POLAR_EXPRESS[0]) / size
    gram = first @ gram @ first
    return first @ _polynomial(gram, gram @ gram, POLAR_EXPRESS[1])


def _polynomial(gram: Tensor, square: Tensor, coefficients: tuple[float, float, float]) -> Tensor:
    a, b, c = coefficients
    result = b * gram + c * square
    result.diagonal().add_(a)
    return result


def row_factors(direction: Tensor, squares: Tensor, averaging: float) -> Tensor:
    """Factors (R, 1) that even out the row norms of ``direction`` (R, C).

    A factor is the inverse root of ``squares`` (R, 1), the running mean of squared row norms, which
    is updated in place with the decay ``averaging``. All factors are then scaled to keep the
    Frobenius norm of ``direction`` (NorMuon, Li et al. 2025).
    """
    norms = direction.norm(dim=1, keepdim=True)
    squares.lerp_(norms.square(), 1 - averaging)
    # A bias correction would scale all rows alike, so the normalisation below would cancel it.
    factors = squares.add(ADAM_EPSILON**2).rsqrt_()
    factors *= norms.norm() / ((norms * factors).norm() + 1e-30)
    return factors


class Optimiser:
    """Muon for the matrices of the recurrent layers, Adam for all other parameters.

    Muon (Jordan et al. 2024) steps along the orthogonalised momentum, with Nesterov's look-ahead
    and a rate proportional to sqrt(max(1, R / C)) for a matrix (R, C). The matrices decay towards
    0 (decoupled weight decay, Loshchilov & Hutter 2019). The inverse root changes little from step
    to step, so each matrix computes a new one every fourth step only; the matrices take turns.
    Rows, one for each gate of each unit, differ in norm; ``row_factors`` evens them out.

    Adam follows Kingma & Ba 2015, algorithm 1. Both share one schedule, each with its own peak
    rate. docs/explanation/training.md has the gain of Muon. Several processes divide the inverse
    roots of a step among them.
    """

    def __init__(
        self, model: LanguageModel, config: TrainConfig, processes: Processes | None = None
    ) -> None:
        self._processes = processes or Processes()
        named = dict(model.named_parameters())
        self._config = config
        self._matrices = {
            name: p for name, p in named.items() if name.startswith("layers.") and p.ndim == 2
        }
        self._others = {name: p for name, p in named.items() if name not in self._matrices}
        self._momenta = {name: torch.zeros_like(p) for name, p in named.items()}
        self._squares = {name: torch.zeros_like(p) for name, p in self._others.items()}
        self._rows = {
            name: p.new_zeros((len(p), 1))
            for name, p in self._matrices.items()
            if config.row_averaging
        }
        self._roots = {name: p.new_zeros((min(p.shape),) * 2) for name, p in self._matrices.items()}
        self._rootless = set(self._roots)
        self._steps = torch.zeros((), dtype=torch.int64)
        # float16 has too small a range for the squares of singular values.
        self._dtype = torch.float32 if config.precision == "float32" else torch.bfloat16

    @torch.no_grad()
    def step(self, multiplier: float) -> None:
        """Apply the gradients at ``multiplier`` times the peak learning rates, then clear them."""
        self._steps += 1
        steps = int(self._steps)
        self._step_muon(self._config.learning_rate * multiplier, steps)
        self._step_adam(self._config.adam_rate * multiplier, steps)

    def _step_muon(self, rate: float, steps: int) -> None:
        for name, matrix in self._matrices.items():
            gradient, momentum = matrix.grad, self._momenta[name]
            assert gradient is not None
            momentum.lerp_(gradient, 1 - MOMENTUM)
            gradient.lerp_(momentum, MOMENTUM)
        self._renew_roots(steps)
        for name, matrix in self._matrices.items():
            assert matrix.grad is not None
            direction = self._orthogonalise(matrix.grad, name)
            scale = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
            matrix.mul_(1 - rate * self._config.weight_decay)
            if name in self._rows:
                factors = row_factors(direction, self._rows[name], self._config.row_averaging)
                matrix.addcmul_(direction, factors, value=-rate * scale)
            else:
                matrix.add_(direction, alpha=-rate * scale)
            matrix.grad = None

    def _renew_roots(self, steps: int) -> None:
        """Compute the inverse roots that are due, each in the process that owns it."""
        renewed = []
        for index, (name, matrix) in enumerate(self._matrices.items()):
            if name in self._rootless or (steps + index) % ROOT_EVERY == 0:
                owner = index // ROOT_EVERY  # of the roots of one step, each has another
                if self._processes.is_owner(owner):
                    assert matrix.grad is not None
                    self._roots[name].copy_(inverse_root(self._normalised(matrix.grad)))
                renewed.append((owner, self._roots[name]))
        self._processes.broadcast(renewed)
        self._rootless.clear()

    def _normalised(self, matrix: Tensor) -> Tensor:
        """``matrix`` or its transpose, the one with R >= C, at Frobenius norm 1."""
        tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
        normalised: Tensor = tall / (tall.norm() + 1e-30)
        return normalised.to(self._dtype)

    def _orthogonalise(self, matrix: Tensor, name: str) -> Tensor:
        """About U V^T of ``matrix`` (R, C) = U S V^T."""
        direction = self._normalised(matrix) @ self._roots[name].to(self._dtype)
        direction = direction.to(matrix.dtype)
        return direction if direction.shape == matrix.shape else direction.mT

    def _step_adam(self, rate: float, steps: int) -> None:
        beta1, beta2 = ADAM_BETAS
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
        """``NAME/momentum``, Adam's ``/square``, Muon's ``/root`` and ``/rows``; and ``steps``."""
        return {
            **{f"{name}/momentum": momentum for name, momentum in self._momenta.items()},
            **{f"{name}/square": square for name, square in self._squares.items()},
            **{f"{name}/root": root for name, root in self._roots.items()},
            **{f"{name}/rows": rows for name, rows in self._rows.items()},
            "steps": self._steps,
        }

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore the tensors that ``state`` returned.

        Raises:
            KeyError: a tensor is missing.
        """
        for name, tensor in self.state().items():
            tensor.copy_(tensors[name])
        self._rootless = {name for name, root in self._roots.items() if not root.any()}


@torch.no_grad()
def update_average(average: LanguageModel, model: LanguageModel, decay: float, step: int) -> None:
    """average += (1 - d) * (weights - average), with d = min(decay, (1 + step) / (10 + step)).

    The smaller d of the first steps lets the average forget the initial weights.
    """
    d = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - d)
