"""The dual path: a recurrence over the bands of a frame, then one over the frames of a band."""

from __future__ import annotations

from ..network.config import DEEP_BANDS
from .activations import gru_step
from .layers import BARE_ROW, conv, store3, three
from .layout import DUAL_PATH, INTER, INTRA, NORM, ROOM
from .simd import (
    Floats,
    Vector,
    alternate_fours,
    at,
    fma,
    function,
    half0,
    half1,
    half2,
    half3,
    half4,
    half5,
    half6,
    half7,
    inline,
    load16,
    splat16,
    spread0,
    spread1,
    spread2,
    spread3,
    sqrt,
    stack,
    store,
    total,
)

GATE_ROW = DEEP_BANDS * 48
SUM_ROW = DEEP_BANDS * 64
TWO_GATE_ROWS, TWO_ROWS = 2 * GATE_ROW, 2 * BARE_ROW


@function
def dual_paths(x: Floats, w: Floats, hidden: Floats, y: Floats, frames: int) -> None:
    """Over the bands of each frame, then over the frames of a band.

    `x` and `y` are without empty bands, `ROOM.size` from frame to frame.
    """
    gates, h = stack(TWO_GATE_ROWS), stack(TWO_ROWS)
    intra = at(w, DUAL_PATH.intra)
    for t in range(0, frames, 2):
        contribute(at(x, t * ROOM.size), intra, gates)
        pair = min(frames - t, 2)
        if pair == 2:
            contribute(at(x, (t + 1) * ROOM.size), intra, at(gates, GATE_ROW))
            two_frames(gates, intra, h)
        else:
            one_frame(gates, intra, h)
        for n in range(pair):
            here, there = at(x, (t + n) * ROOM.size), at(y, (t + n) * ROOM.size)
            add_norm(here, at(h, n * BARE_ROW), at(w, DUAL_PATH.intra_norm), there)
            inter_rnn(there, at(w, DUAL_PATH.inter), hidden)
            add_norm(there, hidden, at(w, DUAL_PATH.inter_norm), there)


@inline
def grouped(
    x: Vector, kernel: Floats, r: Vector, z: Vector, m: Vector
) -> tuple[Vector, Vector, Vector]:
    """Two groups of 8 inputs, the halves of `x`, and three gates of 8 each: sums in two parts."""
    p = q = n = splat16(0.0)
    r, z, m = three(half0(x), kernel, 0, r, z, m)
    p, q, n = three(half1(x), kernel, 48, p, q, n)
    r, z, m = three(half2(x), kernel, 96, r, z, m)
    p, q, n = three(half3(x), kernel, 144, p, q, n)
    r, z, m = three(half4(x), kernel, 192, r, z, m)
    p, q, n = three(half5(x), kernel, 240, p, q, n)
    r, z, m = three(half6(x), kernel, 288, r, z, m)
    p, q, n = three(half7(x), kernel, 336, p, q, n)
    return r + p, z + q, m + n


# Over the bands: four recurrences side by side, four lanes each, up and down the bands, for both
# groups. At step s the ones that go up are at band s, the others at band 32 - s. A step has to wait
# for the one before; two frames at a time wait for each other.


@inline
def contribute(x: Floats, w: Floats, gates: Floats) -> None:
    """What the inputs contribute to three gates."""
    for band in range(DEEP_BANDS):
        r, z, n = grouped(
            load16(x, band * 16),
            at(w, INTRA.kernel),
            load16(w, INTRA.bias),
            load16(w, INTRA.bias + 16),
            load16(w, INTRA.bias + 32),
        )
        store3(gates, band * 48, 16, r, z, n)


