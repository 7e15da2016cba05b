"""Faint sound is raised before the network hears it: below a level, it takes speech for noise.

The mask does not depend on how loud a recording is, so it is found on the raised spectrum and used
on the sound as it is. The level is that of the loudest frame, which is forgotten slowly; above
`FAINT_DB` nothing is changed, and the mask is what the network alone gives.

This belongs to the engines, not to the network: exported and trained networks do not have it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..signals import Spectrum
from .config import HOP, SAMPLE_RATE, WINDOW

FAINT_DB = -40.0  # root mean square of the loudest frame, relative to full scale
FALL_DB_PER_S = 6.0
MOST_DB = 60.0
# The sum of squares of 257 bins for a root mean square of 1: half of the bins' powers are those of
# negative frequencies, and the squares of the window add up to half of its length.
FULL_SCALE = WINDOW * WINDOW / 4
FAINT = FULL_SCALE * 10 ** (FAINT_DB / 10)
LEAST = FAINT * 10 ** (-MOST_DB / 10)
FALL = 10 ** (-FALL_DB_PER_S / 10 * HOP / SAMPLE_RATE)  # from frame to frame, of the power


def raise_faint(
    spectrum: Spectrum, level: NDArray[np.float64] | None
) -> tuple[Spectrum, NDArray[np.float64]]:
    """The spectrum as the network shall hear it.

    Parameters
    ----------
    spectrum
        complex64 ``[C, T, 257]``.
    level
        ``[C]``, what the previous call returned; ``None`` at the start of a stream.

    Returns
    -------
    The spectrum, each frame with a gain of 1 to 1,000; and the level for the next call, a power.

    Examples
    --------
    A frame 20 dB below `FAINT_DB`, after one at full scale long ago:

    >>> import numpy as np
    >>> frame = np.full((1, 1, 257), np.sqrt(FAINT / 100 / 257), np.complex64)
    >>> raised, level = raise_faint(frame, np.array([LEAST]))
    >>> float(np.abs(raised / frame).round().max())
    10.0
    """
    power = np.square(spectrum.real).sum(-1) + np.square(spectrum.imag).sum(-1)
    level = np.full(len(spectrum), FAINT) if level is None else level
    gains = np.empty(power.shape, np.float32)
    for t in range(power.shape[1]):
        level = np.maximum(np.maximum(level * FALL, power[:, t]), LEAST)
        gains[:, t] = np.sqrt(np.maximum(FAINT / level, 1))
    return spectrum * gains[..., None], level
