"""Between the 257 bins of a spectrum and the 129 bands of the network."""

from __future__ import annotations

import numpy as np

from ..network.config import BINS, ERB_BANDS, LOW_BINS
from .layout import ERB, HIGH_BINS
from .simd import (
    Floats,
    Vector,
    absolute,
    at,
    copy,
    evens,
    fma,
    function,
    inline,
    interleave,
    load,
    load4,
    load16,
    odds,
    pairs_high,
    pairs_low,
    splat4,
    splat8,
    sqrt,
    stack,
    store,
    where_less,
)

BIN_ROW = (BINS + 7) * 4
MAGNITUDE_FLOOR = np.float32(1e-12)
TINY = np.float32(
    1e-20
)  # input below this is silence: its products would be denormal, which is slow


@inline
def audible(x: Vector) -> Vector:
    zero = splat8(0.0)
    return where_less(splat8(TINY), absolute(x), x, zero)


@inline
def eight_bins(real: Vector, imag: Vector, y: Floats, n: int) -> None:
    """Magnitude, real and imaginary part of eight bins, and a fourth number that nobody reads."""
    real, imag = audible(real), audible(imag)
    magnitude = sqrt(fma(real, real, fma(imag, imag, splat8(MAGNITUDE_FLOOR))))
    first, second = interleave(magnitude, real), interleave(imag, imag)
    store(y, 4 * n, pairs_low(first, second))
    store(y, 4 * n + 16, pairs_high(first, second))


@function
def features(spectrum: Floats, w: Floats, y: Floats) -> None:
    """Magnitude, real and imaginary part in 129 bands; `y` starts three bands early."""
    bins = stack(BIN_ROW)
    for n in range(0, BINS - 1, 8):
        pairs = load16(spectrum, 2 * n)
        eight_bins(evens(pairs), odds(pairs), bins, n)
    last = BINS - 1
    eight_bins(splat8(load(spectrum, 2 * last)), splat8(load(spectrum, 2 * last + 1)), bins, last)
    copy(at(y, 3 * 4), bins, LOW_BINS * 4)
    compress(at(bins, LOW_BINS * 4), w, at(y, (3 + LOW_BINS) * 4))


@inline
def compress(bins: Floats, w: Floats, y: Floats) -> None:
    """The bins from 65 on, pooled into 64 bands."""
    tap = ERB.pool
    for band in range(ERB_BANDS):
        pooled = splat4(0.0)
        for n in range(int(load(w, ERB.first_bin + band)), int(load(w, ERB.last_bin + band)) + 1):
            pooled = fma(splat4(load(w, tap)), load4(bins, 4 * n), pooled)
            tap += 1
        store(y, 4 * band, pooled)


@function
def expand(bands: Floats, w: Floats, mask: Floats) -> None:
    """Real and imaginary part of the mask, from 129 bands to 257 bins."""
    copy(mask, bands, LOW_BINS * 2)
    for n in range(HIGH_BINS):
        band = 2 * (LOW_BINS + int(load(w, ERB.lower_band + n)))
        lower, upper = load(w, ERB.spread + 2 * n), load(w, ERB.spread + 2 * n + 1)
        real = lower * load(bands, band) + upper * load(bands, band + 2)
        imag = lower * load(bands, band + 1) + upper * load(bands, band + 3)
        store(mask, 2 * (LOW_BINS + n), real)
        store(mask, 2 * (LOW_BINS + n) + 1, imag)
