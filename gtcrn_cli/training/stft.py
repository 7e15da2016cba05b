"""The STFT of `enhancement.stft` in torch, differentiable, for whole utterances at 16 kHz."""

from __future__ import annotations

import torch
from torch import Tensor

from ..network.config import HOP, WINDOW


def analyze_torch(samples: Tensor) -> Tensor:
    """`STFT.analyze` for training: whole utterances at 16 kHz, differentiable.

    ``[B, N] -> [B, T, 257, 2]`` with ``T = N // 256``; what does not fill a window is left out.
    """
    shape = torch.sin(torch.pi * torch.arange(WINDOW, device=samples.device) / WINDOW)
    padded = torch.nn.functional.pad(samples, (HOP, 0))
    frames = padded.unfold(-1, WINDOW, HOP) * shape  # [B, T, 512]
    return torch.view_as_real(torch.fft.rfft(frames))


def synthesize_torch(spectrum: Tensor) -> Tensor:
    """`STFT.synthesize` for training, aligned: ``[B, T, 257, 2] -> [B, (T - 1) * 256]``."""
    shape = torch.sin(torch.pi * torch.arange(WINDOW, device=spectrum.device) / WINDOW)
    frames = torch.fft.irfft(torch.view_as_complex(spectrum.contiguous()), WINDOW) * shape
    return (frames[:, 1:, :HOP] + frames[:, :-1, HOP:]).flatten(1)
