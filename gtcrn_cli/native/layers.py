"""The convolutions of the network as compiled functions, in vectors of 16."""

from __future__ import annotations

from ..network.config import BANDS, DEEP_BANDS
from .activations import gru_step, prelu, sigmoid_of_double, tanh
from .layout import (
    ATTENTION,
    CONV0,
    CONV1,
    DECONV3,
    DECONV4,
    FRAMES,
    GT_BLOCK,
    ROOM,
    ROW,
)
from .simd import (
    Floats,
    Vector,
    at,
    clear_ends,
    fma,
    function,
    inline,
    interleave,
    join,
    load,
    load4,
    load8,
    load16,
    low_half,
    splat8,
    splat16,
    stack,
    store,
)

WIDE = 65  # bands between the two convolutions that halve them
BARE_ROW = DEEP_BANDS * 16  # 33 bands, none empty
HALF_ROW = DEEP_BANDS * 8
HALF_ROWS, ALL_ENERGY = FRAMES * HALF_ROW, FRAMES * 8
PARTS_ROW = (1 + WIDE + 1) * 16


# Convolutions: sums over a window of taps x inputs, for three windows `step` apart. Each sum is
# made of two halves: a product takes four cycles to be added, so that three sums leave gaps. All
# taps of an input come before the next input: so a number is loaded once for the windows it is in.


@inline
def conv3(
    x: Floats, first: int, step: int, taps: int, row: int, kernel: Floats, a: Vector
) -> tuple[Vector, Vector, Vector]:
    """Three inputs of a band reach all 16 outputs. Starts from `a`."""
    b = c = a
    for channel in range(3):
        for tap in range(taps):
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
    for channel in range(0, inputs, 2):
        for tap in range(taps):
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
def grouped_conv(
    x: Floats, first: int, step: int, taps: int, kernel: Floats, bias: Floats
) -> tuple[Vector, Vector, Vector]:
    """Two groups of 8 inputs and 8 outputs. Starts from `bias`."""
    a = b = c = load8(bias, 0)
    d = e = f = load8(bias, 8)
    for channel in range(8):
        for tap in range(taps):
            n, k = first + tap * 16 + channel, (tap * 8 + channel) * 16
            w, v = load8(kernel, k), load8(kernel, k + 8)
            a = fma(splat8(load(x, n)), w, a)
            b = fma(splat8(load(x, n + step)), w, b)
            c = fma(splat8(load(x, n + 2 * step)), w, c)
            d = fma(splat8(load(x, n + 8)), v, d)
            e = fma(splat8(load(x, n + step + 8)), v, e)
            f = fma(splat8(load(x, n + 2 * step + 8)), v, f)
    return join(a, d), join(b, e), join(c, f)


@inline
def three(
    x: Vector, kernel: Floats, n: int, r: Vector, z: Vector, m: Vector
) -> tuple[Vector, Vector, Vector]:
    """What one input contributes to three gates of a GRU."""
    r = fma(x, load16(kernel, n), r)
    z = fma(x, load16(kernel, n + 16), z)
    m = fma(x, load16(kernel, n + 32), m)
    return r, z, m


@inline
def store3(y: Floats, n: int, step: int, a: Vector, b: Vector, c: Vector) -> None:
    store(y, n, a)
    store(y, n + step, b)
    store(y, n + 2 * step, c)


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
    slope = load16(w, CONV1.slope)
    for band in range(0, DEEP_BANDS, 3):
        a, b, c = grouped_conv(x, band * 32, 32, 5, at(w, CONV1.kernel), at(w, CONV1.bias))
        store3(y, band * 16, 16, prelu(a, slope), prelu(b, slope), prelu(c, slope))


