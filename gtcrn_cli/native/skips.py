"""How a decoder level takes its skips, as compiled functions."""

from __future__ import annotations

import numpy as np

from ..network.config import DEEP_BANDS
from .activations import sigmoid_of_double
from .layers import BARE_ROW, WIDE, conv3, store3
from .layout import (
    ADD,
    ALL_CHANNELS,
    ATTEND,
    CONCAT,
    FEATURES_ONLY,
    FUSION,
    GATE,
    MANTISSA_BITS_CUT,
    ROOM,
    SECOND_CHANNELS,
    SKIP,
    SKIPS,
    WIDE_ROW,
)
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

ALL_WIDE, ALL_DEEP = np.int64(WIDE), np.int64(DEEP_BANDS)
FLOAT16, BFLOAT16 = MANTISSA_BITS_CUT["float16"], MANTISSA_BITS_CUT["bfloat16"]
DEEP_AND_ONE = BARE_ROW + 16


# Skips. Rows of 65 bands are computed as 66: there is an empty band to spare.


@inline
def level_at(room: Floats, level: int) -> Floats:
    """The first band of an encoder level's output, or of what is cached of it."""
    first = ROOM.level1 + 16 + (level - 1) * (ROOM.level2 - ROOM.level1)
    return at(room, ROOM.level0 + 32 if level == 0 else first)


# Products of inputs and a matrix, added to six sums: a weight is loaded once for three bands or
# six, a number once for the two levels that take it.


@inline
def for_one(
    x: Floats, step: int, w: Floats, every: int,
    a: Vector, b: Vector, c: Vector, d: Vector, e: Vector, f: Vector,
) -> tuple[Vector, Vector, Vector, Vector, Vector, Vector]:  # fmt: skip
    """Three bands `step` apart for one level, of which a sum is in two parts: a + d, b + e, c + f.

    All inputs of a band, or every second one.
    """
    for channel in range(0, 16, 2 * every):
        u, v = load16(w, channel * 16), load16(w, (channel + every) * 16)
        a = fma(splat16(load(x, channel)), u, a)
        b = fma(splat16(load(x, channel + step)), u, b)
        c = fma(splat16(load(x, channel + 2 * step)), u, c)
        d = fma(splat16(load(x, channel + every)), v, d)
        e = fma(splat16(load(x, channel + every + step)), v, e)
        f = fma(splat16(load(x, channel + every + 2 * step)), v, f)
    return a, b, c, d, e, f


@inline
def for_two(
    x: Floats, step: int, w: Floats, other: Floats, every: int,
    a: Vector, b: Vector, c: Vector, d: Vector, e: Vector, f: Vector,
) -> tuple[Vector, Vector, Vector, Vector, Vector, Vector]:  # fmt: skip
    """Three bands `step` apart for two levels, the second one's sums in d, e, f."""
    for channel in range(0, 16, every):
        u, v = load16(w, channel * 16), load16(other, channel * 16)
        p, q = splat16(load(x, channel)), splat16(load(x, channel + step))
        r = splat16(load(x, channel + 2 * step))
        a, b, c = fma(p, u, a), fma(q, u, b), fma(r, u, c)
        d, e, f = fma(p, v, d), fma(q, v, e), fma(r, v, f)
    return a, b, c, d, e, f


@inline
def input_for_six(
    x: Floats, step: int, weights: Floats, channel: int,
    a: Vector, b: Vector, c: Vector, d: Vector, e: Vector, f: Vector,
) -> tuple[Vector, Vector, Vector, Vector, Vector, Vector]:  # fmt: skip
    """One input of six bands `step` apart, for one level."""
    w = load16(weights, channel * 16)
    a = fma(splat16(load(x, channel)), w, a)
    b = fma(splat16(load(x, channel + step)), w, b)
    c = fma(splat16(load(x, channel + 2 * step)), w, c)
    d = fma(splat16(load(x, channel + 3 * step)), w, d)
    e = fma(splat16(load(x, channel + 4 * step)), w, e)
    f = fma(splat16(load(x, channel + 5 * step)), w, f)
    return a, b, c, d, e, f


@function
def add_product(x: Floats, kernel: Floats, bands: int, y: Floats, z: Floats) -> None:
    """``z = y + x @ kernel`` for all 16 channels of a band."""
    zero = splat16(0.0)
    for n in range(0, bands * 16, 48):
        a, b, c = load16(y, n), load16(y, n + 16), load16(y, n + 32)
        a, b, c, d, e, f = for_one(at(x, n), 16, kernel, 1, a, b, c, zero, zero, zero)
        store3(z, n, 16, a + d, b + e, c + f)


# What is cached


@function
def cache_skips(room: Floats, w: Floats) -> None:
    """Compress and round all levels where they lie, and the input features in a row of their own.

    Of those, a band is 16 numbers: as they come in four neighbours, or compressed.
    """
    y = stack(WIDE_ROW)
    for level in range(5):
        x, bands = level_at(room, level), WIDE if level == 0 else DEEP_BANDS
        skip = at(w, SKIPS.sources + (level + 1) * SKIP.size)
        if load(skip, SKIP.compresses) > 0:
            fill(y, bands, load16(skip, SKIP.bias))
            add_product(x, at(skip, SKIP.kernel), bands, y, y)
            copy(x, y, bands * 16)
        round_skip(x, w, bands)
    skip = at(w, SKIPS.sources)
    bias = load16(skip, SKIP.bias)
    features, inputs = at(room, ROOM.features + 8), at(room, ROOM.inputs)
    for band in range(0, WIDE, 3):  # every second band, with its neighbours
        x, n = at(features, band * 8), band * 16
        a, b, c = load16(x, 0), load16(x, 8), load16(x, 16)
        if load(skip, SKIP.compresses) > 0:
            a, b, c = conv3(x, 0, 8, 3, 4, at(skip, SKIP.kernel), bias)
        store3(inputs, n, 16, a, b, c)
    round_skip(inputs, w, ALL_WIDE)


