"""Skips: what the decoder takes of the encoder, in torch.

Between the two, skips are cached in `SkipCache`'s form: the outputs of encoder levels, and the
input features, each perhaps compressed and in half precision. They live within one call and are
no part of the state. `Fusion` is where a decoder level takes them in. `config.GTCRNConfig` names
all choices. Shapes: ``[B, C, T, F]``; everything happens within a frame.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import BANDS_AT, CHANNELS, FEATURES, INPUT, LEVELS, GTCRNConfig

Skips = dict[int, Tensor]  # by encoder level, or `INPUT`
LARGEST_FLOAT16 = 65504.0


def align(x: Tensor, bands: int) -> Tensor:
    """Interpolate linearly over frequency, between 129, 65 and 33 bands.

    Band k of the smaller number lies where band 2k of the larger one does: the convolutions that
    halve the bands are centred there. So every second band is left out, or put in between two.
    """
    if x.shape[-1] > bands:
        return x[..., ::2]
    if x.shape[-1] < bands:
        doubled = torch.stack([x, x], dim=-1).flatten(-2)
        return (doubled[..., :-1] + doubled[..., 1:]) / 2
    return x


class _RoundedForTraining(torch.autograd.Function):
    """To half precision and back; the gradient passes as it is, half precision would lose it."""

    @staticmethod
    def forward(ctx: object, x: Tensor, dtype: torch.dtype) -> Tensor:
        return x.to(dtype).to(x.dtype)

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def _round_for_training(x: Tensor, dtype: torch.dtype) -> Tensor:
    return _RoundedForTraining.apply(x, dtype)  # type: ignore[no-untyped-call]


class SkipCache(nn.Module):
    """What is cached of an encoder level's output, or of the input features.

    A 1x1 convolution to fewer channels if the config compresses, then half precision if it says
    so. float16 saturates instead of overflowing. Only one level takes the input features; they are
    cached with its 65 bands.
    """

    def __init__(self, config: GTCRNConfig) -> None:
        super().__init__()
        self.sources = config.cached
        self.dtype = getattr(torch, config.skip_dtype)
        self.compress = nn.ModuleDict(
            {
                _name(source): nn.Conv2d(
                    FEATURES if source == INPUT else CHANNELS, config.cached_channels(source), 1
                )
                for source in self.sources
                if config.compresses(source)
            }
        )

    def keep(self, skips: Skips, source: int, x: Tensor) -> None:
        """Put `x` into `skips` if some decoder level will take it."""
        if source not in self.sources:
            return
        if source == INPUT:
            x = align(x, BANDS_AT[0]).contiguous()  # a view would keep all of its bands alive
        if _name(source) in self.compress:
            x = self.compress[_name(source)](x)
        if self.dtype == torch.float16:
            x = x.clamp(-LARGEST_FLOAT16, LARGEST_FLOAT16)
        if self.dtype != torch.float32:
            x = _round_for_training(x, self.dtype) if self.training else x.to(self.dtype)
        skips[source] = x


def _name(source: int) -> str:
    return "input" if source == INPUT else str(source)


class Fusion(nn.Module):
    """A decoder level takes in its skips.

    With d what comes from the level below, e the skip, sigma the sigmoid and W a learned 1x1
    convolution with bias:

    ``add``
        ``e + d``, as published with GTCRN (Rong et al. 2024).
    ``concat``
        ``W [d, e]``: concatenation as in U-Net (Ronneberger et al. 2015), back to 16 channels.
    ``attention``
        ``alpha e + (1 - alpha) d`` with one ``alpha = sigma(W [e, d])`` per band and frame. After
        the attention gates of Oktay et al. 2018 ("Attention U-Net"), which weigh e by one number
        per place; theirs has a hidden layer and concatenates afterwards, ours mixes.
    ``gated``
        The same with an alpha for every channel too: the gated unit of Arevalo et al. 2017 ("Gated
        Multimodal Units"), without its nonlinearity on e and d.
    ``none``
        ``d``.

    Of one skip with all its channels, e is that. Of compressed ones, or of several (as the
    full-scale skips of UNet 3+, Huang et al. 2020), it is ``W [e1, e2, ...]`` after `align`;
    ``concat`` has that W already and takes all of them together.

    Parameters
    ----------
    level
        The encoder level that the decoder level mirrors.
    """

    def __init__(self, config: GTCRNConfig, level: int) -> None:
        super().__init__()
        self.sources = config.sources(level)
        self.last_to_take = set(self.sources).difference(
            *(config.sources(later) for later in LEVELS if later < level)
        )
        self.kind, width = config.kind(level), config.width(level)
        self.restore: nn.Module = nn.Identity()
        if config.restores(level):
            self.restore = nn.Conv2d(width, CHANNELS, 1)
        if self.kind == "concat":
            self.point = nn.Conv2d(CHANNELS + width, CHANNELS, 1)
        if self.kind in ("attention", "gated"):
            self.gate = nn.Conv2d(2 * CHANNELS, 1 if self.kind == "attention" else CHANNELS, 1)

    def forward(self, x: Tensor, skips: Skips) -> Tensor:
        """``x [B, 16, T, F]`` with its skips; the last level to take a skip removes it."""
        if self.kind == "none":
            return x
        taken = []
        for source in self.sources:
            skip = skips.pop(source) if source in self.last_to_take else skips[source]
            taken.append(skip.to(x.dtype))
        bands = x.shape[-1]
        if self.kind == "concat":
            return self.mix(self.point, [x, *taken], bands)
        if isinstance(self.restore, nn.Identity):
            skip = align(taken[0], bands)
        else:
            skip = self.mix(self.restore, taken, bands)
        if self.kind == "add":
            return x + skip
        alpha = torch.sigmoid(self.mix(self.gate, [skip, x], bands))
        return x + alpha * (skip - x)

    def mix(self, conv: nn.Module, parts: list[Tensor], bands: int) -> Tensor:
        """The 1x1 convolution of all parts' channels, each part aligned to so many bands."""
        return conv(torch.cat([align(part, bands) for part in parts], dim=1))
