"""What arrays of sound are, and how loud one is."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
