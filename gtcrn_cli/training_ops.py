"""The network's layers for training on a CPU: the same parameters, the same numbers, less time.

`nn.GRU` on a CPU spends its time between the steps, in thousands of small tensor operations:
GTCRN's recurrences are tiny (4 to 16 hidden units) and long (33 bands, hundreds of frames). Here a
GRU is one compiled loop forward and one backward. Batch normalisation and PReLU, which are bound by
memory, run as one; transposed convolutions, which PyTorch has no fast code for, as plain ones; and
skips are taken without a copy of all of them.

`speed_up` swaps the classes of a network's modules. Parameters, their names and the results stay.

In the GRU sequences are the innermost dimension, in blocks of up to `LANES`: every loop vectorises,
and a block's state stays in the first-level cache. Equations and gate order (reset, update, new)
are those of `nn.GRU`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from .network.fusion import Fusion, align
from .network.model import HALF, ConvBlock, GTBlock, GTBlockState

LANES = 64

_Array = NDArray[np.float32]
_fast = numba.njit(fastmath=True, nogil=True, cache=True, error_model="numpy")


def speed_up(network: nn.Module) -> None:
    """Let a network on the CPU train faster; it still gives and learns the same."""
    fast = {
        nn.GRU: BlockGRU,
        GTBlock: FastGTBlock,
        ConvBlock: FastConvBlock,
        Fusion: FastFusion,
    }
    for module in network.modules():
        module.__class__ = fast.get(type(module), module.__class__)


class FastConvBlock(ConvBlock):
    """`ConvBlock` without transposed convolutions, normalisation and PReLU in one."""

    def forward(self, x: Tensor) -> Tensor:
        h = convolve(self.conv, x)
        if isinstance(self.act, nn.PReLU):
            return normalize_and_activate(self.bn, self.act, h)
        return self.act(self.bn(h))


class FastGTBlock(GTBlock):
    """`GTBlock` likewise; neighbour bands and 1x1 convolution are a convolution of three bands."""

    def forward(self, x: Tensor, state: GTBlockState | None) -> tuple[Tensor, GTBlockState]:
        if state is not None:
            return super().forward(x, state)
        seen, passed = x.chunk(2, dim=1)  # [B, 8, T, F] each
        point1 = self.point_conv1.weight.flatten(1)
        if isinstance(self.point_conv1, nn.ConvTranspose2d):
            point1 = point1.T  # [16, 24], input channel 3c + {lower, self, upper}
        h = F.conv2d(seen, point1.reshape(-1, HALF, 1, 3), self.point_conv1.bias, padding=(0, 1))
        h = normalize_and_activate(self.point_bn1, self.point_act, h)
        h = F.pad(h, (0, 0, self.past, 0))
        history = h[:, :, -self.past :]
        h = normalize_and_activate(self.depth_bn, self.depth_act, convolve(self.depth_conv, h))
        h = self.point_bn2(convolve(self.point_conv2, h))
        h, hidden = self.tra(h, None)
        shuffled = torch.stack([h, passed], dim=2).flatten(1, 2)
        return shuffled, GTBlockState(history, hidden)


class FastFusion(Fusion):
    """`Fusion` whose 1x1 convolutions take skip after skip.

    Skips with fewer bands are interpolated after the convolution, which is the same: it acts on
    channels, `align` on bands, both linearly.
    """

    def mix(self, conv: Any, parts: list[Tensor], bands: int) -> Tensor:
        B, _, T, _ = parts[0].shape
        outputs = conv.out_channels
        weights = conv.weight.flatten(1).split([part.shape[1] for part in parts], dim=1)
        sums: dict[int, Tensor] = {}
        for part, weight in zip(parts, weights, strict=True):
            if part.shape[-1] > bands:
                part = align(part, bands)
            width = part.shape[-1]
            so_far = sums.get(width, part.new_zeros(1, 1, 1))
            sums[width] = torch.baddbmm(so_far, weight.expand(B, *weight.shape), part.flatten(2))
        mixed = [align(y.view(B, outputs, T, width), bands) for width, y in sums.items()]
        return sum(mixed[1:], mixed[0] + conv.bias[:, None, None])


def convolve(conv: Any, x: Tensor) -> Tensor:
    """The layer's convolution by the fastest way there is for its kind."""
    if isinstance(conv, nn.ConvTranspose2d):
        if conv.stride[1] == 2:
            return widen(conv, x)
        # With stride 1 a transposed convolution is a plain one, with its kernel turned around.
        # Its padding here crops all that the kernel widens time by, so the plain one has none.
        weight = conv.weight.flip(2, 3)
    else:
        weight = conv.weight
    if conv.groups == conv.in_channels:
        return Depthwise.apply(x, weight.contiguous(), conv.bias, conv.dilation[0])
    if isinstance(conv, nn.ConvTranspose2d):
        weight = weight.transpose(0, 1)
    return F.conv2d(x, weight, conv.bias, conv.stride, (0, conv.padding[1]), groups=conv.groups)


