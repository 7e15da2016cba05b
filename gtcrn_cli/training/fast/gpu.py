"""The network's layers for training on a GPU: the same parameters, the same numbers, less time.

Recurrences walk all their steps in one kernel (`gpu_gru`); batch normalisation by known statistics
is folded into the convolution before it, which saves a pass over memory forward and two backward;
and the dual path keeps its channels last, so that nothing is transposed for either of its GRUs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...network.fusion import Fusion
from ...network.model import TRA, ConvBlock, DualPath, GroupedGRU, GTBlock
from .conv import plain, plain_weight
from .gpu_gru import Walk, WalkedGRU
from .layers import FastFusion, FastGTBlock, of_three_bands


def use_gpu_layers(network: nn.Module) -> None:
    """Let a network on a GPU train faster; it still gives and learns the same."""
    fast = {
        GTBlock: GpuGTBlock,
        ConvBlock: GpuConvBlock,
        TRA: GpuTRA,
        DualPath: GpuDualPath,
        Fusion: FastFusion,
    }
    for module in network.modules():
        module.__class__ = fast.get(type(module), module.__class__)


def convolve_and_normalize(conv: Any, norm: Any, x: Tensor) -> Tensor:
    """``norm(conv(x))``, in one convolution where the statistics are known."""
    return normalize(norm, plain_weight(conv), conv.bias, partial(plain, conv, x))


def normalize(
    norm: Any, weight: Tensor, bias: Tensor, convolution: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """A convolution, by its weights and bias, and its normalisation: folded in where it can be."""
    if norm.training:
        return norm(convolution(weight, bias))
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    bias = norm.bias + (bias - norm.running_mean) * scale
    return convolution(weight * scale[:, None, None, None], bias)


class GpuConvBlock(ConvBlock):
    """`ConvBlock`, its normalisation folded in."""

    def forward(self, x: Tensor) -> Tensor:
        return self.act(convolve_and_normalize(self.conv, self.bn, x))


class GpuGTBlock(FastGTBlock):
    """`GTBlock` likewise."""

    def subbands(self, seen: Tensor) -> Tensor:
        conv: Any = self.point_conv1
        weight = of_three_bands(conv)
        h = normalize(self.point_bn1, weight, conv.bias, partial(F.conv2d, seen, padding=(0, 1)))
        return self.point_act(h)

    def depth(self, h: Tensor) -> Tensor:
        return self.depth_act(convolve_and_normalize(self.depth_conv, self.depth_bn, h))

    def point2(self, h: Tensor) -> Tensor:
        return convolve_and_normalize(self.point_conv2, self.point_bn2, h)


class GpuTRA(TRA):
    """`TRA` whose GRU walks its frames in one kernel."""

    def forward(self, x: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        if hidden is not None:
            return super().forward(x, hidden)
        energy = x.square().mean(dim=-1).transpose(1, 2)  # [B, T, 8]
        B, T, _ = energy.shape
        gru: Any = self.att_gru
        gates = F.linear(energy, gru.weight_ih_l0, gru.bias_ih_l0).flatten(0, 1)[:, None]
        walk = Walk(B, T, 1, T, 0, 1)
        y = WalkedGRU.apply(gates, gru.weight_hh_l0[None], gru.bias_hh_l0[None], walk, False)
        y = y.view(B, T, -1)
        gain = torch.sigmoid(self.att_fc(y)).transpose(1, 2)  # [B, 8, T]
        return x * gain[..., None], y[:, -1]


class GpuDualPath(DualPath):
    """`DualPath` whose GRUs walk bands and frames where they lie, all of a group at once."""

    def forward(self, x: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        if hidden is not None:
            return super().forward(x, hidden)
        B, C, T, bands = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(-1, C)  # of B, T, F
        over_bands = Walk(B * T, bands, 1, bands, 0, 1)
        y = walk_grouped(self.intra_rnn, rows, over_bands)
        y = self.intra_ln(self.intra_fc(y).view(B, T, bands, C))
        rows = rows + y.view(-1, C)
        over_frames = Walk(B * bands, T, bands, T * bands, 1, bands)
        y = walk_grouped(self.inter_rnn, rows, over_frames)
        last = y.view(B, T, bands, C)[:, -1]
        y = self.inter_ln(self.inter_fc(y).view(B, T, bands, C))
        x = rows.view(B, T, bands, C) + y
        return x.permute(0, 3, 1, 2), last


def walk_grouped(grouped: GroupedGRU, rows: Tensor, walk: Walk) -> Tensor:
    """`GroupedGRU` over the rows ``[rows, 16]``: its two GRUs, perhaps both ways, side by side."""
    both_ways = grouped.rnn1.bidirectional
    suffixes = ["_l0", "_l0_reverse"] if both_ways else ["_l0"]
    halves = [
        [torch.cat([getattr(rnn, name + s) for s in suffixes]) for name in ("weight_ih", "bias_ih")]
        for rnn in (grouped.rnn1, grouped.rnn2)
    ]
    weight = torch.block_diag(*(half[0] for half in halves))
    gates = F.linear(rows, weight, torch.cat([half[1] for half in halves]))
    recurrent, bias = (
        torch.stack(
            [getattr(rnn, name + s) for rnn in (grouped.rnn1, grouped.rnn2) for s in suffixes]
        )
        for name in ("weight_hh", "bias_hh")
    )
    y = WalkedGRU.apply(gates.view(len(rows), len(bias), -1), recurrent, bias, walk, both_ways)
    return y.flatten(1)
