"""What arrays of sound are, how loud one is, and how late one is beside another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
"""Sound, ``[N, C]``; full scale is -1 to 1."""

Spectrum = NDArray[np.complex64]
"""Its frequencies, ``[C, T, bins]``."""

SILENCE_DB = -120.0  # what a level is called when there is nothing


@dataclass
class Level:
    """Running level of a signal."""

    energy: float = 0.0
    count: int = 0

    def add(self, block: Samples) -> None:
        """Count in a block; what is no number counts as silence."""
        energy = float(np.vdot(block, block))
        if not math.isfinite(energy):
            block = np.nan_to_num(block, nan=0, posinf=0, neginf=0).astype(np.float64)
            energy = float(np.vdot(block, block))
        self.energy += energy
        self.count += block.size

    @property
    def db(self) -> float:
        """Root mean square so far in dB relative to full scale, at least -120."""
        if self.energy == 0:
            return SILENCE_DB
        return max(SILENCE_DB, 10 * math.log10(self.energy / self.count))


def cross_correlation(late: Samples, early: Samples, reach: int) -> NDArray[np.floating[Any]]:
    """How alike two sounds ``[N]`` are with the second moved, ``[2 * reach + 1]``.

    The largest number is where `late` is later by as many samples as its index less `reach`.

    >>> early = np.array([0, 1, 0, 0, 0], np.float32)
    >>> int(np.argmax(cross_correlation(np.roll(early, 2), early, 3))) - 3
    2
    """
    size = 1 << (max(len(late), len(early)) + reach).bit_length()
    spectra = np.fft.rfft(late, size), np.fft.rfft(early, size)
    like = np.fft.irfft(spectra[0] * spectra[1].conj(), size)
    return np.concatenate([like[-reach:], like[: reach + 1]])


def lag(late: Samples, early: Samples, reach: int) -> int:
    """Samples by which a sound ``[N]`` is later than another, at most `reach` either way.

    >>> early = np.array([0, 1, 0, 0, 0], np.float32)
    >>> lag(early, np.roll(early, 2), 3)
    -2
    """
    return int(np.argmax(cross_correlation(late, early, reach))) - reach