def widen(conv: Any, x: Tensor) -> Tensor:
    """A transposed convolution (1, 5) with stride 2: even and odd bands from plain ones."""
    inputs, outputs, groups = conv.in_channels, conv.out_channels, conv.groups
    taps = F.pad(conv.weight, (0, 1))[..., [4, 2, 0, 5, 3, 1]]  # even, odd; over bands i-1, i, i+1
    taps = taps.view(groups, inputs // groups, outputs // groups, 2, 3)
    weight = taps.permute(0, 2, 3, 1, 4).reshape(2 * outputs, inputs // groups, 1, 3)
    y = F.conv2d(x, weight, conv.bias.repeat_interleave(2), padding=(0, 1), groups=groups)
    B, _, T, bands = y.shape
    y = y.view(B, outputs, 2, T, bands).permute(0, 1, 3, 4, 2)
    return y.reshape(B, outputs, T, 2 * bands)[..., :-1]


class Depthwise(torch.autograd.Function):
    """A (3, 3) convolution of each channel, dilated in time, padded by a band but not in time.

    ``[B, C, T + 2 dilation, F] -> [B, C, T, F]``
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
        ctx.dilation = dilation
        ctx.save_for_backward(x, weight)
        B, C, T, bands = x.shape
        y = x.new_empty(B, C, T - 2 * dilation, bands)
        _depthwise(*_arrays(x, weight, bias), dilation, y.numpy())
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grads = torch.empty_like(x), torch.empty_like(weight), weight.new_empty(len(weight))
        _depthwise_backward(*_arrays(grad, x, weight), ctx.dilation, *_arrays(*grads))
        return *grads, None


def _arrays(*tensors: Tensor) -> list[_Array]:
    """Tensors as contiguous arrays; those that are contiguous share their memory."""
    return [t.detach().contiguous().numpy() for t in tensors]


@_fast
def _widened(plane, wide):  # type: ignore[no-untyped-def]
    """Copy ``[T, F]`` to a flat array whose rows have a zero on both sides."""
    T, bands = plane.shape
    for t in range(T):
        start = t * (bands + 2) + 1
        wide[start - 1] = 0
        for f in range(bands):
            wide[start + f] = plane[t, f]
        wide[start + bands] = 0


@_fast
def _taps(wide, w, offset, step, length, out):  # type: ignore[no-untyped-def]
    """``out[i] = sum of w[j, k] wide[i + offset + j step + k]``, nine taps, one long loop."""
    first, second, third = wide[offset:], wide[offset + step :], wide[offset + 2 * step :]
    for i in range(length):
        out[i] = (
            (w[0, 0] * first[i] + w[0, 1] * first[i + 1] + w[0, 2] * first[i + 2])
            + (w[1, 0] * second[i] + w[1, 1] * second[i + 1] + w[1, 2] * second[i + 2])
            + (w[2, 0] * third[i] + w[2, 1] * third[i + 1] + w[2, 2] * third[i + 2])
        )


@_fast
def _depthwise(x, weight, bias, dilation, y):  # type: ignore[no-untyped-def]
    B, C, T, bands = y.shape
    row = bands + 2
    wide = np.zeros((T + 2 * dilation) * row + 4, np.float32)
    out = np.empty(T * row, np.float32)
    for b in range(B):
        for c in range(C):
            _widened(x[b, c], wide)
            _taps(wide, weight[c, 0], 0, dilation * row, T * row, out)
            for t in range(T):
                for f in range(bands):
                    y[b, c, t, f] = out[t * row + f] + bias[c]


@_fast
def _depthwise_backward(grad, x, weight, dilation, dx, dweight, dbias):  # type: ignore[no-untyped-def]
    B, C, T, bands = grad.shape
    row, past = bands + 2, 2 * dilation
    wide = np.zeros((T + past) * row + 4, np.float32)
    # The gradient, with silence before and after: its correlation with the turned kernel is dx.
    outer = np.zeros((T + 2 * past) * row + 4, np.float32)
    out = np.empty((T + past) * row, np.float32)
    turned = np.empty((3, 3), np.float32)
    for c in range(C):
        turned[:] = weight[c, 0, ::-1, ::-1]
        dweight[c] = 0
        dbias[c] = 0
        for b in range(B):
            _widened(x[b, c], wide)
            _widened(grad[b, c], outer[past * row :])
            _taps(outer, turned, 0, dilation * row, (T + past) * row, out)
            for t in range(T + past):
                for f in range(bands):
                    dx[b, c, t, f] = out[t * row + f]
            centre = outer[past * row + 1 :]
            for j in range(3):
                shifted = wide[j * dilation * row :]
                left, middle, right = np.float32(0), np.float32(0), np.float32(0)
                for i in range(T * row - 2):
                    left += centre[i] * shifted[i]
                    middle += centre[i] * shifted[i + 1]
                    right += centre[i] * shifted[i + 2]
                dweight[c, 0, j, 0] += left
                dweight[c, 0, j, 1] += middle
                dweight[c, 0, j, 2] += right
            total = np.float32(0)
            for i in range(T * row - 2):
                total += centre[i]
            dbias[c] += total


def normalize_and_activate(norm: Any, act: nn.PReLU, x: Tensor) -> Tensor:
    """``act(norm(x))``; in training by the statistics of the batch, and moves the running ones."""
    known = (norm.running_mean, norm.running_var)
    y, mean, variance = NormPReLU.apply(
        x, norm.weight, norm.bias, act.weight, *known, norm.training, norm.eps
    )
    if norm.training:
        with torch.no_grad():
            norm.num_batches_tracked += 1
            count = x.numel() / x.shape[1]
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)
    return y


class NormPReLU(torch.autograd.Function):
    """Batch normalisation, then PReLU with one slope: ``[B, C, ...]``.

    Mean and variance are measured here, or are those given; they are returned, too.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        slope: Tensor,
        mean: Tensor,
        variance: Tensor,
        measure: bool,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = x.contiguous()
        y, mean, variance = torch.empty_like(x), mean.clone(), variance.clone()
        _norm_prelu(
            *_arrays(x.flatten(2), weight, bias, slope),
            measure,
            np.float32(eps),
            *_arrays(y.flatten(2), mean, variance),
        )
        ctx.measured, ctx.eps = measure, eps
        ctx.save_for_backward(x, weight, bias, slope, mean, variance)
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *others = ctx.saved_tensors
        found = tuple(torch.empty_like(t) for t in (x, *others[:3]))
        _norm_prelu_backward(
            *_arrays(grads[0].contiguous().flatten(2), x.flatten(2), *others),
            ctx.measured,
            np.float32(ctx.eps),
            *_arrays(found[0].flatten(2), *found[1:]),
        )
        return *found, None, None, None, None


@_fast
def _norm_prelu(  # type: ignore[no-untyped-def]
    x, weight, bias, slope, measure, eps, y, mean, variance
):
    B, C, N = x.shape
    for c in range(C):
        if measure:
            total, square = 0.0, 0.0
            for b in range(B):
                row = x[b, c]
                part, part_square = np.float32(0), np.float32(0)
                for n in range(N):
                    part += row[n]
                    part_square += row[n] * row[n]
                total += part
                square += part_square
            mean[c] = total / (B * N)
            variance[c] = max(0.0, square / (B * N) - (total / (B * N)) ** 2)
        scale = weight[c] / np.sqrt(variance[c] + eps)
        shift = bias[c] - mean[c] * scale
        below = slope[0]
        for b in range(B):
            row, out = x[b, c], y[b, c]
            for n in range(N):
                z = row[n] * scale + shift
                out[n] = max(z, np.float32(0)) + below * min(z, np.float32(0))


@_fast
def _norm_prelu_backward(  # type: ignore[no-untyped-def]
    grad, x, weight, bias, slope, mean, variance, measured, eps, dx, dweight, dbias, dslope
):
    B, C, N = x.shape
    below = slope[0]
    zero, one = np.float32(0), np.float32(1)
    slope_total = 0.0
    for c in range(C):
        inverse = one / np.sqrt(variance[c] + eps)
        scale = weight[c] * inverse
        shift = bias[c] - mean[c] * scale
        centre = mean[c]
        total, product = 0.0, 0.0  # of the gradient after normalisation, and of it times its input
        for b in range(B):
            row, g = x[b, c], grad[b, c]
            part, part_product, part_slope = zero, zero, zero
            for n in range(N):
                z = row[n] * scale + shift
                gz = g[n] if z > zero else g[n] * below
                part += gz
                part_product += gz * (row[n] - centre)
                part_slope += g[n] * min(z, zero)
            total += part
            product += part_product
            slope_total += part_slope
        dbias[c] = total
        dweight[c] = product * inverse
        mean_gradient, mean_product = zero, zero
        if measured:  # then they depend on the input, too
            mean_gradient = np.float32(total / (B * N))
            mean_product = np.float32(product / (B * N)) * inverse * inverse
        for b in range(B):
            row, g, out = x[b, c], grad[b, c], dx[b, c]
            for n in range(N):
                z = row[n] * scale + shift
                gz = g[n] if z > zero else g[n] * below
                out[n] = scale * (gz - mean_gradient - (row[n] - centre) * mean_product)
    dslope[0] = slope_total


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
