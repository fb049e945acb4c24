"""The peephole LSTM's recurrence with a hand-written backward pass, since torch has no kernel."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from charlstm.net.spec import CELLS

SPEC = CELLS["peephole"]


def peephole_recurrence(
    projected: Tensor, weight_hidden: Tensor, weight_peephole: Tensor, h: Tensor, c: Tensor
) -> tuple[Tensor, Tensor]:
    """T steps of the cell ``peephole`` (Gers & Schmidhuber 2000) on projected inputs.

    Matrix products use the dtype of ``projected``; c and the sums are at least float32.

    Args:
        projected: (T, B, 4H), weight_input x + bias of every step.
        weight_hidden: (4H, H), packed as in the spec.
        weight_peephole: (3H,), likewise.
        h: (B, H), before the first step.
        c: (B, H), before the first step.

    Returns:
        h of every step (T, B, H), in the dtype of ``projected``; c after the last step (B, H).
    """
    dtype = projected.dtype
    wide = torch.promote_types(dtype, torch.float32)
    result: tuple[Tensor, Tensor] = PeepholeRecurrence.apply(  # type: ignore[no-untyped-call]
        projected, weight_hidden.to(dtype), weight_peephole.to(wide), h.to(dtype), c.to(wide)
    )
    return result


class PeepholeRecurrence(torch.autograd.Function):
    """Forward and backward pass of ``peephole_recurrence``.

        i, f = sigma(z_i + p_i * c_prev), sigma(z_f + p_f * c_prev);  g = tanh(z_g)
        c = f * c_prev + i * g;  o = sigma(z_o + p_o * c);  h = o * tanh(c)

    with z = projected[t] + weight_hidden h_prev. The forward pass keeps i, f, g, o and tanh(c).
    Both passes write into memory that is allocated once; with autograd the same loop would allocate
    about twenty arrays per step.
    """

    @staticmethod
    def forward(
        ctx: Any, projected: Tensor, weight_hidden: Tensor, peephole: Tensor, h: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As ``peephole_recurrence``; ``peephole`` and ``c`` are at least float32."""
        steps, batch, rows = projected.shape
        size = rows // 4
        kept = torch.empty_like(projected)
        squashed = projected.new_empty(steps, batch, size)
        hiddens = projected.new_empty(steps + 1, batch, size)
        cells = c.new_empty(steps + 1, batch, size)
        hiddens[0], cells[0] = h, c
        product = projected.new_empty(batch, rows)
        gates, tanh_c, shown = (c.new_empty(batch, n) for n in (rows, size, size))
        i, f, g, o = _blocks(gates)
        # Input and forget gate are neighbours: one call makes the sigmoids of both.
        first, second = SPEC.block("input", size), SPEC.block("forget", size)
        sigmoids = gates[:, first.start : second.stop]
        p_i, p_f, p_o = _peepholes(peephole)
        weight = weight_hidden.T
        for t in range(steps):
            torch.mm(hiddens[t], weight, out=product)
            torch.add(product, projected[t], out=gates)
            i.addcmul_(cells[t], p_i)
            f.addcmul_(cells[t], p_f)
            sigmoids.sigmoid_()
            g.tanh_()
            torch.mul(f, cells[t], out=cells[t + 1]).addcmul_(i, g)
            o.addcmul_(cells[t + 1], p_o).sigmoid_()
            torch.tanh(cells[t + 1], out=tanh_c)
            torch.mul(o, tanh_c, out=shown)
            kept[t].copy_(gates)
            squashed[t].copy_(tanh_c)
            hiddens[t + 1].copy_(shown)
        ctx.save_for_backward(kept, squashed, cells, hiddens, weight_hidden, peephole)
        return hiddens[1:], cells[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_last_c: Tensor) -> tuple[Tensor, ...]:
        """Gradients of the arguments of ``forward``, in the same order and dtypes."""
        kept, squashed, cells, hiddens, weight_hidden, peephole = ctx.saved_tensors
        steps, batch, size = squashed.shape
        d_projected = torch.empty_like(kept)
        d_carried = torch.zeros_like(hiddens[0])
        d_c = d_last_c.clone()
        gates, d_gates = d_c.new_empty(batch, 4 * size), d_c.new_empty(batch, 4 * size)
        i, f, g, o = _blocks(gates)
        d_i, d_f, d_g, d_o = _blocks(d_gates)
        tanh_c, d_h = torch.empty_like(d_c), torch.empty_like(d_c)
        p_i, p_f, p_o = _peepholes(peephole)
        d_peephole = torch.zeros_like(peephole)
        d_p_i, d_p_f, d_p_o = _peepholes(d_peephole)
        for t in reversed(range(steps)):
            gates.copy_(kept[t])
            tanh_c.copy_(squashed[t])
            torch.add(d_outputs[t], d_carried, out=d_h)
            d_h.mul_(o)
            d_c.add_(d_h)
            d_h.mul_(tanh_c)  # d_h * o * tanh(c)
            d_c.addcmul_(d_h, tanh_c, value=-1)
            torch.addcmul(d_h, d_h, o, value=-1, out=d_o)
            d_c.addcmul_(d_o, p_o)
            torch.mul(d_c, g, out=d_i).mul_(i)
            d_i.addcmul_(d_i, i, value=-1)
            torch.mul(d_c, cells[t], out=d_f).mul_(f)
            d_f.addcmul_(d_f, f, value=-1)
            torch.mul(d_c, i, out=d_g)
            torch.mul(d_g, g, out=d_h)
            d_g.addcmul_(d_h, g, value=-1)
            d_c.mul_(f).addcmul_(d_i, p_i).addcmul_(d_f, p_f)
            d_p_i += torch.mul(d_i, cells[t], out=d_h).sum(0)
            d_p_f += torch.mul(d_f, cells[t], out=d_h).sum(0)
            d_p_o += torch.mul(d_o, cells[t + 1], out=d_h).sum(0)
            d_projected[t].copy_(d_gates)
            torch.mm(d_projected[t], weight_hidden, out=d_carried)
        d_weight = d_projected.flatten(0, 1).T @ hiddens[:-1].flatten(0, 1)
        return d_projected, d_weight, d_peephole, d_carried, d_c


def _blocks(z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Views of z (B, 4H), in the order of the equations: input, forget, candidate, output."""
    blocks = SPEC.split(z, axis=1)
    return blocks["input"], blocks["forget"], blocks["candidate"], blocks["output"]


def _peepholes(weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Views of ``weight_peephole`` (3H,) or its gradient: input, forget, output."""
    blocks = SPEC.split(weights, "weight_peephole")
    return blocks["input"], blocks["forget"], blocks["output"]
