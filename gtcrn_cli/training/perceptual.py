"""Losses after measures of quality and intelligibility: PESQ, STOI and DNSMOS."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..network.config import BINS, HOP, SAMPLE_RATE, WINDOW
from .dnsmos import Dnsmos

BEST_PESQ = 4.644  # of wide-band PESQ, which identical signals get


def _receiving_response(frequency_hz: np.ndarray) -> np.ndarray:
    """Power response of P.862.2's filter, which takes away what lies below 100 Hz."""
    z = np.exp(-2j * np.pi * frequency_hz / SAMPLE_RATE)
    response = np.polyval([2.740826, -5.4816519, 2.740826], z)
    return np.abs(response / np.polyval([0.94597794, -1.9444777, 1.0], z)) ** 2


# The 49 critical bands of P.862 at 16 kHz: bins, width in Bark, gain, threshold of hearing.
# fmt: off
BAND_BINS = (
    1, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 4, 3, 4,
    5, 4, 5, 6, 6, 7, 8, 9, 9, 12, 12, 15, 16, 18, 21, 25, 20,
)
BAND_WIDTHS = (
    0.1573, 0.3180, 0.3224, 0.3269, 0.3315, 0.3361, 0.3407, 0.3454, 0.3501, 0.3549, 0.3597, 0.3646,
    0.3695, 0.3745, 0.3796, 0.3847, 0.3898, 0.3950, 0.4002, 0.4055, 0.4109, 0.4163, 0.4218, 0.4273,
    0.4329, 0.4385, 0.4442, 0.4500, 0.4558, 0.4616, 0.4676, 0.4736, 0.4796, 0.4857, 0.4919, 0.4982,
    0.5045, 0.5108, 0.5173, 0.5237, 0.5303, 0.5369, 0.5436, 0.5504, 0.5572, 0.5641, 0.5711, 0.5781,
    0.5852,
)
BAND_GAINS = (
    100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 50.0, 100.0, 100.0, 100.0, 100.0, 100.0,
    53.05, 110.0, 117.99, 65.0, 68.76, 70.0, 71.43, 75.0, 76.84, 80.97, 88.65, 63.86, 68.16, 72.55,
    75.58, 58.38, 80.95, 64.14, 54.38, 73.82, 64.44, 59.18, 65.52, 61.40, 58.14, 57.00, 64.13,
    54.31, 61.11, 55.08, 56.85, 55.63, 53.14, 54.99, 79.55,
)
BAND_THRESHOLDS = (
    5.129e7, 2.455e6, 70795.0, 4898.0, 1174.9, 389.05, 104.71, 45.71, 17.78, 9.772, 4.898, 3.090,
    1.905, 1.259, 0.9772, 0.7244, 0.5623, 0.4571, 0.3890, 0.3311, 0.2951, 0.2692, 0.2570, 0.2512,
    0.2512, 0.2512, 0.2512, 0.2630, 0.2884, 0.3090, 0.3388, 0.3715, 0.3981, 0.4365, 0.4677, 0.4898,
    0.5012, 0.5012, 0.5129, 0.5248, 0.5248, 0.5248, 0.5129, 0.4786, 0.4266, 0.3715, 0.3631, 0.4169,
    0.5370,
)
# fmt: on


