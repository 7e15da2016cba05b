"""Between the 257 bins of a spectrum and the 129 bands of the network."""

from __future__ import annotations

import numpy as np

from ..network.config import BINS, ERB_BANDS, LOW_BINS
from ..network.level import FAINT, FALL, LEAST
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
    splat16,
    sqrt,
    stack,
    store,
    total,
    where_less,
)

ZERO, ONE = np.float32(0), np.float32(1)
FAINT_POWER, FALL_OF_POWER, LEAST_POWER = np.float32(FAINT), np.float32(FALL), np.float32(LEAST)
BIN_ROW = (BINS + 7) * 4
MAGNITUDE_FLOOR = np.float32(1e-12)
TINY = np.float32(
    1e-20
)  # input below this is silence: its products would be denormal, which is slow


@inline
def audible(x: Vector) -> Vector:
    zero = splat8(0.0)
    return where_less(splat8(TINY), absolute(x), x, zero)


@function
def gain_of(spectrum: Floats, level: Floats) -> float:
    """What a frame is raised by, as `network.level` has it; `level` ``[1]`` goes on."""
    squares = splat16(0.0)
    for n in range(0, 2 * BINS - 2, 16):
        pairs = load16(spectrum, n)
        squares = fma(pairs, pairs, squares)
    real, imag = load(spectrum, 2 * BINS - 2), load(spectrum, 2 * BINS - 1)
    power = total(squares) + real * real + imag * imag
    before = load(level, 0)
    if before == ZERO:
        before = FAINT_POWER
    now = max(max(before * FALL_OF_POWER, power), LEAST_POWER)
    store(level, 0, now)
    return sqrt(FAINT_POWER / now) if now < FAINT_POWER else ONE


@inline
def eight_bins(real: Vector, imag: Vector, gain: Vector, y: Floats, n: int) -> None:
    """Magnitude, real and imaginary part of eight bins, and a fourth number that nobody reads."""
    real, imag = audible(gain * real), audible(gain * imag)
    magnitude = sqrt(fma(real, real, fma(imag, imag, splat8(MAGNITUDE_FLOOR))))
    first, second = interleave(magnitude, real), interleave(imag, imag)
    store(y, 4 * n, pairs_low(first, second))
    store(y, 4 * n + 16, pairs_high(first, second))


@function
def features(spectrum: Floats, w: Floats, level: Floats, y: Floats) -> None:
    """Magnitude, real and imaginary part in 129 bands, raised where faint.

    `y` starts three bands early; `level` goes on, see `gain_of`.
    """
    gain = splat8(gain_of(spectrum, level))
    bins = stack(BIN_ROW)
    for n in range(0, BINS - 1, 8):
        pairs = load16(spectrum, 2 * n)
        eight_bins(evens(pairs), odds(pairs), gain, bins, n)
    last = BINS - 1
    real, imag = load(spectrum, 2 * last), load(spectrum, 2 * last + 1)
    eight_bins(splat8(real), splat8(imag), gain, bins, last)
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
