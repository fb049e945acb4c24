"""Loss scaling: keep gradients within the range of float16."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

FIRST_SCALE, GREATEST_SCALE = 2.0**16, 2.0**24
GROWTH_STEPS = 1000


class LossScale:
    """Dynamic loss scaling (Micikevicius et al. 2018), for float16 only.

    float16 has no number between 0 and 6e-8, where most gradients lie. The loss is multiplied by a
    scale s before the backward pass, and the gradients are divided by s. If any gradient overflows,
    all of them are set to 0, so the step only follows the momenta, and s is halved. After 1000
    steps without overflow, s is doubled.

    Nothing here waits for a GPU. ``torch.amp.GradScaler`` does: its ``step`` calls ``.item()`` to
    see whether a gradient overflowed, and its ``state_dict`` reads the scale.
    """

    def __init__(self, device: torch.device) -> None:
        self.state = torch.tensor([FIRST_SCALE, 0.0], device=device)
        """(2,) float32: s, and the steps since s last changed or a gradient overflowed."""

    def scaled(self, loss: Tensor) -> Tensor:
        """The ``loss`` times s, for the backward pass."""
        return loss * self.state[0]

    def unscale(self, parameters: Iterable[nn.Parameter]) -> None:
        """Divide the gradients of ``parameters`` by s, all 0 if any overflows; then adapt s."""
        scale, steps = self.state.unbind()
        gradients = [p.grad for p in parameters if p.grad is not None]
        finite = torch.stack([gradient.isfinite().all() for gradient in gradients]).all()
        for gradient in gradients:
            gradient.copy_(torch.where(finite, gradient / scale, 0.0))
        grown = steps + 1 >= GROWTH_STEPS
        larger = torch.where(grown, 2 * scale, scale)
        scale = torch.where(finite, larger, scale / 2).clamp(1.0, GREATEST_SCALE)
        self.state.copy_(torch.stack([scale, torch.where(finite & ~grown, steps + 1, 0.0)]))
