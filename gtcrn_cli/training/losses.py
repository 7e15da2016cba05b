"""What training minimises.

The published loss of GTCRN, but for its SI-SNR, and more of what listeners mind: speech that is
taken away, and differences as PESQ, STOI and DNSMOS hear them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..network.config import SAMPLE_RATE
from .perceptual import BEST_PESQ, IntelligibilityLoss, PerceptualLoss, QualityLoss, wideband_pesq
from .stft import synthesize_torch

REFERENCE_RMS = 0.05  # -26 dBFS: every example is judged as if it were this loud
SILENCE = 1e-5  # mean square, after that, below which a target holds no speech
BEST_SNR = 3.5  # as a power of ten: 35 dB; what is better is good enough
FEW = 8  # examples, of which no median can be had
PULL = 3.0  # most that an example's gradient may be, in medians of the batch
QUALITY_S = 4  # of one example, at its end: DNSMOS costs more than the network that it judges


class EnhancementLoss(nn.Module):
    """The training loss, and its parts for the log.

    Examples are brought to one level first, by the RMS of what was heard: a quiet voice counts as
    much as a loud one.

    Parameters
    ----------
    snr
        Weight of the SNR. Published: 1; with that the waveform comes second to magnitudes.
    suppression
        Weight of what is missing of magnitudes, on top of the 70 that any difference costs.
    perceptual
        Weight of the WB-PESQ that is missing; 0 leaves the term out.
    intelligibility
        Weight of the STOI that is missing; likewise.
    quality
        Weight of the DNSMOS that is missing; likewise. It is slow.
    rated
        Examples of a batch that DNSMOS rates.

    Raises
    ------
    MissingExtraError
        `quality` needs packages that are not installed.
    """

    def __init__(
        self,
        snr: float = 4.5,
        suppression: float = 40.0,
        perceptual: float = 0.0,
        intelligibility: float = 0.0,
        quality: float = 0.0,
        rated: int = 1,
    ) -> None:
        super().__init__()
        self.rated = rated
        self.snr_weight, self.suppression_weight = snr, suppression
        self.perceptual_weight, self.perceptual = perceptual, PerceptualLoss()
        self.intelligibility_weight, self.intelligibility = intelligibility, IntelligibilityLoss()
        self.quality_weight = quality
        self.quality = QualityLoss() if quality else None

    def forward(
        self, enhanced: Tensor, clean: Tensor, noisy: Tensor, rate_quality: bool = True
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Spectra ``[B, T, 257, 2]`` in, the mean loss and its weighted parts out.

        The DNSMOS-type term is one of them if `rate_quality`.
        """
        power = synthesize_torch(noisy).square().mean(dim=1) + 1e-10
        gain = (REFERENCE_RMS / power.sqrt())[:, None, None, None]
        rateable, clean = enhanced * gain, clean * gain
        enhanced = held_back(rateable)
        enhanced_samples, clean_samples = synthesize_torch(enhanced), synthesize_torch(clean)
        speaks = clean_samples.square().mean(dim=1) > SILENCE  # [B]
        spoken = speaks.float() / speaks.sum().clamp(min=1)
        heard, meant = compress(enhanced), compress(clean)
        parts = {
            "spectral": spectral_loss(heard, meant),
            "snr": -self.snr_weight * (spoken * snr_log10(enhanced_samples, clean_samples)).sum(),
            "suppression": self.suppression_weight * over_suppression(heard, meant),
        }
        if self.perceptual_weight:
            lost = BEST_PESQ - wideband_pesq(self.perceptual(enhanced, clean))
            parts["perceptual"] = self.perceptual_weight * (spoken * lost).sum()
        if self.intelligibility_weight:
            lost = self.intelligibility(enhanced, clean)
            parts["intelligibility"] = self.intelligibility_weight * (spoken * lost).sum()
        if self.quality is not None and rate_quality:
            some = torch.argsort(speaks.float(), descending=True, stable=True)[: self.rated]
            end = -QUALITY_S * SAMPLE_RATE
            loudness = gain[some, :, 0, 0]
            heard_samples = synthesize_torch(held_back(rateable[some])) / loudness
            meant_samples = clean_samples[some] / loudness
            lost = self.quality(heard_samples[:, end:], meant_samples[:, end:])
            parts["quality"] = self.quality_weight * (speaks[some] * lost).mean()
        return torch.stack(list(parts.values())).sum(), parts


