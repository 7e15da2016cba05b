"""Loudness after ITU-R BS.1770-4."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..signals import SILENCE_DB
from .sounds import FloatArray

LOUDNESS_BLOCK_S = 0.4


def loudness_weighting(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """The power response of ITU-R BS.1770-4's two filters, tables 1 and 2, made for 48 kHz."""
    z = np.exp(-2j * np.pi * np.minimum(hz, 24_000) / 48_000)
    shelf = np.polyval([1.19839281085285, -2.69169618940638, 1.53512485958697], z) / np.polyval(
        [0.73248077421585, -1.69065929318241, 1], z
    )
    highpass = np.polyval([1, -2, 1], z) / np.polyval([0.99007225036621, -1.99004745483398, 1], z)
    return np.square(np.abs(shelf * highpass))


def gated_loudness(power: FloatArray, hop_s: float) -> float:
    """Loudness of ITU-R BS.1770-4, equations 5-7, from the weighted power of frames ``[T]``.

    Parameters
    ----------
    power
        Sum of the channels' mean squares.
    hop_s
        Between frames.

    Returns
    -------
    LUFS; -120 where no block is above the absolute gate of -70.
    """
    length = min(len(power), round(LOUDNESS_BLOCK_S / hop_s))
    blocks = np.lib.stride_tricks.sliding_window_view(power, length)[:: max(1, length // 4)]
    means = blocks.mean(axis=1, dtype=float)
    means = means[means > 10 ** ((-70 + 0.691) / 10)]
    if not len(means):
        return SILENCE_DB
    loud = means[means > means.mean() / 10]  # 10 LU below the mean
    return -0.691 + 10 * math.log10(loud.mean())
