"""Convolutions as PyTorch has fast code for them, and one for a CPU that it has none for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .compiled import _arrays, _fast


def convolve(conv: Any, x: Tensor) -> Tensor:
    """The layer's convolution by the fastest way there is for its kind."""
    weight = plain_weight(conv)
    if conv.groups == conv.in_channels:
        return Depthwise.apply(x, weight.contiguous(), conv.bias, conv.dilation[0])
    return plain(conv, x, weight, conv.bias)


def plain(conv: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """What a layer does, by a plain convolution with its `plain_weight`, or one made of that.

    A block's padding in time is left to its caller. That of a transposed layer crops all that its
    kernel widens time by, so the plain one has none.
    """
    if isinstance(conv, nn.ConvTranspose2d) and conv.stride[1] == 2:
        return widen(x, weight, bias, conv.groups)
    padding = (0, conv.padding[1])
    return F.conv2d(x, weight, bias, conv.stride, padding, conv.dilation, conv.groups)


def plain_weight(conv: Any) -> Tensor:
    """The weights of the plain convolution that a layer is or holds: ``[out, in / groups, k, k]``.

    A transposed one with stride 1 is a plain one with its kernel turned around. With stride 2 the
    kernel stays as it is, for `widen`.
    """
    if not isinstance(conv, nn.ConvTranspose2d):
        return conv.weight
    groups = conv.groups
    inputs, outputs, *kernel = conv.weight.shape  # `outputs` of a group
    weight = conv.weight.view(groups, inputs // groups, outputs, *kernel).transpose(1, 2)
    weight = weight.reshape(groups * outputs, inputs // groups, *kernel)
    return weight if conv.stride[1] == 2 else weight.flip(2, 3)


def widen(x: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:
    """A transposed convolution (1, 5) with stride 2: even and odd bands from plain ones."""
    taps = F.pad(weight, (0, 1))[..., [4, 2, 0, 5, 3, 1]]  # even, odd; over bands i-1, i, i+1
    outputs, inputs = weight.shape[:2]
    taps = taps.view(outputs, inputs, 2, 3).transpose(1, 2).reshape(2 * outputs, inputs, 1, 3)
    y = F.conv2d(x, taps, bias.repeat_interleave(2), padding=(0, 1), groups=groups)
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