@function
def deconv3(x: Floats, w: Floats, y: Floats) -> None:
    """33 bands to 65; `x` starts one band early."""
    bias, slope = at(w, DECONV3.bias), load16(w, DECONV3.slope)
    for band in range(0, DEEP_BANDS, 3):
        a, b, c = grouped_conv(x, band * 16, 16, 3, at(w, DECONV3.even), bias)
        store3(y, band * 32, 32, prelu(a, slope), prelu(b, slope), prelu(c, slope))
        a, b, c = grouped_conv(x, band * 16 + 16, 16, 2, at(w, DECONV3.odd), bias)
        store3(y, band * 32 + 16, 32, prelu(a, slope), prelu(b, slope), prelu(c, slope))
    store(y, WIDE * 16, splat16(0.0))  # the last odd one is past the end


@function
def deconv4(x: Floats, w: Floats, y: Floats) -> None:
    """65 bands of 16 channels to 129 of 2, the mask; there is an empty band after the last one."""
    parts = stack(PARTS_ROW)  # of the sums, by band, an empty one before them
    zero = splat16(0.0)
    store(parts, 0, zero)
    for n in range(0, (WIDE + 1) * 16, 48):
        a, b, c = conv(x, n, 16, 1, 16, 16, at(w, DECONV4.kernel), zero)
        store3(parts, n + 16, 16, a, b, c)
    bias = load4(w, DECONV4.bias)
    for band in range(WIDE):
        here = at(parts, band * 16)
        store(y, band * 4, bias + load4(here, 8) + load4(here, 16 + 4) + load4(here, 32))
    for n in range(0, 2 * (BANDS + 1), 16):
        store(y, n, tanh(load16(y, n)))


# Grouped temporal block


@function
def gt_block(
    x: Floats,
    w: Floats,
    state: Floats,
    dilation: int,
    frame: int,
    y: Floats,
    frames: int,
) -> None:
    """33 bands to 33, for the frames from number `frame` on; they take their places in `state`.

    `x` and `y` start one band early, and are `ROOM.size` from frame to frame.
    """
    past = 2 * dilation
    hidden = at(state, past * ROW)
    h, deep = stack(ROW), stack(BARE_ROW)
    clear_ends(h, ROW, 16)
    processed, energy, gains = stack(HALF_ROWS), stack(ALL_ENERGY), stack(ALL_ENERGY)
    for t in range(frames):
        oldest = at(state, (frame + t) % past * ROW)
        between = at(state, (frame + t + dilation) % past * ROW)
        point_conv1(at(x, t * ROOM.size), w, at(h, 16))
        depth_conv(oldest, between, h, w, deep)
        point_conv2(deep, w, at(processed, t * HALF_ROW), at(energy, t * 8))
    for t in range(frames):
        attention(at(energy, t * 8), w, hidden, at(gains, t * 8))
    for t in range(frames):
        gain, here = load8(gains, t * 8), t * ROOM.size
        for band in range(DEEP_BANDS):
            seen = load8(processed, t * HALF_ROW + band * 8) * gain
            passed = load8(x, here + band * 16 + 24)
            store(y, here + band * 16 + 16, interleave(seen, passed))


@inline
def point_conv1(x: Floats, w: Floats, y: Floats) -> None:
    """SFE and the 1x1 convolution after it are one of 3 taps over the first 8 channels."""
    bias, slope = load16(w, GT_BLOCK.point1_bias), load16(w, GT_BLOCK.point1_slope)
    for band in range(0, DEEP_BANDS, 3):
        a, b, c = conv(x, band * 16, 16, 3, 16, 8, at(w, GT_BLOCK.point1), bias)
        store3(y, band * 16, 16, prelu(a, slope), prelu(b, slope), prelu(c, slope))


@inline
def three_taps(
    x: Floats, kernel: Floats, a: Vector, b: Vector, c: Vector
) -> tuple[Vector, Vector, Vector]:
    """Three bands of each channel reach the one between them, for three bands in a row."""
    u, v, w = load16(kernel, 0), load16(kernel, 16), load16(kernel, 32)
    d, e, f = load16(x, 16), load16(x, 32), load16(x, 48)
    a = fma(e, w, fma(d, v, fma(load16(x, 0), u, a)))
    b = fma(f, w, fma(e, v, fma(d, u, b)))
    c = fma(load16(x, 64), w, fma(f, v, fma(e, u, c)))
    return a, b, c