def held_back(examples: Tensor) -> Tensor:
    """The same examples, ``[B, ...]``; but if they are many, one alone does not decide.

    Where nearly nothing is wrong with an example, or DNSMOS hears a pause, the slope is steeper by
    orders of magnitude: so none has a gradient of more than `PULL` medians. That of DNSMOS is
    hundreds of times as long as all others, and is held against its own: together they would leave
    nothing of it.
    """
    if len(examples) < FEW or not examples.requires_grad:
        return examples
    examples = examples.view_as(examples)
    examples.register_hook(_hold_back)
    return examples


def _hold_back(gradient: Tensor) -> Tensor:
    norm = gradient.flatten(1).norm(dim=1)
    scale = (PULL * norm.median() / (norm + 1e-12)).clamp(max=1)
    return gradient * scale.view(-1, *[1] * (gradient.dim() - 1))


class Compressed(NamedTuple):
    """A spectrum whose magnitudes are raised to the power 0.3, ``[B, T, 257]`` each."""

    real: Tensor
    imag: Tensor
    magnitude: Tensor


def compress(spectrum: Tensor) -> Compressed:
    """``[B, T, 257, 2]`` with less between loud and soft, as in hearing."""
    real, imag = spectrum.unbind(-1)
    power = real.square() + imag.square() + 1e-12
    magnitude = power.pow(0.15)
    scale = magnitude * power.rsqrt()
    return Compressed(real * scale, imag * scale, magnitude)


def spectral_loss(enhanced: Compressed, clean: Compressed) -> Tensor:
    """``30 (real + imaginary) + 70 magnitude``, mean squares.

    As published with GTCRN (Rong et al., 2024).
    """
    complex_part = (
        (enhanced.real - clean.real).square() + (enhanced.imag - clean.imag).square()
    ).mean()
    magnitude_part = (enhanced.magnitude - clean.magnitude).square().mean()
    return 30 * complex_part + 70 * magnitude_part


def over_suppression(enhanced: Compressed, clean: Compressed) -> Tensor:
    """The mean square of what is missing of the magnitudes.

    `spectral_loss` has it as well, but there noise that is left costs as much, and a network that
    cannot tell rather takes both away. After Eskimez et al., "Personalized Speech Enhancement: New
    Models and Comprehensive Evaluation", ICASSP 2022.
    """
    return F.relu(clean.magnitude - enhanced.magnitude).square().mean()


def snr_log10(enhanced: Tensor, clean: Tensor) -> Tensor:
    """SNR as a power of ten, ``[B, N] -> [B]``.

    The published loss has SI-SNR here, which does not hear the level: compressed spectra alone
    draw it down where the network is unsure, and speech came out 2 dB too quiet. Beyond `BEST_SNR`
    it flattens: the slope of a logarithm has no end where nothing is left to mend.
    """
    distortion = (enhanced - clean).square().sum(dim=1)
    power = clean.square().sum(dim=1)
    return torch.log10(power / (distortion + 10**-BEST_SNR * power + 1e-8) + 1e-8)


def si_snr_log10(enhanced: Tensor, clean: Tensor) -> Tensor:
    """SI-SNR as a power of ten, ``[B, N] -> [B]``: a tenth of its decibels.

    Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019.
    """
    scale = (enhanced * clean).sum(dim=1) / (clean.square().sum(dim=1) + 1e-8)
    target = scale[:, None] * clean
    distortion = (enhanced - target).square().sum(dim=1)
    return torch.log10(target.square().sum(dim=1) / (distortion + 1e-8) + 1e-8)