@inline
def intra_step(gates: Floats, w: Floats, step: int, h: Vector) -> Vector:
    """The next hidden numbers."""
    up, down, u = step * 48, (DEEP_BANDS - 1 - step) * 48, at(w, INTRA.recurrent)
    r = alternate_fours(load16(gates, up), load16(gates, down))
    z = alternate_fours(load16(gates, up + 16), load16(gates, down + 16))
    n = alternate_fours(load16(gates, up + 32), load16(gates, down + 32))
    p = q = k = splat16(0.0)
    r, z, m = three(spread0(h), u, 0, r, z, load16(w, INTRA.recurrent_bias))
    r, z, m = three(spread1(h), u, 48, r, z, m)
    p, q, k = three(spread2(h), u, 96, p, q, k)
    p, q, k = three(spread3(h), u, 144, p, q, k)
    return gru_step(r + p, z + q, n, m + k, h)


@inline
def by_band(hidden: Floats, y: Floats) -> None:
    """From the order of steps to that of bands."""
    for band in range(DEEP_BANDS):
        up, down = load16(hidden, band * 16), load16(hidden, (DEEP_BANDS - 1 - band) * 16)
        store(y, band * 16, alternate_fours(up, down))


@function
def one_frame(gates: Floats, w: Floats, y: Floats) -> None:
    hidden = stack(BARE_ROW)
    h = splat16(0.0)
    for step in range(DEEP_BANDS):
        h = intra_step(gates, w, step, h)
        store(hidden, step * 16, h)
    by_band(hidden, y)


@function
def two_frames(gates: Floats, w: Floats, y: Floats) -> None:
    hidden = stack(TWO_ROWS)
    g = h = splat16(0.0)
    for step in range(DEEP_BANDS):
        g = intra_step(gates, w, step, g)
        h = intra_step(at(gates, GATE_ROW), w, step, h)
        store(hidden, step * 16, g)
        store(hidden, step * 16 + BARE_ROW, h)
    by_band(hidden, y)
    by_band(at(hidden, BARE_ROW), at(y, BARE_ROW))


@function
def inter_rnn(x: Floats, w: Floats, hidden: Floats) -> None:
    """One step in time of both groups, for each band by itself.

    Sums and activations in loops of their own: so a CPU can look far enough ahead to fill its time.
    """
    kernel, u, bias = at(w, INTER.kernel), at(w, INTER.recurrent), at(w, INTER.bias)
    sums = stack(SUM_ROW)
    for band in range(DEEP_BANDS):
        h, k = load16(hidden, band * 16), band * 64
        r, z, n = grouped(
            load16(x, band * 16), kernel, load16(bias, 0), load16(bias, 16), load16(bias, 32)
        )
        r, z, m = grouped(h, u, r, z, load16(w, INTER.recurrent_bias))
        store3(sums, k, 16, r, z, n)
        store(sums, k + 48, m)
    for band in range(DEEP_BANDS):
        h, k = load16(hidden, band * 16), band * 64
        r, z, n, m = (
            load16(sums, k),
            load16(sums, k + 16),
            load16(sums, k + 32),
            load16(sums, k + 48),
        )
        store(hidden, band * 16, gru_step(r, z, n, m, h))


@function
def add_norm(x: Floats, h: Floats, w: Floats, y: Floats) -> None:
    """``y = x + LayerNorm(linear(h))``, the norm over all bands and channels."""
    z = stack(BARE_ROW)
    bias = load16(w, NORM.bias)
    sums = splat16(0.0)
    for band in range(0, BARE_ROW, 48):
        a, b, c = conv(h, band, 16, 1, 16, 16, at(w, NORM.kernel), bias)
        store3(z, band, 16, a, b, c)
        sums = sums + (a + b + c)
    mean = splat16(total(sums) / BARE_ROW)
    squares = splat16(0.0)
    for band in range(0, BARE_ROW, 16):
        a = load16(z, band) - mean
        squares = fma(a, a, squares)
    scale = splat16(1 / sqrt(total(squares) / BARE_ROW + 1e-8))
    for band in range(0, BARE_ROW, 16):
        a = (load16(z, band) - mean) * scale
        a = fma(a, load16(w, NORM.scale + band), load16(w, NORM.shift + band))
        store(y, band, load16(x, band) + a)
