"""A GRU on the CPU, forward and backward, as one compiled loop each."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .compiled import _arrays, _fast

LANES = 64


class BlockGRU(nn.GRU):
    """`nn.GRU`, one layer, batch first, by way of `BlockedGRU`."""

    def forward(  # type: ignore[override]
        self, x: Tensor, hidden: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """``x [N, L, I], hidden [D, N, H] -> y [N, L, D H], hidden [D, N, H]``, D directions."""
        by_step = x.permute(1, 2, 0).contiguous()  # [L, I, N]
        directions = [""] + ["_reverse"] * self.bidirectional
        outputs, lasts = [], []
        for number, suffix in enumerate(directions):
            weights = [
                getattr(self, f"{name}_l0{suffix}")
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            ]
            if hidden is None:
                first = x.new_zeros(self.hidden_size, x.shape[0])
            else:
                first = hidden[number].T.contiguous()
            y = BlockedGRU.apply(by_step, *weights, first, bool(suffix))
            outputs.append(y)
            lasts.append(y[0 if suffix else -1].T)
        return torch.cat(outputs, dim=1).permute(2, 0, 1), torch.stack(lasts)


class BlockedGRU(torch.autograd.Function):
    """A GRU over all steps of many sequences.

    Takes x ``[L, I, N]`` (steps, inputs, sequences), the weights as `nn.GRU` has them
    (``[3H, I], [3H, H], [3H], [3H]``), the hidden state before the first step ``[H, N]``, and
    whether to go from the last step to the first. Gives the hidden states ``[L, H, N]``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias_ih: Tensor,
        bias_hh: Tensor,
        first: Tensor,
        reverse: bool,
    ) -> Tensor:
        steps, _, count = x.shape
        hidden = weight_hh.shape[1]
        y = x.new_empty(steps, hidden, count)
        # Of every step: reset, update and new gate, and what the reset gate scales of the new one.
        lanes = min(LANES, -(-count // 8) * 8)
        gates = x.new_empty(-(-count // lanes), steps, 4 * hidden, lanes)
        tensors = _arrays(x, weight_ih, weight_hh, bias_ih, bias_hh, first)
        _forward(*tensors, reverse, y.numpy(), gates.numpy())
        ctx.reverse = reverse
        ctx.save_for_backward(x, weight_ih, weight_hh, first, y, gates)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_ih, weight_hh, first, _, _ = ctx.saved_tensors
        weights = (weight_ih, weight_hh, weight_ih[:, 0], weight_hh[:, 0])
        grads = tuple(t.new_zeros(t.shape) for t in (x, *weights, first))
        _backward(*_arrays(grad, *ctx.saved_tensors), ctx.reverse, *_arrays(*grads))
        return *grads, None


@_fast
def _tanh(x):  # type: ignore[no-untyped-def]
    """Rational approximation, right to 3e-7; libm's tanh would keep the loop from vectorising.

    Coefficients as in Eigen's ``ptanh``.
    """
    x = min(np.float32(7.9), max(np.float32(-7.9), x))
    s = x * x
    p = np.float32(-2.76076847742355e-16)
    p = p * s + np.float32(2.00018790482477e-13)
    p = p * s + np.float32(-8.60467152213735e-11)
    p = p * s + np.float32(5.12229709037114e-08)
    p = p * s + np.float32(1.48572235717979e-05)
    p = p * s + np.float32(6.37261928875436e-04)
    p = p * s + np.float32(4.89352455891786e-03)
    q = np.float32(1.19825839466702e-06)
    q = q * s + np.float32(1.18534705686654e-04)
    q = q * s + np.float32(2.26843463243900e-03)
    q = q * s + np.float32(4.89352518554385e-03)
    return x * p / q


@_fast
def _add_product(total, weights, values):  # type: ignore[no-untyped-def]
    """``total [J, lanes] += weights [J, K] @ values [K, lanes]``, four K at a time."""
    lanes = total.shape[1]
    for j in range(weights.shape[0]):
        for k in range(0, weights.shape[1], 4):
            a, b, c, d = weights[j, k], weights[j, k + 1], weights[j, k + 2], weights[j, k + 3]
            for n in range(lanes):
                total[j, n] += (a * values[k, n] + b * values[k + 1, n]) + (
                    c * values[k + 2, n] + d * values[k + 3, n]
                )


@_fast
def _add_outer(total, left, right):  # type: ignore[no-untyped-def]
    """``total [J, K] += left [J, lanes] @ right [K, lanes]^T``, four K at a time."""
    lanes = left.shape[1]
    for j in range(total.shape[0]):
        for k in range(0, total.shape[1], 4):
            a, b, c, d = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            for n in range(lanes):
                a += left[j, n] * right[k, n]
                b += left[j, n] * right[k + 1, n]
                c += left[j, n] * right[k + 2, n]
                d += left[j, n] * right[k + 3, n]
            total[j, k] += a
            total[j, k + 1] += b
            total[j, k + 2] += c
            total[j, k + 3] += d


@_fast
def _take(block, source, start):  # type: ignore[no-untyped-def]
    """Copy as many sequences as a block has from `start` on into it."""
    for i in range(source.shape[0]):
        for n in range(min(block.shape[1], source.shape[1] - start)):
            block[i, n] = source[i, start + n]


@_fast
def _put(block, target, start):  # type: ignore[no-untyped-def]
    """The inverse of `_take`."""
    for i in range(target.shape[0]):
        for n in range(min(block.shape[1], target.shape[1] - start)):
            target[i, start + n] = block[i, n]


@_fast
def _forward(x, w_ih, w_hh, b_ih, b_hh, first, reverse, y, gates):  # type: ignore[no-untyped-def]
    steps, inputs, count = x.shape
    H, lanes = w_hh.shape[1], gates.shape[3]
    half = np.float32(0.5)
    x_now = np.zeros((inputs, lanes), np.float32)
    hidden = np.zeros((H, lanes), np.float32)
    from_input = np.empty((3 * H, lanes), np.float32)
    from_hidden = np.empty((3 * H, lanes), np.float32)
    for start in range(0, count, lanes):
        _take(hidden, first, start)
        for step in range(steps):
            t = steps - 1 - step if reverse else step
            _take(x_now, x[t], start)
            for j in range(3 * H):
                from_input[j] = b_ih[j]
                from_hidden[j] = b_hh[j]
            _add_product(from_input, w_ih, x_now)
            _add_product(from_hidden, w_hh, hidden)
            gates_now = gates[start // lanes, t]
            for k in range(H):
                for n in range(lanes):
                    reset = half + half * _tanh(half * (from_input[k, n] + from_hidden[k, n]))
                    update = half + half * _tanh(
                        half * (from_input[H + k, n] + from_hidden[H + k, n])
                    )
                    scaled = from_hidden[2 * H + k, n]
                    new = _tanh(from_input[2 * H + k, n] + reset * scaled)
                    hidden[k, n] = new + update * (hidden[k, n] - new)
                    gates_now[k, n] = reset
                    gates_now[H + k, n] = update
                    gates_now[2 * H + k, n] = new
                    gates_now[3 * H + k, n] = scaled
            _put(hidden, y[t], start)


@_fast
def _backward(  # type: ignore[no-untyped-def]
    grad, x, w_ih, w_hh, first, y, gates, reverse, dx, dw_ih, dw_hh, db_ih, db_hh, dfirst
):
    steps, inputs, count = x.shape
    H, lanes = w_hh.shape[1], gates.shape[3]
    one = np.float32(1)
    w_ih_transposed = np.ascontiguousarray(w_ih.T)
    w_hh_transposed = np.ascontiguousarray(w_hh.T)
    x_now = np.zeros((inputs, lanes), np.float32)
    before = np.zeros((H, lanes), np.float32)
    dy = np.zeros((H, lanes), np.float32)
    dx_now = np.empty((inputs, lanes), np.float32)
    dhidden = np.empty((H, lanes), np.float32)
    to_input = np.empty((3 * H, lanes), np.float32)  # gradients before the gates' nonlinearities
    to_hidden = np.empty((3 * H, lanes), np.float32)
    for start in range(0, count, lanes):
        dhidden[:] = 0
        dy[:] = 0  # lanes beyond the last sequence thus add nothing to the weights' gradients
        for step in range(steps - 1, -1, -1):
            t = steps - 1 - step if reverse else step
            _take(before, first if step == 0 else y[t + 1 if reverse else t - 1], start)
            _take(x_now, x[t], start)
            gates_now = gates[start // lanes, t]
            _take(dy, grad[t], start)
            for k in range(H):
                for n in range(lanes):
                    reset = gates_now[k, n]
                    update = gates_now[H + k, n]
                    new = gates_now[2 * H + k, n]
                    dh = dhidden[k, n] + dy[k, n]
                    dnew = dh * (one - update) * (one - new * new)
                    dreset = dnew * gates_now[3 * H + k, n] * reset * (one - reset)
                    dupdate = dh * (before[k, n] - new) * update * (one - update)
                    to_input[k, n] = dreset
                    to_input[H + k, n] = dupdate
                    to_input[2 * H + k, n] = dnew
                    to_hidden[k, n] = dreset
                    to_hidden[H + k, n] = dupdate
                    to_hidden[2 * H + k, n] = dnew * reset
                    dhidden[k, n] = dh * update
            dx_now[:] = 0
            _add_product(dx_now, w_ih_transposed, to_input)
            _add_product(dhidden, w_hh_transposed, to_hidden)
            _put(dx_now, dx[t], start)
            _add_outer(dw_ih, to_input, x_now)
            _add_outer(dw_hh, to_hidden, before)
            for j in range(3 * H):
                db_ih[j] += to_input[j].sum()
                db_hh[j] += to_hidden[j].sum()
        _put(dhidden, dfirst, start)
