"""What training minimises.

The published loss of GTCRN, but for its SI-SNR, and a perceptual one after PESQ.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import BINS, SAMPLE_RATE, WINDOW
from .spectrum import synthesize_torch

REFERENCE_RMS = 0.05  # -26 dBFS: every example is judged as if it were this loud
SILENCE = 1e-5  # mean square, after that, below which a target holds no speech


class EnhancementLoss(nn.Module):
    """The training loss, and its parts for the log.

    Examples are brought to one level first, by the RMS of what was heard: a quiet voice counts as
    much as a loud one.

    Parameters
    ----------
    perceptual
        Weight of the PESQ-type term; 0 leaves it out.
    """

    def __init__(self, perceptual: float = 0.0) -> None:
        super().__init__()
        self.weight = perceptual
        self.perceptual = PerceptualLoss() if perceptual else None

    def forward(
        self, enhanced: Tensor, clean: Tensor, noisy: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Spectra ``[B, T, 257, 2]`` in, the mean loss and its weighted parts out."""
        power = synthesize_torch(noisy).square().mean(dim=1) + 1e-10
        gain = (REFERENCE_RMS / power.sqrt())[:, None, None, None]
        enhanced, clean = enhanced * gain, clean * gain
        enhanced_samples, clean_samples = synthesize_torch(enhanced), synthesize_torch(clean)
        spoken = (clean_samples.square().mean(dim=1) > SILENCE).float()  # [B]
        spoken = spoken / spoken.sum().clamp(min=1)
        parts = {
            "spectral": compressed_spectral_loss(enhanced, clean),
            "snr": -(spoken * snr_log10(enhanced_samples, clean_samples)).sum(),
        }
        if self.perceptual is not None:
            parts["perceptual"] = self.weight * (spoken * self.perceptual(enhanced, clean)).sum()
        return torch.stack(list(parts.values())).sum(), parts


def compressed_spectral_loss(enhanced: Tensor, clean: Tensor) -> Tensor:
    """``30 (real + imaginary) + 70 magnitude``, mean squares with magnitudes to the power 0.3.

    As published with GTCRN (Rong et al., 2024). ``[B, T, 257, 2] -> []``
    """
    (enhanced_real, enhanced_imag, enhanced_magnitude), (real, imag, magnitude) = (
        _compress(x) for x in (enhanced, clean)
    )
    complex_part = ((enhanced_real - real).square() + (enhanced_imag - imag).square()).mean()
    magnitude_part = (enhanced_magnitude - magnitude).square().mean()
    return 30 * complex_part + 70 * magnitude_part


