"""GTCRN in torch: one causal network for training, files and live use.

Rong et al., "GTCRN: A Speech Enhancement Model Requiring Ultralow Computational Resources",
ICASSP 2024. Every module that remembers anything follows one rule, the contract of `nn.GRU`:
``(x, state | None) -> (y, new state)``. ``None`` means that the stream starts here, in silence. So
the same definition runs on a whole utterance (training), many frames (files) or one (live).

Shapes: B batch, C channels, T frames, F bands (or bins). Module names are those of the published
checkpoints, which therefore load as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .checkpoint import Checkpoint
from .config import (
    BINS,
    CHANNELS,
    DEEP_BANDS,
    DILATIONS,
    ERB_BANDS,
    FEATURES,
    HALF,
    INPUT,
    LEVELS,
    LOW_BINS,
    SAMPLE_RATE,
    WINDOW,
    GTCRNConfig,
)
from .fusion import Fusion, SkipCache, Skips


class GTBlockState(NamedTuple):
    """What a grouped temporal block remembers."""

    history: Tensor  # [B, 16, 2 * dilation, 33] the last inputs of the depthwise convolution
    hidden: Tensor  # [B, 16] of the attention GRU


class GTCRNState(NamedTuple):
    """All that the network remembers of a batch of streams; B comes first in every tensor."""

    encoder: tuple[GTBlockState, ...]  # levels 2, 3, 4
    dual_path: tuple[Tensor, ...]  # [B, 33, 16] inter-frame hidden of each dual path
    decoder: tuple[GTBlockState, ...]  # levels 0, 1, 2


def erb_filterbank() -> np.ndarray:
    """Triangular filters over bins 65-256, centred at equal steps of the ERB-rate scale.

    The scale is ``21.4 log10(1 + 0.00437 f)`` (Glasberg & Moore 1990), f in Hz. Centres are rounded
    to bins, neighbours meet at zero, so that every column sums to one.

    Returns
    -------
    float32 array ``[64, 192]``, bands x bins.
    """
    bin_hz = SAMPLE_RATE / WINDOW
    edges_hz = np.array([LOW_BINS * bin_hz, SAMPLE_RATE / 2])
    lowest, highest = 21.4 * np.log10(1 + 0.00437 * edges_hz)
    centres_hz = (10 ** (np.linspace(lowest, highest, ERB_BANDS) / 21.4) - 1) / 0.00437
    centres = np.round(centres_hz / bin_hz)
    bins = np.arange(LOW_BINS, BINS)
    hats = [np.interp(bins, centres, peak) for peak in np.eye(ERB_BANDS)]
    return np.array(hats, np.float32)


class ERB(nn.Module):
    """Between 257 bins and 129 bands: the low ones pass, the high ones are pooled. Not learned."""

    def __init__(self) -> None:
        super().__init__()
        high_bins = BINS - LOW_BINS
        self.erb_fc = nn.Linear(high_bins, ERB_BANDS, bias=False)
        self.ierb_fc = nn.Linear(ERB_BANDS, high_bins, bias=False)
        bank = torch.from_numpy(erb_filterbank())
        self.erb_fc.weight = nn.Parameter(bank, requires_grad=False)
        self.ierb_fc.weight = nn.Parameter(bank.T.contiguous(), requires_grad=False)

    def compress(self, x: Tensor) -> Tensor:
        """``[..., 257] -> [..., 129]``"""
        return torch.cat([x[..., :LOW_BINS], self.erb_fc(x[..., LOW_BINS:])], dim=-1)

    def expand(self, x: Tensor) -> Tensor:
        """``[..., 129] -> [..., 257]``"""
        return torch.cat([x[..., :LOW_BINS], self.ierb_fc(x[..., LOW_BINS:])], dim=-1)


def with_neighbours(x: Tensor) -> Tensor:
    """Subband feature extraction: each channel beside its lower and upper neighbour band.

    ``[B, C, T, F] -> [B, 3C, T, F]``, channel order ``3c + {lower, self, upper}``, zeros beyond
    the edges.
    """
    padded = F.pad(x, (1, 1))
    return torch.stack([padded[..., :-2], x, padded[..., 2:]], dim=2).flatten(1, 2)


class ConvBlock(nn.Module):
    """Convolution that halves the bands (transposed: doubles them), one frame at a time."""

    def __init__(
        self, inputs: int, outputs: int, groups: int, act: nn.Module, transposed: bool = False
    ) -> None:
        super().__init__()
        conv = nn.ConvTranspose2d if transposed else nn.Conv2d
        self.conv = conv(inputs, outputs, (1, 5), stride=(1, 2), padding=(0, 2), groups=groups)
        self.bn = nn.BatchNorm2d(outputs)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class TRA(nn.Module):
    """Temporal recurrent attention: scales each channel by what its energy did so far."""

    def __init__(self) -> None:
        super().__init__()
        self.att_gru = nn.GRU(HALF, CHANNELS, batch_first=True)
        self.att_fc = nn.Linear(CHANNELS, HALF)

    def forward(self, x: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        energy = x.square().mean(dim=-1).transpose(1, 2)  # [B, T, 8]
        y, last = self.att_gru(energy, None if hidden is None else hidden[None])  # [B, T, 16]
        gain = torch.sigmoid(self.att_fc(y)).transpose(1, 2)  # [B, 8, T]
        return x * gain[..., None], last[0]


class GTBlock(nn.Module):
    """Grouped temporal block: half of the channels see the past, the other half pass.

    The published decoder keeps these convolutions as transposed ones. With stride 1 that is another
    way to write a convolution; it is kept (``transposed``) so that one checkpoint fits both.
    """

    def __init__(self, dilation: int, transposed: bool = False) -> None:
        super().__init__()
        self.past = 2 * dilation  # frames that a kernel of 3 reaches back
        conv = nn.ConvTranspose2d if transposed else nn.Conv2d
        # A transposed convolution widens its input by `past` frames; padding crops it instead.
        padding = (self.past if transposed else 0, 1)
        self.point_conv1 = conv(3 * HALF, CHANNELS, 1)
        self.point_bn1 = nn.BatchNorm2d(CHANNELS)
        self.point_act = nn.PReLU()
        self.depth_conv = conv(
            CHANNELS, CHANNELS, 3, padding=padding, dilation=(dilation, 1), groups=CHANNELS
        )
        self.depth_bn = nn.BatchNorm2d(CHANNELS)
        self.depth_act = nn.PReLU()
        self.point_conv2 = conv(CHANNELS, HALF, 1)
        self.point_bn2 = nn.BatchNorm2d(HALF)
        self.tra = TRA()

    def forward(self, x: Tensor, state: GTBlockState | None) -> tuple[Tensor, GTBlockState]:
        seen, passed = x.chunk(2, dim=1)  # [B, 8, T, F] each
        h = self.point_act(self.point_bn1(self.point_conv1(with_neighbours(seen))))  # [B, 16, T, F]
        if state is None:
            h = F.pad(h, (0, 0, self.past, 0))
        else:
            h = torch.cat([state.history, h], dim=2)  # [B, 16, past + T, F]
        history = h[:, :, -self.past :]
        h = self.depth_act(self.depth_bn(self.depth_conv(h)))  # [B, 16, T, F]
        h = self.point_bn2(self.point_conv2(h))  # [B, 8, T, F]
        h, hidden = self.tra(h, None if state is None else state.hidden)
        shuffled = torch.stack([h, passed], dim=2).flatten(1, 2)  # [B, 16, T, F] h0 p0 h1 p1 ...
        return shuffled, GTBlockState(history, hidden)


class GroupedGRU(nn.Module):
    """Two GRUs, each on its half of the channels."""

    def __init__(self, hidden: int, bidirectional: bool = False) -> None:
        super().__init__()
        self.rnn1 = nn.GRU(HALF, hidden, batch_first=True, bidirectional=bidirectional)
        self.rnn2 = nn.GRU(HALF, hidden, batch_first=True, bidirectional=bidirectional)

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``x [N, L, 16], hidden [N, 16] -> y [N, L, 16], hidden [N, 16]`` over L steps."""
        x1, x2 = x.chunk(2, dim=-1)
        h1, h2 = (None, None) if hidden is None else hidden[None].contiguous().chunk(2, dim=-1)
        y1, h1 = self.rnn1(x1, None if h1 is None else h1.contiguous())
        y2, h2 = self.rnn2(x2, None if h2 is None else h2.contiguous())
        return torch.cat([y1, y2], dim=-1), torch.cat([h1[-1], h2[-1]], dim=-1)


