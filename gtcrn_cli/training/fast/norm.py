"""Batch normalisation and PReLU in one pass, forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .compiled import _arrays, _fast


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