@inline
def depth_conv(oldest: Floats, between: Floats, now: Floats, w: Floats, y: Floats) -> None:
    """Each channel by itself, over three frames and three bands; `now` replaces `oldest`."""
    bias, slope = load16(w, GT_BLOCK.depth_bias), load16(w, GT_BLOCK.depth_slope)
    kernel = at(w, GT_BLOCK.depth)
    for band in range(0, DEEP_BANDS, 3):
        n = band * 16
        a, b, c = three_taps(at(oldest, n), kernel, bias, bias, bias)
        a, b, c = three_taps(at(between, n), at(kernel, 48), a, b, c)
        a, b, c = three_taps(at(now, n), at(kernel, 96), a, b, c)
        store3(y, n, 16, prelu(a, slope), prelu(b, slope), prelu(c, slope))
        for k in range(n + 16, n + 64, 16):  # the next bands do not look at these any more
            store(oldest, k - 16, load16(now, k - 16))
    for k in range(BARE_ROW, ROW, 16):
        store(oldest, k, load16(now, k))


@inline
def point_conv2(x: Floats, w: Floats, y: Floats, energy: Floats) -> None:
    """16 channels to 8, and for each of those the sum of its squares."""
    bias = load8(w, GT_BLOCK.point2_bias)
    squares = splat8(0.0)
    for band in range(0, DEEP_BANDS, 3):
        a = b = c = bias
        d = e = f = splat8(0.0)
        for channel in range(0, 16, 2):
            k = GT_BLOCK.point2 + channel * 8
            u, v = load8(w, k), load8(w, k + 8)
            n = band * 16 + channel
            a = fma(splat8(load(x, n)), u, a)
            b = fma(splat8(load(x, n + 16)), u, b)
            c = fma(splat8(load(x, n + 32)), u, c)
            d = fma(splat8(load(x, n + 1)), v, d)
            e = fma(splat8(load(x, n + 17)), v, e)
            f = fma(splat8(load(x, n + 33)), v, f)
        a, b, c = a + d, b + e, c + f
        store3(y, band * 8, 8, a, b, c)
        squares = fma(c, c, fma(b, b, fma(a, a, squares)))
    store(energy, 0, squares)


@inline
def attention(energy: Floats, w: Floats, hidden: Floats, gains: Floats) -> None:
    """TRA: the gain of each of 8 channels.

    The sums are in parts, as each frame has to wait for the one before.
    """
    gru, zero = at(w, GT_BLOCK.attention), splat16(0.0)
    r, z, n = (
        load16(gru, ATTENTION.bias),
        load16(gru, ATTENTION.bias + 16),
        load16(gru, ATTENTION.bias + 32),
    )
    for channel in range(8):
        x = splat16(load(energy, channel))
        r, z, n = three(x, at(gru, ATTENTION.kernel), channel * 48, r, z, n)
    m = load16(gru, ATTENTION.recurrent_bias)
    o = p = q = zero
    for channel in range(0, 16, 2):
        x, u = splat16(load(hidden, channel)), splat16(load(hidden, channel + 1))
        r, z, m = three(x, at(gru, ATTENTION.recurrent), channel * 48, r, z, m)
        o, p, q = three(u, at(gru, ATTENTION.recurrent), channel * 48 + 48, o, p, q)
    store(hidden, 0, gru_step(r + o, z + p, n, m + q, load16(hidden, 0)))

    gain, more = load8(w, GT_BLOCK.gain_bias), splat8(0.0)
    for channel in range(0, 16, 2):
        kernel = at(w, GT_BLOCK.gain + channel * 8)
        gain = fma(splat8(load(hidden, channel)), load8(kernel, 0), gain)
        more = fma(splat8(load(hidden, channel + 1)), load8(kernel, 8), more)
    gain = gain + more
    store(gains, 0, low_half(sigmoid_of_double(join(gain, gain))))
