"""A stream by a ratio that is close to 1: what `live.drift.Resampler` does between two clocks."""

from __future__ import annotations

import numpy as np

from .layout import PHASES, RESAMPLED, TAPS
from .simd import Floats, at, fma, function, load, load16, splat16, store, total

BEFORE = TAPS // 2 - 1  # taps at or before the point that is wanted, but for one


@function
def resample(
    samples: Floats, resampled: Floats, filters: Floats, controls: Floats, channels: int, count: int
) -> None:
    """Interpolate ``[C, N]`` at `count` points that are evenly spaced: ``[count, C]``.

    Each filter of ``[PHASES + 1, TAPS]`` is for one fraction of a sample; between two of them it is
    a straight line. `controls` is laid out as `RESAMPLED` says: the points are at first + fraction
    + n (1 + correction).
    """
    first = int(load(controls, RESAMPLED.first))
    fraction, correction = load(controls, RESAMPLED.fraction), load(controls, RESAMPLED.correction)
    length = int(load(controls, RESAMPLED.length))
    last = length - TAPS + BEFORE  # the last point that all taps reach
    for n in range(count):
        # Beside sample first + n, which a float32 tells far more exactly than from the start on.
        beyond = fraction + correction * np.float32(n)
        shift = int(beyond)
        if beyond < np.float32(shift):  # int() rounds towards zero
            shift -= 1
        whole = min(first + n + shift, last)
        phase = (beyond - np.float32(whole - first - n)) * np.float32(PHASES)
        row = min(max(int(phase), 0), PHASES - 1)
        blend = splat16(phase - np.float32(row))
        here, next_one = at(filters, row * TAPS), at(filters, (row + 1) * TAPS)
        for channel in range(channels):
            near = at(samples, channel * length + whole - BEFORE)
            sums = splat16(np.float32(0))
            for tap in range(0, TAPS, 16):
                low = load16(here, tap)
                weight = fma(load16(next_one, tap) - low, blend, low)
                sums = fma(load16(near, tap), weight, sums)
            store(resampled, n * channels + channel, total(sums))
