"""A GRU on a GPU, forward and backward, as one Triton kernel each.

cuDNN starts several kernels for every step of a recurrence; GTCRN's are tiny (4 to 16 hidden units)
and long (hundreds of frames), so that nearly all of a training step would be their overhead. Here a
program keeps the state of a few sequences in registers and walks all steps of them.

Equations and gate order (reset, update, new) are those of `nn.GRU`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

PRODUCTS = 256  # of one gate in a program: sequences x hidden units x hidden units


class Walk(NamedTuple):
    """Where the sequences lie in the rows of a tensor, and how they go on.

    Sequence n begins at row ``n // inner * outer_rows + n % inner * inner_rows``; from one step to
    the next it moves by `step_rows`.
    """

    sequences: int
    steps: int
    inner: int
    outer_rows: int
    inner_rows: int
    step_rows: int


class WalkedGRU(torch.autograd.Function):
    """Several GRUs side by side, each over all steps of many sequences, from a state of zeros.

    Takes what the inputs add to the gates, ``[rows, G, 3H]`` (G GRUs, H hidden units each), the
    recurrent weights ``[G, 3H, H]`` and biases ``[G, 3H]``, the `Walk`, and whether every second
    GRU goes from the last step to the first. Gives the hidden states ``[rows, G, H]``.
    """

    @staticmethod
    def forward(
        ctx: Any, gates_in: Tensor, weight: Tensor, bias: Tensor, walk: Walk, both_ways: bool
    ) -> Tensor:
        gates_in, weight, bias = (t.contiguous() for t in (gates_in, weight, bias))
        rows, groups, width = gates_in.shape
        hidden = width // 3
        y = gates_in.new_empty(rows, groups, hidden)
        gates = gates_in.new_empty(rows, groups, 4 * hidden)
        block = PRODUCTS // hidden**2
        programs = triton.cdiv(walk.sequences, block)
        _forward[(programs, groups)](
            gates_in, weight, bias, y, gates, *walk,
            GROUPS=groups, HIDDEN=hidden, BLOCK=block, BOTH_WAYS=both_ways, num_warps=1,
        )  # fmt: skip
        ctx.save_for_backward(weight, y, gates)
        ctx.walk, ctx.both_ways = walk, both_ways
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weight, y, gates = ctx.saved_tensors
        rows, groups, hidden = y.shape
        block = PRODUCTS // hidden**2
        programs = triton.cdiv(ctx.walk.sequences, block)
        dgates = y.new_empty(rows, groups, 3 * hidden)
        dweight = y.new_empty(programs, groups, 3 * hidden, hidden)
        dbias = y.new_empty(programs, groups, 3 * hidden)
        _backward[(programs, groups)](
            grads[0].contiguous(), weight, y, gates, dgates, dweight, dbias, *ctx.walk,
            GROUPS=groups, HIDDEN=hidden, BLOCK=block, BOTH_WAYS=ctx.both_ways, num_warps=1,
        )  # fmt: skip
        return dgates, dweight.sum(0), dbias.sum(0), None, None


@triton.jit
def _tanh(x):  # type: ignore[no-untyped-def]
    return 2 * tl.sigmoid(2 * x) - 1


@triton.jit  # type: ignore[untyped-decorator]
def _forward(  # type: ignore[no-untyped-def]
    gates_in, weight, bias, y, gates, count, steps, inner, outer_rows, inner_rows, step_rows,
    GROUPS: tl.constexpr, HIDDEN: tl.constexpr, BLOCK: tl.constexpr, BOTH_WAYS: tl.constexpr,
):  # fmt: skip
    group = tl.program_id(1)
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    k = tl.arange(0, HIDDEN)
    real = (n < count)[:, None]
    row = ((n // inner) * outer_rows + (n % inner) * inner_rows).to(tl.int64)
    move = step_rows
    if BOTH_WAYS:
        backwards = group % 2
        row += backwards * (steps - 1) * step_rows
        move = step_rows * (1 - 2 * backwards)
    # [from, to], so that a sum over the first of both is what arrives
    w = weight + group * 3 * HIDDEN * HIDDEN + k[None, :] * HIDDEN + k[:, None]
    w_reset = tl.load(w)[None]
    w_update = tl.load(w + HIDDEN * HIDDEN)[None]
    w_new = tl.load(w + 2 * HIDDEN * HIDDEN)[None]
    b = bias + group * 3 * HIDDEN + k
    b_reset = tl.load(b)[None]
    b_update = tl.load(b + HIDDEN)[None]
    b_new = tl.load(b + 2 * HIDDEN)[None]
    h = tl.zeros([BLOCK, HIDDEN], tl.float32)
    at = (row[:, None] * GROUPS + group) * HIDDEN + k[None, :]
    per_row = GROUPS * HIDDEN
    source = gates_in + (row[:, None] * GROUPS + group) * 3 * HIDDEN + k[None, :]
    i_reset = tl.load(source, real, 0.0)
    i_update = tl.load(source + HIDDEN, real, 0.0)
    i_new = tl.load(source + 2 * HIDDEN, real, 0.0)
    for step in range(steps):
        source += move * per_row * 3
        # The next step's inputs are fetched while this one is computed.
        wanted = real & (n * 0 + step + 1 < steps)[:, None]
        next_reset = tl.load(source, wanted, 0.0)
        next_update = tl.load(source + HIDDEN, wanted, 0.0)
        next_new = tl.load(source + 2 * HIDDEN, wanted, 0.0)
        before = h[:, :, None]
        reset = tl.sigmoid(i_reset + b_reset + tl.sum(before * w_reset, 1))
        update = tl.sigmoid(i_update + b_update + tl.sum(before * w_update, 1))
        scaled = b_new + tl.sum(before * w_new, 1)
        new = _tanh(i_new + reset * scaled)
        h = new + update * (h - new)
        tl.store(y + at, h, real)
        kept = gates + (at - k[None, :]) * 4 + k[None, :]
        tl.store(kept, reset, real)
        tl.store(kept + HIDDEN, update, real)
        tl.store(kept + 2 * HIDDEN, new, real)
        tl.store(kept + 3 * HIDDEN, scaled, real)
        at += move * per_row
        i_reset, i_update, i_new = next_reset, next_update, next_new


@triton.jit  # type: ignore[untyped-decorator]
def _backward(  # type: ignore[no-untyped-def]
    grad, weight, y, gates, dgates, dweight, dbias,
    count, steps, inner, outer_rows, inner_rows, step_rows,
    GROUPS: tl.constexpr, HIDDEN: tl.constexpr, BLOCK: tl.constexpr, BOTH_WAYS: tl.constexpr,
):  # fmt: skip
    group = tl.program_id(1)
    n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    k = tl.arange(0, HIDDEN)
    real = (n < count)[:, None]
    row = ((n // inner) * outer_rows + (n % inner) * inner_rows).to(tl.int64)
    move = step_rows
    if BOTH_WAYS:
        backwards = group % 2
        row += (1 - backwards) * (steps - 1) * step_rows
        move = step_rows * (1 - 2 * backwards)
    else:
        row += (steps - 1) * step_rows
    w = weight + group * 3 * HIDDEN * HIDDEN + k[:, None] * HIDDEN + k[None, :]
    w_reset = tl.load(w)[None]
    w_update = tl.load(w + HIDDEN * HIDDEN)[None]
    w_new = tl.load(w + 2 * HIDDEN * HIDDEN)[None]
    dw_reset = tl.zeros([BLOCK, HIDDEN, HIDDEN], tl.float32)
    dw_update = tl.zeros([BLOCK, HIDDEN, HIDDEN], tl.float32)
    dw_new = tl.zeros([BLOCK, HIDDEN, HIDDEN], tl.float32)
    db_reset = tl.zeros([BLOCK, HIDDEN], tl.float32)
    db_update = tl.zeros([BLOCK, HIDDEN], tl.float32)
    db_new = tl.zeros([BLOCK, HIDDEN], tl.float32)
    dh = tl.zeros([BLOCK, HIDDEN], tl.float32)
    at = (row[:, None] * GROUPS + group) * HIDDEN + k[None, :]
    per_row = GROUPS * HIDDEN
    for step in range(steps):
        kept = gates + (at - k[None, :]) * 4 + k[None, :]
        reset = tl.load(kept, real, 0.0)
        update = tl.load(kept + HIDDEN, real, 0.0)
        new = tl.load(kept + 2 * HIDDEN, real, 0.0)
        scaled = tl.load(kept + 3 * HIDDEN, real, 0.0)
        follows = real & (n * 0 + step + 1 < steps)[:, None]
        before = tl.load(y + at - move * per_row, follows, 0.0)
        dh += tl.load(grad + at, real, 0.0)
        dnew = dh * (1 - update) * (1 - new * new)
        dreset = dnew * scaled * reset * (1 - reset)
        dupdate = dh * (before - new) * update * (1 - update)
        dscaled = dnew * reset
        target = dgates + (at - k[None, :]) * 3 + k[None, :]
        tl.store(target, dreset, real)
        tl.store(target + HIDDEN, dupdate, real)
        tl.store(target + 2 * HIDDEN, dnew, real)
        dw_reset += dreset[:, :, None] * before[:, None, :]
        dw_update += dupdate[:, :, None] * before[:, None, :]
        dw_new += dscaled[:, :, None] * before[:, None, :]
        db_reset += dreset
        db_update += dupdate
        db_new += dscaled
        back = dreset[:, :, None] * w_reset + dupdate[:, :, None] * w_update
        back += dscaled[:, :, None] * w_new
        dh = dh * update + tl.sum(back, 1)
        at -= move * per_row
    out = (tl.program_id(0) * GROUPS + group) * 3 * HIDDEN
    to = dweight + out * HIDDEN + k[:, None] * HIDDEN + k[None, :]
    tl.store(to, tl.sum(dw_reset, 0))
    tl.store(to + HIDDEN * HIDDEN, tl.sum(dw_update, 0))
    tl.store(to + 2 * HIDDEN * HIDDEN, tl.sum(dw_new, 0))
    tl.store(dbias + out + k, tl.sum(db_reset, 0))
    tl.store(dbias + out + HIDDEN + k, tl.sum(db_update, 0))
    tl.store(dbias + out + 2 * HIDDEN + k, tl.sum(db_new, 0))
