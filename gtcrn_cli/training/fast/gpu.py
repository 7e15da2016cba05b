"""The network's layers for training on a GPU: the same parameters, the same numbers, less time.

Recurrences walk all their steps in one kernel (`gpu_gru`); batch normalisation by known statistics
is folded into the convolution before it, which saves a pass over memory forward and two backward;
and the dual path keeps its channels last, so that nothing is transposed for either of its GRUs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...network.fusion import Fusion
from ...network.model import HALF, TRA, ConvBlock, DualPath, GroupedGRU, GTBlock, GTBlockState
from .gpu_gru import Walk, WalkedGRU
from .layers import FastFusion


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
    """``norm(conv(x))``, in one convolution where the statistics are known.

    A block's padding in time is left to its caller.
    """
    weight = plain_weight(conv)
    bias = conv.bias
    if not norm.training:
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        weight = weight * scale[:, None, None, None]
        bias = norm.bias + (bias - norm.running_mean) * scale
    if isinstance(conv, nn.ConvTranspose2d) and conv.stride[1] == 2:
        h = widen(x, weight, bias, conv.groups)
    else:
        padding = (0, conv.padding[1])
        h = F.conv2d(x, weight, bias, conv.stride, padding, conv.dilation, conv.groups)
    return norm(h) if norm.training else h


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


class GpuConvBlock(ConvBlock):
    """`ConvBlock`, its normalisation folded in."""

    def forward(self, x: Tensor) -> Tensor:
        return self.act(convolve_and_normalize(self.conv, self.bn, x))


class GpuGTBlock(GTBlock):
    """`GTBlock` likewise; neighbour bands and 1x1 convolution are a convolution of three bands."""

    def forward(self, x: Tensor, state: GTBlockState | None) -> tuple[Tensor, GTBlockState]:
        if state is not None:
            return super().forward(x, state)
        seen, passed = x.chunk(2, dim=1)  # [B, 8, T, F] each
        h = self.point_act(self._subbands(seen))
        h = F.pad(h, (0, 0, self.past, 0))
        history = h[:, :, -self.past :]
        h = self.depth_act(convolve_and_normalize(self.depth_conv, self.depth_bn, h))
        h = convolve_and_normalize(self.point_conv2, self.point_bn2, h)
        h, hidden = self.tra(h, None)
        shuffled = torch.stack([h, passed], dim=2).flatten(1, 2)
        return shuffled, GTBlockState(history, hidden)

    def _subbands(self, seen: Tensor) -> Tensor:
        conv: Any = self.point_conv1
        norm: Any = self.point_bn1
        # [16, 24, 1, 1], input channel 3c + {lower, self, upper}
        weight = plain_weight(conv).reshape(-1, HALF, 1, 3)
        if norm.training:
            return norm(F.conv2d(seen, weight, conv.bias, padding=(0, 1)))
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        bias = norm.bias + (conv.bias - norm.running_mean) * scale
        return F.conv2d(seen, weight * scale[:, None, None, None], bias, padding=(0, 1))


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