def _compress(spectrum: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Real and imaginary part and magnitude of a spectrum whose magnitudes are raised to 0.3."""
    real, imag = spectrum.unbind(-1)
    power = real.square() + imag.square() + 1e-12
    magnitude = power.pow(0.15)
    scale = magnitude * power.rsqrt()
    return real * scale, imag * scale, magnitude


def snr_log10(enhanced: Tensor, clean: Tensor) -> Tensor:
    """SNR as a power of ten, ``[B, N] -> [B]``.

    The published loss has SI-SNR here, which does not hear the level: compressed spectra alone
    draw it down where the network is unsure, and speech came out 2 dB too quiet.
    """
    distortion = (enhanced - clean).square().sum(dim=1)
    return torch.log10(clean.square().sum(dim=1) / (distortion + 1e-8) + 1e-8)


def si_snr_log10(enhanced: Tensor, clean: Tensor) -> Tensor:
    """SI-SNR as a power of ten, ``[B, N] -> [B]``: a tenth of its decibels.

    Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019.
    """
    scale = (enhanced * clean).sum(dim=1) / (clean.square().sum(dim=1) + 1e-8)
    target = scale[:, None] * clean
    distortion = (enhanced - target).square().sum(dim=1)
    return torch.log10(target.square().sum(dim=1) / (distortion + 1e-8) + 1e-8)


class PerceptualLoss(nn.Module):
    """How loud the difference between two signals sounds, after ITU-T P.862 (PESQ).

    Spectra are brought to a listening level of 79 dB SPL, pooled into critical bands and turned
    into loudness by Zwicker's law. A difference within a quarter of the softer one is inaudible.
    What was added counts more than what is missing, as in PESQ's asymmetric disturbance; time is
    pooled as there. PESQ's alignment in time, level and frequency is left out: here these errors
    are the network's own.
    """

    bands: Tensor
    widths: Tensor
    threshold: Tensor

    def __init__(self, count: int = 49) -> None:
        super().__init__()
        bin_hz = np.arange(BINS) * SAMPLE_RATE / WINDOW
        edges = np.linspace(bark(np.array(40.0)), bark(np.array(SAMPLE_RATE / 2)), count + 1)
        centres = (edges[1:] + edges[:-1]) / 2
        width = edges[1] - edges[0]
        # Triangles over the Bark scale; the lowest are narrower than a bin and share it.
        overlap = np.clip(1 - np.abs(bark(bin_hz)[:, None] - centres) / width, 0, None)
        nearest = np.abs(bark(bin_hz)[:, None] - centres).argmin(axis=0)
        overlap[nearest, np.arange(count)] += 1e-3
        centre_hz = np.interp(centres, bark(bin_hz), bin_hz)
        overlap = overlap / overlap.sum(axis=1, keepdims=True).clip(1)
        self.register_buffer("bands", torch.tensor(overlap, dtype=torch.float32))
        self.register_buffer("widths", torch.full((count,), float(width)))
        threshold = 10 ** (hearing_threshold_db(centre_hz) / 10)
        self.register_buffer("threshold", torch.tensor(threshold, dtype=torch.float32))

    def loudness(self, power: Tensor) -> Tensor:
        """Sone per Bark of band powers, by Zwicker's law with P.862's constants."""
        gamma = 0.23
        above = (0.5 + 0.5 * power / self.threshold).pow(gamma) - 1
        return 0.1866 * (self.threshold / 0.5).pow(gamma) * above.clamp(min=0)

    def forward(self, enhanced: Tensor, clean: Tensor) -> Tensor:
        """Spectra ``[B, T, 257, 2]`` to the loss of each example, ``[B]``."""
        enhanced_power = _power(enhanced) @ self.bands  # [B, T, bands]
        clean_power = _power(clean) @ self.bands
        level = clean_power.sum(dim=2).mean(dim=1)[:, None, None] + 1e-8
        enhanced_power = enhanced_power * (10**7.9 / level)
        clean_power = clean_power * (10**7.9 / level)
        heard, meant = self.loudness(enhanced_power), self.loudness(clean_power)
        difference = (heard - meant).abs()
        audible = (difference - 0.25 * torch.minimum(heard, meant)).clamp(min=0)
        asymmetry = ((enhanced_power + 50) / (clean_power + 50)).clamp(1e-6, 1e6).pow(1.2)
        asymmetry = asymmetry.clamp(max=12) * (asymmetry > 3)
        symmetric = ((audible * self.widths).square().sum(dim=2) + 1e-8).sqrt()  # [B, T]
        added = (audible * asymmetry * self.widths).sum(dim=2)
        weight = ((clean_power.sum(dim=2) + 1e5) / 1e7).pow(0.04)
        d_symmetric = pool_frames((symmetric / weight).clamp(max=45))
        d_added = pool_frames((added / weight).clamp(max=45))
        return 0.1 * d_symmetric + 0.0309 * d_added


def _power(spectrum: Tensor) -> Tensor:
    real, imag = spectrum.unbind(-1)
    return real.square() + imag.square()


def pool_frames(disturbance: Tensor) -> Tensor:
    """``[B, T] -> [B]``: the sixth-power mean over 20 frames, then the RMS over those."""
    scaled = disturbance / 45  # keeps the sixth power within float32
    windows = F.avg_pool1d(scaled[:, None].pow(6), min(20, scaled.shape[1]), 10)[:, 0]
    return 45 * ((windows + 1e-18).pow(1 / 6).square().mean(dim=1)).sqrt()


def bark(frequency_hz: np.ndarray) -> np.ndarray:
    """The critical-band scale (Zwicker & Terhardt 1980)."""
    return 13 * np.arctan(0.00076 * frequency_hz) + 3.5 * np.arctan((frequency_hz / 7500) ** 2)


def hearing_threshold_db(frequency_hz: np.ndarray) -> np.ndarray:
    """The threshold in quiet in dB SPL (Terhardt 1979)."""
    khz = np.maximum(frequency_hz, 20) / 1000
    return 3.64 * khz**-0.8 - 6.5 * np.exp(-0.6 * (khz - 3.3) ** 2) + 1e-3 * khz**4