@inline
def fill(y: Floats, bands: int, value: Vector) -> None:
    for n in range(0, bands * 16, 16):
        store(y, n, value)


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


# What a level takes of it: ``W [e1, e2, ...]``, aligned with its bands


@inline
def takes(w: Floats, level: int) -> int:
    """Which channels of an encoder level a decoder level takes; `w` is its fusion."""
    return int(load(w, FUSION.takes + 1 + level))


@inline
def matrix(w: Floats, source: int) -> Floats:
    return at(w, FUSION.restore + source * 256)


@function
def restore_two(room: Floats, w: Floats, other: Floats, y: Floats, z: Floats) -> None:
    """For two levels of 33 bands at a time."""
    for band in range(0, DEEP_BANDS, 3):
        a = b = c = load16(w, FUSION.restore_bias)
        d = e = f = load16(other, FUSION.restore_bias)
        for level in range(5):
            channels = max(takes(w, level), takes(other, level))
            step = 32 if level == 0 else 16
            x = at(level_at(room, level), band * step)
            u, v = matrix(w, level + 1), matrix(other, level + 1)
            if channels == ALL_CHANNELS:
                a, b, c, d, e, f = for_two(x, step, u, v, 1, a, b, c, d, e, f)
            elif channels == SECOND_CHANNELS:
                a, b, c, d, e, f = for_two(x, step, u, v, 2, a, b, c, d, e, f)
        store3(y, band * 16, 16, a, b, c)
        store3(z, band * 16, 16, d, e, f)


@function
def restore_wide(room: Floats, w: Floats, is_prepared: bool, y: Floats) -> None:
    """For the level of 65 bands, which takes the input features as well."""
    deep = stack(DEEP_AND_ONE)
    store(deep, BARE_ROW, splat16(0.0))
    for band in range(0, DEEP_BANDS, 3):
        a = b = c = d = e = f = splat16(0.0)
        for level in range(1, 5):
            x, u = at(level_at(room, level), band * 16), matrix(w, level + 1)
            if takes(w, level) == ALL_CHANNELS:
                a, b, c, d, e, f = for_one(x, 16, u, 1, a, b, c, d, e, f)
            elif takes(w, level) == SECOND_CHANNELS:
                a, b, c, d, e, f = for_one(x, 16, u, 2, a, b, c, d, e, f)
        store3(deep, band * 16, 16, a + d, b + e, c + f)

    bias, half = load16(w, FUSION.restore_bias), splat16(0.5)
    level0, inputs, step = level_at(room, 0), at(room, ROOM.features + 8), 8
    if is_prepared:
        inputs, step = at(room, ROOM.inputs), 16
    for band in range(0, WIDE, 6):
        a, c, e = load16(deep, band * 8), load16(deep, band * 8 + 16), load16(deep, band * 8 + 32)
        b, d, f = (a + c) * half, (c + e) * half, (e + load16(deep, band * 8 + 48)) * half
        a, b, c, d, e, f = a + bias, b + bias, c + bias, d + bias, e + bias, f + bias
        if takes(w, 0) > 0:
            x, u = at(level0, band * 16), matrix(w, 1)
            for channel in range(16):
                a, b, c, d, e, f = input_for_six(x, 16, u, channel, a, b, c, d, e, f)
        x, u = at(inputs, band * step), matrix(w, 0)
        if takes(w, -1) == FEATURES_ONLY:
            for neighbour in range(0, 12, 4):
                for channel in range(neighbour, neighbour + 3):
                    a, b, c, d, e, f = input_for_six(x, step, u, channel, a, b, c, d, e, f)
        elif takes(w, -1) == ALL_CHANNELS:
            for channel in range(16):
                a, b, c, d, e, f = input_for_six(x, step, u, channel, a, b, c, d, e, f)
        store3(y, band * 16, 16, a, b, c)
        store3(y, band * 16 + 48, 16, d, e, f)


@function
def fuse(x: Floats, mirror: Floats, restored: Floats, w: Floats, bands: int, y: Floats) -> None:
    """`fusion.Fusion`: a decoder level takes in its skips. Without empty bands; `y` may be `x`."""
    skip = restored if load(w, FUSION.restores) > 0 else mirror
    kind, end = int(load(w, FUSION.kind)), bands * 16
    if kind == ADD:
        for n in range(0, end, 16):
            store(y, n, load16(x, n) + load16(skip, n))
    elif kind == CONCAT:
        add_product(x, at(w, FUSION.from_below), bands, skip, y)
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
        add_product(skip, at(w, FUSION.from_skip), bands, gates, gates)
        add_product(x, at(w, FUSION.from_below), bands, gates, gates)
        for n in range(0, end, 16):
            e, d = load16(skip, n), load16(x, n)
            store(y, n, fma(sigmoid_of_double(load16(gates, n)), e - d, d))
    else:
        for n in range(0, end, 16):
            store(y, n, load16(x, n))
