"""How a decoder level takes its skips, as compiled functions."""

from __future__ import annotations

import numpy as np

from ..network.config import DEEP_BANDS
from .layers import BARE_ROW, WIDE, conv, conv3, sigmoid_of_double, store3
from .layout import ADD, ATTEND, CONCAT, FUSION, GATE, MANTISSA_BITS_CUT, ROW, SKIP, SKIPS
from .simd import (
    Floats,
    Vector,
    as_bfloat16,
    as_float16,
    at,
    copy,
    fma,
    function,
    inline,
    larger,
    load,
    load16,
    smaller,
    splat16,
    stack,
    store,
    total,
)

WIDE_ROW = (2 + WIDE + 2) * 16  # two empty bands at either end: conv1 reaches that far
ALL_WIDE, ALL_DEEP = np.int64(WIDE), np.int64(DEEP_BANDS)
NEXT, NEXT_BUT_ONE = np.int64(16), np.int64(32)
FLOAT16, BFLOAT16 = MANTISSA_BITS_CUT["float16"], MANTISSA_BITS_CUT["bfloat16"]


# Skips. Rows of 65 bands are computed as 66: there is an empty band to spare.


@inline
def level_at(skips: Floats, level: int) -> Floats:
    """The first band of an encoder level's output, or of what is cached of it."""
    return at(skips, 32 if level == 0 else WIDE_ROW + (level - 1) * ROW + 16)


@inline
def fill(y: Floats, bands: int, value: Vector) -> None:
    for n in range(0, bands * 16, 16):
        store(y, n, value)


@function
def add_product(x: Floats, step: int, kernel: Floats, bands: int, y: Floats) -> None:
    """``y += x @ kernel`` for all 16 channels of a band; `step` numbers to the next one in `x`."""
    for band in range(0, bands, 3):
        a, b, c = conv(x, band * step, step, 1, 16, 16, kernel, splat16(0.0))
        n = band * 16
        store3(y, n, 16, load16(y, n) + a, load16(y, n + 16) + b, load16(y, n + 32) + c)


@function
def cache_skips(skips: Floats, features: Floats, w: Floats, inputs: Floats) -> None:
    """Compress and round all levels where they lie, and the input features into `inputs`."""
    y = stack(WIDE_ROW)
    for level in range(5):
        x, bands = level_at(skips, level), WIDE if level == 0 else DEEP_BANDS
        skip = at(w, SKIPS.sources + (level + 1) * SKIP.size)
        if load(skip, SKIP.compresses) > 0:
            fill(y, bands, load16(skip, SKIP.bias))
            add_product(x, NEXT, at(skip, SKIP.kernel), bands, y)
            copy(x, y, bands * 16)
        round_skip(x, w, bands)
    skip = at(w, SKIPS.sources)
    bias = load16(skip, SKIP.bias)
    for band in range(0, WIDE, 3):  # every second band, with its neighbours
        a, b, c = conv3(features, (band + 1) * 8, 8, 3, 4, at(skip, SKIP.kernel), bias)
        store3(inputs, band * 16, 16, a, b, c)
    round_skip(inputs, w, ALL_WIDE)


@function
def round_skip(x: Floats, w: Floats, bands: int) -> None:
    """To what half precision can hold; float16 saturates."""
    cut = int(load(w, SKIPS.rounding))
    if cut == FLOAT16:
        for n in range(0, bands * 16, 16):
            a = larger(smaller(load16(x, n), splat16(65504.0)), splat16(-65504.0))
            store(x, n, as_float16(a))
    elif cut == BFLOAT16:
        for n in range(0, bands * 16, 16):
            store(x, n, as_bfloat16(load16(x, n)))


@function
def restore(skips: Floats, inputs: Floats, w: Floats, bands: int, y: Floats) -> None:
    """``W [e1, e2, ...]`` of all that the decoder level takes, aligned with its bands."""
    fill(y, bands, load16(w, FUSION.restore_bias))
    is_deep = bands == DEEP_BANDS
    deep = y if is_deep else stack(BARE_ROW)
    for source in range(6):
        if load(w, FUSION.takes + source) > 0:
            kernel = at(w, FUSION.restore + source * 256)
            if source > 1:
                add_product(level_at(skips, source - 1), NEXT, kernel, ALL_DEEP, deep)
            else:
                x = level_at(skips, 0) if source == 1 else inputs
                add_product(x, NEXT_BUT_ONE if is_deep else NEXT, kernel, bands, y)
    if not is_deep:
        for n in range(0, BARE_ROW - 16, 16):
            a, b = load16(deep, n), load16(deep, n + 16)
            store(y, 2 * n, load16(y, 2 * n) + a)
            store(y, 2 * n + 16, fma(a + b, splat16(0.5), load16(y, 2 * n + 16)))
        n = BARE_ROW - 16
        store(y, 2 * n, load16(y, 2 * n) + load16(deep, n))


@function
def fuse(
    x: Floats, mirror: Floats, skips: Floats, inputs: Floats, w: Floats, bands: int, y: Floats
) -> None:
    """`fusion.Fusion`: a decoder level takes in its skips. Without empty bands; `y` may be `x`."""
    skip = mirror
    if load(w, FUSION.restores) > 0:
        skip = stack(WIDE_ROW)
        restore(skips, inputs, w, bands, skip)
    kind, end = int(load(w, FUSION.kind)), bands * 16
    if kind == ADD:
        for n in range(0, end, 16):
            store(y, n, load16(x, n) + load16(skip, n))
    elif kind == CONCAT:
        add_product(x, NEXT, at(w, FUSION.from_below), bands, skip)
        copy(y, skip, end)
    elif kind == ATTEND:
        from_skip, from_below = load16(w, FUSION.from_skip), load16(w, FUSION.from_below)
        bias = load(w, FUSION.bias)
        for n in range(0, end, 16):
            e, d = load16(skip, n), load16(x, n)
            alpha = splat16(total(fma(e, from_skip, d * from_below)) + bias)
            store(y, n, fma(sigmoid_of_double(alpha), e - d, d))
    elif kind == GATE:
        gates = stack(WIDE_ROW)
        fill(gates, bands, load16(w, FUSION.bias))
        add_product(skip, NEXT, at(w, FUSION.from_skip), bands, gates)
        add_product(x, NEXT, at(w, FUSION.from_below), bands, gates)
        for n in range(0, end, 16):
            e, d = load16(skip, n), load16(x, n)
            store(y, n, fma(sigmoid_of_double(load16(gates, n)), e - d, d))
    else:
        for n in range(0, end, 16):
            store(y, n, load16(x, n))
