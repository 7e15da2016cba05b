"""The layers of the network as compiled functions, in vectors of 16."""

from __future__ import annotations

import numpy as np

from ..network.config import BANDS, BINS, DEEP_BANDS, ERB_BANDS, LOW_BINS
from .layout import (
    ATTENTION,
    CONV0,
    CONV1,
    DECONV3,
    DECONV4,
    DUAL_PATH,
    ERB,
    GT_BLOCK,
    HIGH_BINS,
    INTER,
    INTRA,
    NORM,
    ROW,
)
from .simd import (
    Floats,
    Vector,
    alternate_fours,
    at,
    copy,
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
    interleave,
    join,
    larger,
    load,
    load8,
    load16,
    low_half,
    smaller,
    splat8,
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

WIDE = 65  # bands between the two convolutions that halve them
BIN_ROW = BINS * 4
BARE_ROW = DEEP_BANDS * 16  # 33 bands, none empty
HALF_ROW = DEEP_BANDS * 8
GATE_ROW = DEEP_BANDS * 48
ZERO = np.float32(0)
MAGNITUDE_FLOOR = np.float32(1e-12)
TINY = np.float32(
    1e-20
)  # input below this is silence: its products would be denormal, which is slow


# Activations


@inline
def tanh(x: Vector) -> Vector:
    """Within 5e-7 of the hyperbolic tangent: a minimax quotient of polynomials on [-8.5, 8.5].

    That is float32's own rounding. A coarser one will not do: an error of 6e-7 that has the same
    sign at every step adds up in the recurrences, to hundreds of times as much in the output.
    """
    x = larger(smaller(x, splat16(8.5)), splat16(-8.5))
    s = x * x
    s2 = s * s
    p = fma(s, splat16(2.1121576434626245e-05), splat16(0.0035258193792570124))
    p = fma(s2, splat16(1.4099260753999864e-08), p)
    p = fma(s2, p, fma(s, splat16(0.13406206036457638), splat16(0.9999999455054254)))
    q = fma(s, splat16(0.00033356906774702373), splat16(0.02599113567353227))
    q = fma(s2, splat16(8.073623997938967e-07), q)
    q = fma(s2, q, fma(s, splat16(0.4673951741845252), splat16(1.0)))
    return x * p / q


@inline
def sigmoid_of_double(x: Vector) -> Vector:
    """``sigmoid(2 x)``: the weights that lead here are halved."""
    return fma(tanh(x), splat16(0.5), splat16(0.5))


@inline
def prelu(x: Vector, slope: Vector) -> Vector:
    zero = splat16(0.0)
    return fma(smaller(x, zero), slope, larger(x, zero))


# Convolutions: sums over a window of taps x inputs, for three windows `step` apart. Each sum is
# made of two halves: a product takes four cycles to be added, so that three sums leave gaps.


@inline
def conv3(
    x: Floats, first: int, step: int, taps: int, row: int, kernel: Floats, a: Vector
) -> tuple[Vector, Vector, Vector]:
    """Three inputs of a band reach all 16 outputs. Starts from `a`."""
    b = c = a
    for tap in range(taps):
        for channel in range(3):
            w = load16(kernel, (tap * 3 + channel) * 16)
            n = first + tap * row + channel
            a = fma(splat16(load(x, n)), w, a)
            b = fma(splat16(load(x, n + step)), w, b)
            c = fma(splat16(load(x, n + 2 * step)), w, c)
    return a, b, c


@inline
def conv(
    x: Floats, first: int, step: int, taps: int, row: int, inputs: int, kernel: Floats, a: Vector
) -> tuple[Vector, Vector, Vector]:
    """An even number of inputs of a band reach all 16 outputs. Starts from `a`."""
    b = c = a
    d = e = f = splat16(0.0)
    for tap in range(taps):
        for channel in range(0, inputs, 2):
            w, v = (
                load16(kernel, (tap * inputs + channel) * 16),
                load16(kernel, (tap * inputs + channel) * 16 + 16),
            )
            n = first + tap * row + channel
            a = fma(splat16(load(x, n)), w, a)
            b = fma(splat16(load(x, n + step)), w, b)
            c = fma(splat16(load(x, n + 2 * step)), w, c)
            d = fma(splat16(load(x, n + 1)), v, d)
            e = fma(splat16(load(x, n + step + 1)), v, e)
            f = fma(splat16(load(x, n + 2 * step + 1)), v, f)
    return a + d, b + e, c + f


@inline
def grouped(
    x: Vector, kernel: Floats, n: int, step: int, a: Vector, b: Vector
) -> tuple[Vector, Vector]:
    """Two groups of 8 inputs, the halves of `x`, and 8 outputs each: a sum in two parts."""
    a = fma(half0(x), load16(kernel, n), a)
    b = fma(half1(x), load16(kernel, n + step), b)
    a = fma(half2(x), load16(kernel, n + 2 * step), a)
    b = fma(half3(x), load16(kernel, n + 3 * step), b)
    a = fma(half4(x), load16(kernel, n + 4 * step), a)
    b = fma(half5(x), load16(kernel, n + 5 * step), b)
    a = fma(half6(x), load16(kernel, n + 6 * step), a)
    b = fma(half7(x), load16(kernel, n + 7 * step), b)
    return a, b


@inline
def grouped_conv(
    x: Floats, first: int, step: int, taps: int, kernel: Floats, a: Vector
) -> tuple[Vector, Vector, Vector]:
    """Two groups of 8 inputs and 8 outputs. Starts from `a`."""
    b = c = a
    d = e = f = splat16(0.0)
    for tap in range(taps):
        n, k = first + tap * 16, tap * 128
        a, d = grouped(load16(x, n), kernel, k, 16, a, d)
        b, e = grouped(load16(x, n + step), kernel, k, 16, b, e)
        c, f = grouped(load16(x, n + 2 * step), kernel, k, 16, c, f)
    return a + d, b + e, c + f


@inline
def store3(y: Floats, n: int, step: int, a: Vector, b: Vector, c: Vector) -> None:
    store(y, n, a)
    store(y, n + step, b)
    store(y, n + 2 * step, c)


# Between 257 bins and 129 bands


@inline
def audible(x: float) -> float:
    return x if abs(x) > TINY else ZERO


@function
def features(spectrum: Floats, w: Floats, y: Floats) -> None:
    """Magnitude, real and imaginary part in 129 bands; `y` starts three bands early."""
    bins = stack(BIN_ROW)
    for n in range(BINS):
        real = audible(load(spectrum, 2 * n))
        imag = audible(load(spectrum, 2 * n + 1))
        store(bins, 4 * n, sqrt(real * real + imag * imag + MAGNITUDE_FLOOR))
        store(bins, 4 * n + 1, real)
        store(bins, 4 * n + 2, imag)
    copy(at(y, 3 * 4), bins, LOW_BINS * 4)
    compress(at(bins, LOW_BINS * 4), w, at(y, (3 + LOW_BINS) * 4))


@inline
def compress(bins: Floats, w: Floats, y: Floats) -> None:
    """The bins from 65 on, pooled into 64 bands."""
    tap = ERB.pool
    for band in range(ERB_BANDS):
        magnitude = real = imag = ZERO
        for n in range(int(load(w, ERB.first_bin + band)), int(load(w, ERB.last_bin + band)) + 1):
            weight = load(w, tap)
            magnitude += weight * load(bins, 4 * n)
            real += weight * load(bins, 4 * n + 1)
            imag += weight * load(bins, 4 * n + 2)
            tap += 1
        store(y, 4 * band, magnitude)
        store(y, 4 * band + 1, real)
        store(y, 4 * band + 2, imag)


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


# Convolutions that halve and double the bands


@function
def conv0(x: Floats, w: Floats, y: Floats) -> None:
    """SFE and convolution in one: 129 bands of 3 features to 65 bands of 16 channels."""
    bias, slope = load16(w, CONV0.bias), load16(w, CONV0.slope)
    first, _, _ = conv3(x, 0, 0, 7, 4, at(w, CONV0.first), bias)
    store(y, 0, prelu(first, slope))
    for band in range(1, WIDE - 1, 3):
        a, b, c = conv3(x, band * 8, 8, 7, 4, at(w, CONV0.inner), bias)
        store3(y, band * 16, 16, prelu(a, slope), prelu(b, slope), prelu(c, slope))
    last, _, _ = conv3(x, (WIDE - 1) * 8, 0, 7, 4, at(w, CONV0.last), bias)
    store(y, (WIDE - 1) * 16, prelu(last, slope))


@function
def conv1(x: Floats, w: Floats, y: Floats) -> None:
    """65 bands to 33; `x` starts two bands early."""
    bias, slope = load16(w, CONV1.bias), load16(w, CONV1.slope)
    for band in range(0, DEEP_BANDS, 3):
        a, b, c = grouped_conv(x, band * 32, 32, 5, at(w, CONV1.kernel), bias)
        store3(y, band * 16, 16, prelu(a, slope), prelu(b, slope), prelu(c, slope))


@function
def deconv3(x: Floats, w: Floats, y: Floats) -> None:
    """33 bands to 65; `x` starts one band early."""
    bias, slope = load16(w, DECONV3.bias), load16(w, DECONV3.slope)
    for band in range(0, DEEP_BANDS, 3):
        a, b, c = grouped_conv(x, band * 16, 16, 3, at(w, DECONV3.even), bias)
        store3(y, band * 32, 32, prelu(a, slope), prelu(b, slope), prelu(c, slope))
        a, b, c = grouped_conv(x, band * 16 + 16, 16, 2, at(w, DECONV3.odd), bias)
        store3(y, band * 32 + 16, 32, prelu(a, slope), prelu(b, slope), prelu(c, slope))
    store(y, WIDE * 16, splat16(0.0))  # the last odd one is past the end


@function
def deconv4(x: Floats, w: Floats, y: Floats) -> None:
    """65 bands of 16 channels to 129 of 2, the mask; `x` starts one band early."""
    for band in range(WIDE):
        a, b, c = load16(x, band * 16), load16(x, band * 16 + 16), load16(x, band * 16 + 32)
        for part in range(2):  # real, imaginary
            bias = load(w, DECONV4.bias + part)
            even = at(w, DECONV4.even + part * 48)
            z = fma(c, load16(even, 32), fma(b, load16(even, 16), a * load16(even, 0)))
            store(y, band * 4 + part, total(z) + bias)
            odd = at(w, DECONV4.odd + part * 32)
            z = fma(c, load16(odd, 16), b * load16(odd, 0))
            store(y, band * 4 + 2 + part, total(z) + bias)
    for n in range(0, 2 * (BANDS + 1), 16):
        store(y, n, tanh(load16(y, n)))


# Grouped temporal block


@function
def gt_block(x: Floats, w: Floats, state: Floats, dilation: int, frame: int, y: Floats) -> None:
    """33 bands to 33; `x` and `y` start one band early. A new frame takes its place in `state`."""
    past = 2 * dilation
    oldest = at(state, frame % past * ROW)
    between = at(state, (frame + dilation) % past * ROW)
    hidden = at(state, past * ROW)

    h = stack(ROW)
    point_conv1(x, w, at(h, 16))
    deep = stack(ROW)
    depth_conv(oldest, between, h, w, deep)
    copy(oldest, h, ROW)
    processed = stack(HALF_ROW)
    energy = stack(8)
    point_conv2(deep, w, processed, energy)
    gain = attention(energy, w, hidden)
    for band in range(DEEP_BANDS):
        seen = load8(processed, band * 8) * gain
        passed = load8(x, band * 16 + 24)
        store(y, band * 16 + 16, interleave(seen, passed))


@inline
def point_conv1(x: Floats, w: Floats, y: Floats) -> None:
    """SFE and the 1x1 convolution after it are one of 3 taps over the first 8 channels."""
    bias, slope = load16(w, GT_BLOCK.point1_bias), load16(w, GT_BLOCK.point1_slope)
    for band in range(0, DEEP_BANDS, 3):
        a, b, c = conv(x, band * 16, 16, 3, 16, 8, at(w, GT_BLOCK.point1), bias)
        store3(y, band * 16, 16, prelu(a, slope), prelu(b, slope), prelu(c, slope))


@inline
def depth_conv(oldest: Floats, between: Floats, now: Floats, w: Floats, y: Floats) -> None:
    """Each channel by itself, over three frames and three bands."""
    bias, slope = load16(w, GT_BLOCK.depth_bias), load16(w, GT_BLOCK.depth_slope)
    for band in range(DEEP_BANDS):
        a = bias
        for tap in range(3):
            n, k = (band + tap) * 16, GT_BLOCK.depth + tap * 16
            a = fma(load16(oldest, n), load16(w, k), a)
            a = fma(load16(between, n), load16(w, k + 48), a)
            a = fma(load16(now, n), load16(w, k + 96), a)
        store(y, band * 16, prelu(a, slope))


@inline
def point_conv2(x: Floats, w: Floats, y: Floats, energy: Floats) -> None:
    """16 channels to 8, and for each of those the sum of its squares."""
    bias = load8(w, GT_BLOCK.point2_bias)
    squares = splat8(0.0)
    for band in range(0, DEEP_BANDS, 3):
        a = b = c = bias
        for channel in range(16):
            kernel = load8(w, GT_BLOCK.point2 + channel * 8)
            n = band * 16 + channel
            a = fma(splat8(load(x, n)), kernel, a)
            b = fma(splat8(load(x, n + 16)), kernel, b)
            c = fma(splat8(load(x, n + 32)), kernel, c)
        store3(y, band * 8, 8, a, b, c)
        squares = fma(c, c, fma(b, b, fma(a, a, squares)))
    store(energy, 0, squares)


@inline
def attention(energy: Floats, w: Floats, hidden: Floats) -> Vector:
    """TRA: the gain of each of 8 channels."""
    gru = at(w, GT_BLOCK.attention)
    r, z, n = (
        load16(gru, ATTENTION.bias),
        load16(gru, ATTENTION.bias + 16),
        load16(gru, ATTENTION.bias + 32),
    )
    m = load16(gru, ATTENTION.recurrent_bias)
    for channel in range(8):
        x, k = splat16(load(energy, channel)), ATTENTION.kernel + channel * 48
        r = fma(x, load16(gru, k), r)
        z = fma(x, load16(gru, k + 16), z)
        n = fma(x, load16(gru, k + 32), n)
    for channel in range(16):
        x, k = splat16(load(hidden, channel)), ATTENTION.recurrent + channel * 48
        r = fma(x, load16(gru, k), r)
        z = fma(x, load16(gru, k + 16), z)
        m = fma(x, load16(gru, k + 32), m)
    store(hidden, 0, gru_step(r, z, n, m, load16(hidden, 0)))

    gain = load8(w, GT_BLOCK.gain_bias)
    for channel in range(16):
        kernel = load8(w, GT_BLOCK.gain + channel * 8)
        gain = fma(splat8(load(hidden, channel)), kernel, gain)
    return low_half(sigmoid_of_double(join(gain, gain)))


@inline
def gru_step(r: Vector, z: Vector, n: Vector, m: Vector, h: Vector) -> Vector:
    """The next hidden numbers.

    From what leads to the reset gate, to the update gate, and to the new value (`n` from the
    input, `m` from `h`, which is reset), and the hidden numbers before.
    """
    n = tanh(fma(sigmoid_of_double(r), m, n))
    return fma(sigmoid_of_double(z), h - n, n)


# Dual path


@function
def dual_path(x: Floats, w: Floats, hidden: Floats, y: Floats) -> None:
    """Over the bands of the frame, then over the frames of a band; `x`, `y` without empty bands."""
    h = stack(BARE_ROW)
    intra_rnn(x, at(w, DUAL_PATH.intra), h)
    add_norm(x, h, at(w, DUAL_PATH.intra_norm), y)
    inter_rnn(y, at(w, DUAL_PATH.inter), hidden)
    add_norm(y, hidden, at(w, DUAL_PATH.inter_norm), y)


@inline
def project(x: Floats, kernel: Floats, bias: Floats, gates: Floats) -> None:
    """What the input of a band contributes to the 48 gates of two groups, for all bands."""
    for gate in range(0, 48, 16):
        for band in range(0, DEEP_BANDS, 3):
            a = b = c = load16(bias, gate)
            d = e = f = splat16(0.0)
            n = band * 16
            a, d = grouped(load16(x, n), kernel, gate, 48, a, d)
            b, e = grouped(load16(x, n + 16), kernel, gate, 48, b, e)
            c, f = grouped(load16(x, n + 32), kernel, gate, 48, c, f)
            store3(gates, band * 48 + gate, 48, a + d, b + e, c + f)


@inline
def intra_rnn(x: Floats, w: Floats, y: Floats) -> None:
    """Four recurrences side by side, four lanes each: up and down the bands, for both groups.

    At step s the ones that go up are at band s, the others at band 32 - s.
    """
    gates = stack(GATE_ROW)
    project(x, at(w, INTRA.kernel), at(w, INTRA.bias), gates)
    hidden = stack(BARE_ROW)
    recurrent_bias = load16(w, INTRA.recurrent_bias)
    u = at(w, INTRA.recurrent)
    h = splat16(0.0)
    for step in range(DEEP_BANDS):
        up, down = step * 48, (DEEP_BANDS - 1 - step) * 48
        h0, h1, h2, h3 = spread0(h), spread1(h), spread2(h), spread3(h)
        r = alternate_fours(load16(gates, up), load16(gates, down))
        z = alternate_fours(load16(gates, up + 16), load16(gates, down + 16))
        n = alternate_fours(load16(gates, up + 32), load16(gates, down + 32))
        r = fma(h1, load16(u, 48), fma(h0, load16(u, 0), r))
        z = fma(h1, load16(u, 64), fma(h0, load16(u, 16), z))
        m = fma(h1, load16(u, 80), fma(h0, load16(u, 32), recurrent_bias))
        r = fma(h3, load16(u, 144), fma(h2, load16(u, 96), r))
        z = fma(h3, load16(u, 160), fma(h2, load16(u, 112), z))
        m = fma(h3, load16(u, 176), fma(h2, load16(u, 128), m))
        h = gru_step(r, z, n, m, h)
        store(hidden, step * 16, h)
    for band in range(DEEP_BANDS):
        up, down = load16(hidden, band * 16), load16(hidden, (DEEP_BANDS - 1 - band) * 16)
        store(y, band * 16, alternate_fours(up, down))


@inline
def inter_rnn(x: Floats, w: Floats, hidden: Floats) -> None:
    """One step in time of both groups, for each band by itself."""
    gates = stack(GATE_ROW)
    project(x, at(w, INTER.kernel), at(w, INTER.bias), gates)
    recurrent_bias = load16(w, INTER.recurrent_bias)
    u = at(w, INTER.recurrent)
    for band in range(DEEP_BANDS):
        r, z = load16(gates, band * 48), load16(gates, band * 48 + 16)
        n, m = load16(gates, band * 48 + 32), recurrent_bias
        h, zero = load16(hidden, band * 16), splat16(0.0)
        r, more_r = grouped(h, u, 0, 48, r, zero)
        z, more_z = grouped(h, u, 16, 48, z, zero)
        m, more_m = grouped(h, u, 32, 48, m, zero)
        store(hidden, band * 16, gru_step(r + more_r, z + more_z, n, m + more_m, h))


@inline
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