class PerceptualLoss(nn.Module):
    """What wide-band PESQ (ITU-T P.862.2) takes off 4.5 for the difference between two signals.

    Both are brought to one level, pooled into critical bands and turned into loudness by Zwicker's
    law, after the clean one's long-term spectrum and the other's loudness of each frame have been
    fitted. A difference within a quarter of the softer one is inaudible; what was added counts more
    than what is missing. PESQ's alignment in time is left out: the network's delay is none.

    Spectra are of sqrt-Hann windows here and of Hann windows there, so it is not PESQ to the digit.
    """

    speech_band: Tensor
    bands: Tensor
    widths: Tensor
    threshold: Tensor
    exponent: Tensor

    def __init__(self) -> None:
        super().__init__()
        bin_hz = np.arange(BINS) * SAMPLE_RATE / WINDOW
        speech_band = 2.0 * ((bin_hz >= 325) & (bin_hz <= 3250))  # both halves of the spectrum
        ends = np.cumsum(BAND_BINS)
        bands = np.zeros((BINS, len(BAND_BINS)))
        for band, (end, count) in enumerate(zip(ends, BAND_BINS, strict=True)):
            bands[end - count : end, band] = BAND_GAINS[band]
        hann_to_sqrt_hann = 3 / 4  # of the power in a window
        bands *= 6.910853e-6 * hann_to_sqrt_hann * _receiving_response(bin_hz)[:, None]
        widths = np.array(BAND_WIDTHS)
        centres = np.cumsum(widths) - widths / 2
        constants = {
            "speech_band": speech_band / (WINDOW * WINDOW / 2),
            "bands": bands[:, 1:],  # PESQ leaves out the first one
            "widths": widths[1:],
            "threshold": np.array(BAND_THRESHOLDS)[1:],
            "exponent": 0.23 * np.clip(6 / (centres + 2), 1, 2)[1:] ** 0.15,
        }
        for name, values in constants.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32))

    def excitation(self, spectrum: Tensor) -> Tensor:
        """Spectrum ``[B, T, 257, 2]`` to the power of 48 bands ``[B, T, 48]``, at one level."""
        real, imag = spectrum.unbind(-1)
        power = real.square() + imag.square()
        mean_square = (power @ self.speech_band).mean(dim=1)[:, None, None]
        return power @ self.bands * (1e7 / (mean_square + 1e-9))

    def audible(self, power: Tensor, times: float = 1.0) -> Tensor:
        """Bands where the power is above so many times the threshold of hearing; else zero."""
        return power * (power > times * self.threshold)

    def loudness(self, power: Tensor) -> Tensor:
        """Sone per Bark of band powers, by Zwicker's law."""
        above = (0.5 + 0.5 * power / self.threshold).pow(self.exponent) - 1
        return 0.1866055 * (2 * self.threshold).pow(self.exponent) * above.clamp(min=0)

    def forward(self, enhanced: Tensor, clean: Tensor) -> Tensor:
        """Spectra ``[B, T, 257, 2]`` to the loss of each example, ``[B]``."""
        heard, meant = self.excitation(enhanced), self.excitation(clean)  # [B, T, 48]
        spoken = self.audible(meant, 100).sum(dim=2, keepdim=True) > 1e7
        colour = [(self.audible(x, 100) * spoken).mean(dim=1, keepdim=True) for x in (heard, meant)]
        meant = meant * ((colour[0] + 1000) / (colour[1] + 1000)).clamp(0.01, 100)
        power = self.audible(meant).sum(dim=2)  # [B, T]
        gain = (power + 5e3) / (self.audible(heard).sum(dim=2) + 5e3)
        gain = torch.cat([gain[:, :1], 0.8 * gain[:, 1:] + 0.2 * gain[:, :-1]], dim=1)
        heard = heard * gain.clamp(3e-4, 5)[..., None]

        heard_sone, meant_sone = self.loudness(heard), self.loudness(meant)
        difference = (heard_sone - meant_sone).abs() - 0.25 * torch.minimum(heard_sone, meant_sone)
        difference = difference.clamp(min=0) * self.widths
        asymmetry = ((heard + 50) / (meant + 50)).pow(1.2).clamp(max=12)
        asymmetry = asymmetry * (asymmetry >= 3)
        # P.862 takes means over the Bark scale and multiplies with its length afterwards.
        symmetric = (difference.square().sum(dim=2) * self.widths.sum() + 1e-6).sqrt()
        added = (difference * asymmetry).sum(dim=2)
        weight = ((power + 1e5) / 1e7).pow(0.04)
        d_symmetric = pool_frames((symmetric / weight).clamp(max=45))
        d_added = pool_frames((added / weight).clamp(max=45))
        return 0.1 * d_symmetric + 0.0309 * d_added


def wideband_pesq(disturbance: Tensor) -> Tensor:
    """The WB-PESQ that a value of `PerceptualLoss` stands for (P.862.2, equation 1).

    It is steepest in the middle of the scale: what is hopeless counts less.
    """
    return 0.999 + 4 / (1 + torch.exp(-1.3669 * (4.5 - disturbance) + 3.8224))


