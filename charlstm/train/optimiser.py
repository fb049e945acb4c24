"""What turns gradients into weights: Muon and AdamW, the schedule, the moving average."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from charlstm.config import TrainConfig
from charlstm.train.network import LanguageModel


class Optimiser:
    """Muon on the recurrent layers' matrices, AdamW on everything else.

    Muon (Jordan et al. 2024) orthogonalises each matrix's momentum; docs/training.md has what
    it gains. Both follow one schedule, each from its own peak rate.
    """

    def __init__(self, model: LanguageModel, config: TrainConfig) -> None:
        named = dict(model.named_parameters())
        matrices = {n: p for n, p in named.items() if n.startswith("layers.") and p.ndim == 2}
        others = {n: p for n, p in named.items() if n not in matrices}
        self._named = named
        self._peaks = (config.learning_rate, config.adam_rate)
        self._parts: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(
                matrices.values(),
                lr=config.learning_rate,
                weight_decay=config.weight_decay,
                momentum=0.95,
                adjust_lr_fn="original",
            ),
            torch.optim.AdamW(
                others.values(),
                lr=config.adam_rate,
                betas=(0.9, 0.99),
                weight_decay=config.weight_decay,
                fused=True,
            ),
        )

    def step(self, share: float) -> None:
        """Apply the gradients at ``share`` of the peak rates, and clear them."""
        for part, peak in zip(self._parts, self._peaks, strict=True):
            for group in part.param_groups:
                group["lr"] = peak * share
            part.step()
            part.zero_grad(set_to_none=True)

    def _owners(self) -> Iterator[tuple[str, Tensor, torch.optim.Optimizer]]:
        for part in self._parts:
            mine = {id(p) for group in part.param_groups for p in group["params"]}
            for name, parameter in self._named.items():
                if id(parameter) in mine:
                    yield name, parameter, part

    def state(self) -> dict[str, Tensor]:
        """Moments and step counts by ``PARAMETER/KEY``."""
        return {
            f"{name}/{key}": value
            for name, parameter, part in self._owners()
            for key, value in part.state[parameter].items()
        }

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Set what ``state`` gave."""
        for name, parameter, part in self._owners():
            prefix = f"{name}/"
            found: dict[str, Any] = {
                key.removeprefix(prefix): value
                if key.endswith("/step")
                else value.to(parameter.device)
                for key, value in tensors.items()
                if key.startswith(prefix)
            }
            part.state[parameter] = found


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
