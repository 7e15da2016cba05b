"""The network's layers for training on a CPU: the same parameters, the same numbers, less time.

`nn.GRU` on a CPU spends its time between the steps, in thousands of small tensor operations:
GTCRN's recurrences are tiny (4 to 16 hidden units) and long (33 bands, hundreds of frames). Here a
GRU is one compiled loop forward and one backward. Batch normalisation and PReLU, which are bound by
memory, run as one; transposed convolutions, which PyTorch has no fast code for, as plain ones; and
skips are taken without a copy of all of them.

`use_fast_layers` swaps the classes of a network's modules. Parameters, their names and the results
stay. `gpu` has those for a GPU.

In the GRU sequences are the innermost dimension, in blocks of up to `LANES`: every loop vectorises,
and a block's state stays in the first-level cache. Equations and gate order (reset, update, new)
are those of `nn.GRU`.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...network.config import HALF
from ...network.fusion import Fusion, align
from ...network.model import ConvBlock, GTBlock, GTBlockState
from .conv import convolve, plain_weight
from .gru import BlockGRU
from .norm import normalize_and_activate


def use_fast_layers(network: nn.Module, device: str = "cpu") -> None:
    """Let a network train faster on a device; it still gives and learns the same.

    On a GPU without Triton, and on other devices, layers stay as they are.
    """
    kind = torch.device(device).type
    if kind == "cuda" and find_spec("triton"):
        from .gpu import use_gpu_layers

        use_gpu_layers(network)
    if kind != "cpu":
        return
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
        h = self.subbands(seen)
        h = F.pad(h, (0, 0, self.past, 0))
        history = h[:, :, -self.past :]
        h = self.depth(h)
        h = self.point2(h)
        h, hidden = self.tra(h, None)
        shuffled = torch.stack([h, passed], dim=2).flatten(1, 2)
        return shuffled, GTBlockState(history, hidden)

    def subbands(self, seen: Tensor) -> Tensor:
        """The first one, over a band and its neighbours: ``[B, 8, T, F] -> [B, 16, T, F]``."""
        weight, bias = of_three_bands(self.point_conv1), self.point_conv1.bias
        h = F.conv2d(seen, weight, bias, padding=(0, 1))
        return normalize_and_activate(self.point_bn1, self.point_act, h)

    def depth(self, h: Tensor) -> Tensor:
        """The one over time, ``[B, 16, past + T, F] -> [B, 16, T, F]``."""
        return normalize_and_activate(self.depth_bn, self.depth_act, convolve(self.depth_conv, h))

    def point2(self, h: Tensor) -> Tensor:
        """The last one, ``[B, 16, T, F] -> [B, 8, T, F]``."""
        return self.point_bn2(convolve(self.point_conv2, h))


def of_three_bands(conv: Any) -> Tensor:
    """The weights of a 1x1 convolution of each band beside its neighbours, over the bands alone."""
    return plain_weight(conv).reshape(-1, HALF, 1, 3)  # input channel 3c + {lower, self, upper}


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