class DualPath(nn.Module):
    """Grouped dual-path RNN: over the bands of a frame, then over the frames of a band."""

    def __init__(self) -> None:
        super().__init__()
        self.intra_rnn = GroupedGRU(HALF // 2, bidirectional=True)
        self.intra_fc = nn.Linear(CHANNELS, CHANNELS)
        self.intra_ln = nn.LayerNorm((DEEP_BANDS, CHANNELS), eps=1e-8)
        self.inter_rnn = GroupedGRU(HALF)
        self.inter_fc = nn.Linear(CHANNELS, CHANNELS)
        self.inter_ln = nn.LayerNorm((DEEP_BANDS, CHANNELS), eps=1e-8)

    def forward(self, x: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        B, C, T, bands = x.shape
        x = x.permute(0, 2, 3, 1)  # [B, T, F, C]
        y, _ = self.intra_rnn(x.reshape(B * T, bands, C))
        x = x + self.intra_ln(self.intra_fc(y).view(B, T, bands, C))

        every_band = x.transpose(1, 2).reshape(B * bands, T, C)
        y, hidden = self.inter_rnn(every_band, None if hidden is None else hidden.flatten(0, 1))
        y = self.inter_fc(y).view(B, bands, T, C).transpose(1, 2)  # [B, T, F, C]
        x = x + self.inter_ln(y)
        return x.permute(0, 3, 1, 2), hidden.view(B, bands, C)  # [B, C, T, F]


class Encoder(nn.Module):
    """From 9 x 129 features to 16 x 33, in five levels."""

    def __init__(self, config: GTCRNConfig) -> None:
        super().__init__()
        self.cache = SkipCache(config)
        self.en_convs = nn.ModuleList(
            [
                ConvBlock(FEATURES, CHANNELS, 1, nn.PReLU()),
                ConvBlock(CHANNELS, CHANNELS, 2, nn.PReLU()),
                *(GTBlock(dilation) for dilation in DILATIONS),
            ]
        )

    def forward(
        self, x: Tensor, state: tuple[GTBlockState, ...] | None
    ) -> tuple[Tensor, Skips, tuple[GTBlockState, ...]]:
        """The output of the last level, and what the decoder takes of the others and of `x`."""
        skips: Skips = {}
        states = []
        self.cache.keep(skips, INPUT, x)
        for level, block in enumerate(self.en_convs):
            if isinstance(block, GTBlock):
                x, block_state = block(x, None if state is None else state[level - 2])
                states.append(block_state)
            else:
                x = block(x)
            self.cache.keep(skips, level, x)
        return x, skips, tuple(states)


class Decoder(nn.Module):
    """The encoder's mirror: 16 x 33 to a two-channel mask over 129 bands."""

    def __init__(self, config: GTCRNConfig) -> None:
        super().__init__()
        self.fusions = nn.ModuleList([Fusion(config, level) for level in reversed(LEVELS)])
        self.de_convs = nn.ModuleList(
            [
                *(GTBlock(dilation, transposed=True) for dilation in reversed(DILATIONS)),
                ConvBlock(CHANNELS, CHANNELS, 2, nn.PReLU(), transposed=True),
                ConvBlock(CHANNELS, 2, 1, nn.Tanh(), transposed=True),
            ]
        )

    def forward(
        self, x: Tensor, skips: Skips, state: tuple[GTBlockState, ...] | None
    ) -> tuple[Tensor, tuple[GTBlockState, ...]]:
        """Removes every skip from `skips` when no later level takes it, and so frees it."""
        states = []
        for level, block in enumerate(self.de_convs):
            x = self.fusions[level](x, skips)
            if isinstance(block, GTBlock):
                x, block_state = block(x, None if state is None else state[level])
                states.append(block_state)
            else:
                x = block(x)
        return x, tuple(states)


class GTCRN(nn.Module):
    """Noisy spectrum in, enhanced spectrum out, causal to the frame.

    Parameters
    ----------
    config
        What to build; the default is the published network: 23,669 learned parameters and 24,576
        fixed ones.
    """

    def __init__(self, config: GTCRNConfig | None = None) -> None:
        super().__init__()
        self.config = config or GTCRNConfig()
        self.erb = ERB()
        self.encoder = Encoder(self.config)
        self.dpgrnn1 = DualPath()
        self.dpgrnn2 = DualPath()
        self.decoder = Decoder(self.config)

    def mask(self, spectrum: Tensor, state: GTCRNState | None = None) -> tuple[Tensor, GTCRNState]:
        """The complex ratio mask that `forward` multiplies with.

        Parameters
        ----------
        spectrum
            ``[B, T, 257, 2]``: T >= 1 frames, real and imaginary part last.
        state
            What the previous call returned, or ``None`` at the start. It is not written to.

        Returns
        -------
        mask ``[B, T, 257, 2]`` and the state to hand to the next call.
        """
        encoder_state, (hidden1, hidden2), decoder_state = state or (None, (None, None), None)
        real, imag = spectrum.unbind(-1)  # [B, T, 257]
        magnitude = torch.sqrt(real.square() + imag.square() + 1e-12)
        x = torch.stack([magnitude, real, imag], dim=1)  # [B, 3, T, 257]
        x = with_neighbours(self.erb.compress(x))  # [B, 9, T, 129]

        x, skips, encoder_state = self.encoder(x, encoder_state)  # [B, 16, T, 33]
        x, hidden1 = self.dpgrnn1(x, hidden1)
        x, hidden2 = self.dpgrnn2(x, hidden2)
        x, decoder_state = self.decoder(x, skips, decoder_state)  # [B, 2, T, 129]

        mask = self.erb.expand(x).permute(0, 2, 3, 1)  # [B, T, 257, 2]
        return mask, GTCRNState(encoder_state, (hidden1, hidden2), decoder_state)

    def forward(
        self, spectrum: Tensor, state: GTCRNState | None = None
    ) -> tuple[Tensor, GTCRNState]:
        """Enhance T >= 1 frames: `mask` times `spectrum`, a complex product, same shapes."""
        mask, state = self.mask(spectrum, state)
        return complex_product(mask, spectrum), state


def complex_product(a: Tensor, b: Tensor) -> Tensor:
    """Product of complex numbers kept as pairs in the last dimension: ``[..., 2]``."""
    a_real, a_imag = a.unbind(-1)
    b_real, b_imag = b.unbind(-1)
    real = a_real * b_real - a_imag * b_imag
    imag = a_real * b_imag + a_imag * b_real
    return torch.stack([real, imag], dim=-1)


def build_network(checkpoint: Checkpoint) -> GTCRN:
    """The torch module with the weights of `checkpoint`, in evaluation mode.

    Raises
    ------
    UserError
        The weights do not fit the network that the checkpoint's config describes.
    """
    checkpoint.require_fit()
    network = GTCRN(checkpoint.config)
    tensors = {name: torch.from_numpy(w.copy()) for name, w in checkpoint.weights.items()}
    network.load_state_dict(tensors, strict=False)  # the counters of BatchNorm may be missing
    return network.eval()