def pool_frames(disturbance: Tensor) -> Tensor:
    """``[B, T] -> [B]``: the sixth-power mean over 20 frames, then the RMS over those."""
    scaled = disturbance / 45  # keeps the sixth power within float32
    windows = F.avg_pool1d(scaled[:, None].pow(6), min(20, scaled.shape[1]), 10)[:, 0]
    return 45 * ((windows + 1e-18).pow(1 / 6).square().mean(dim=1)).sqrt()


class IntelligibilityLoss(nn.Module):
    """One minus what STOI measures.

    Taal et al., "An Algorithm for Intelligibility Prediction of Time-Frequency Weighted Noisy
    Speech", IEEE TASLP 2011: the correlation of both signals' envelopes in third-octave bands over
    384 ms, after the enhanced one was fitted to the other's level and clipped where it is 15 dB
    above it. Frames 40 dB below the loudest do not count. There a frame is 26 ms every 13 ms, here
    it is the network's.
    """

    bands: Tensor

    def __init__(self) -> None:
        super().__init__()
        centres_hz = 150 * 2 ** (np.arange(15) / 3)
        ratio = np.arange(BINS)[:, None] * SAMPLE_RATE / WINDOW / centres_hz
        bands = (ratio >= 2 ** (-1 / 6)) & (ratio < 2 ** (1 / 6))
        self.register_buffer("bands", torch.tensor(bands, dtype=torch.float32))  # [257, 15]
        self.frames = round(0.384 * SAMPLE_RATE / HOP)

    def forward(self, enhanced: Tensor, clean: Tensor) -> Tensor:
        """Spectra ``[B, T, 257, 2]`` to the loss of each example, ``[B]``."""
        power = clean.square().sum(dim=-1)  # [B, T, 257]
        energy = power.sum(dim=-1)
        loud = energy > 1e-4 * energy.amax(dim=1, keepdim=True)  # [B, T]
        frames = min(self.frames, loud.shape[1])
        x, y, counts = (
            values.unfold(1, frames, max(1, frames // 12))  # [B, S, 15 or 1, frames]
            for values in (
                self._envelopes(power),
                self._envelopes(enhanced.square().sum(dim=-1)),
                loud[..., None].to(power.dtype),
            )
        )
        x, y = x * counts, y * counts
        # What is added under a root keeps its slope finite where all is silent.
        level = (_total(x.square()) / (_total(y.square()) + 1e-9) + 1e-9).sqrt()
        y = torch.minimum(y * level, x * (1 + 10 ** (15 / 20)))
        n = _total(counts).clamp(min=1)
        x, y = (counts * (values - _total(values) / n) for values in (x, y))
        correlation = _total(x * y) / (_total(x.square()) * _total(y.square()) + 1e-12).sqrt()
        counted = (_total(counts) > frames / 2).to(power.dtype)  # [B, S, 1, 1]
        total = (correlation * counted).mean(dim=2).sum(dim=(1, 2))
        return 1 - total / counted.sum(dim=(1, 2, 3)).clamp(min=1)

    def _envelopes(self, power: Tensor) -> Tensor:
        return (power @ self.bands + 1e-9).sqrt()


def _total(values: Tensor) -> Tensor:
    """Sum over the last dimension, which stays."""
    return values.sum(dim=-1, keepdim=True)


class QualityLoss(nn.Module):
    """By how much DNSMOS P.835 rates the enhanced samples below the clean ones.

    No more can be had than the clean ones have: a network that pleases the judge otherwise would
    learn how to flatter it.
    """

    shares = (0.1, 0.35, 0.55)  # of speech, background, overall

    def __init__(self) -> None:
        super().__init__()
        self.judge = Dnsmos()

    def forward(self, enhanced: Tensor, clean: Tensor) -> Tensor:
        """Samples ``[B, N]``, at the level they were heard at, to the loss of each, ``[B]``."""
        with torch.no_grad():
            possible = self.judge(clean)
        lacking = F.relu(possible - self.judge(enhanced))  # [B, 3]
        return lacking @ lacking.new_tensor(self.shares)
