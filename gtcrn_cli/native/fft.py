"""The real FFT of one frame, forward and back, in vectors of 8: `tables` says how it is laid out.

Real and imaginary parts are kept apart, in arrays of M = W / 2 numbers each.
"""

from __future__ import annotations

import numpy as np

from .simd import (
    Floats,
    Vector,
    at,
    copy,
    evens,
    fma,
    function,
    inline,
    interleave,
    load,
    load8,
    load16,
    odds,
    reversed8,
    splat8,
    stack,
    store,
    transpose8,
)
from .tables import (
    FACTORS_AT,
    PASSES_AT,
    PASSES_BEGIN,
    ROTATION_AT,
    ROWS_AT,
    SPLIT_AT,
)

HALF_ROOT_OF_3 = np.float32(np.sqrt(0.75))
HALF_ROOT = np.float32(np.sqrt(0.5))


@inline
def rotate(re: Vector, im: Vector, cos: Vector, sin: Vector) -> tuple[Vector, Vector]:
    """The complex product with ``cos + i sin``."""
    return re * cos - im * sin, fma(re, sin, im * cos)


# One pass over the columns: `x` and `y` are [rows, 8]. Row q + s (p + m j) goes with its like, j
# from 0 to the factor, to row q + s (factor p + k). So the order comes out right by itself.


@function
def pass2(
    x_re: Floats, x_im: Floats, y_re: Floats, y_im: Floats, w: Floats, m: int, s: int
) -> None:
    for p in range(m):
        cos, sin = splat8(load(w, 2 * p)), splat8(load(w, 2 * p + 1))
        for q in range(s):
            a, b = 8 * (q + s * p), 8 * (q + s * (p + m))
            a_re, a_im, b_re, b_im = load8(x_re, a), load8(x_im, a), load8(x_re, b), load8(x_im, b)
            n = 8 * (q + s * 2 * p)
            store(y_re, n, a_re + b_re)
            store(y_im, n, a_im + b_im)
            re, im = rotate(a_re - b_re, a_im - b_im, cos, sin)
            store(y_re, n + 8 * s, re)
            store(y_im, n + 8 * s, im)


@function
def pass4(
    x_re: Floats, x_im: Floats, y_re: Floats, y_im: Floats, w: Floats, m: int, s: int
) -> None:
    for p in range(m):
        cos1, sin1 = splat8(load(w, 6 * p)), splat8(load(w, 6 * p + 1))
        cos2, sin2 = splat8(load(w, 6 * p + 2)), splat8(load(w, 6 * p + 3))
        cos3, sin3 = splat8(load(w, 6 * p + 4)), splat8(load(w, 6 * p + 5))
        for q in range(s):
            n, step = 8 * (q + s * p), 8 * s * m
            a_re, a_im = load8(x_re, n), load8(x_im, n)
            b_re, b_im = load8(x_re, n + step), load8(x_im, n + step)
            c_re, c_im = load8(x_re, n + 2 * step), load8(x_im, n + 2 * step)
            d_re, d_im = load8(x_re, n + 3 * step), load8(x_im, n + 3 * step)
            sum_re, sum_im, gap_re, gap_im = a_re + c_re, a_im + c_im, a_re - c_re, a_im - c_im
            odd_re, odd_im, turn_re, turn_im = b_re + d_re, b_im + d_im, b_im - d_im, d_re - b_re
            n, step = 8 * (q + s * 4 * p), 8 * s
            store(y_re, n, sum_re + odd_re)
            store(y_im, n, sum_im + odd_im)
            re, im = rotate(gap_re + turn_re, gap_im + turn_im, cos1, sin1)
            store(y_re, n + step, re)
            store(y_im, n + step, im)
            re, im = rotate(sum_re - odd_re, sum_im - odd_im, cos2, sin2)
            store(y_re, n + 2 * step, re)
            store(y_im, n + 2 * step, im)
            re, im = rotate(gap_re - turn_re, gap_im - turn_im, cos3, sin3)
            store(y_re, n + 3 * step, re)
            store(y_im, n + 3 * step, im)


@function
def pass3(
    x_re: Floats, x_im: Floats, y_re: Floats, y_im: Floats, w: Floats, m: int, s: int
) -> None:
    half, root = splat8(0.5), splat8(HALF_ROOT_OF_3)
    for p in range(m):
        cos1, sin1 = splat8(load(w, 4 * p)), splat8(load(w, 4 * p + 1))
        cos2, sin2 = splat8(load(w, 4 * p + 2)), splat8(load(w, 4 * p + 3))
        for q in range(s):
            n, step = 8 * (q + s * p), 8 * s * m
            a_re, a_im = load8(x_re, n), load8(x_im, n)
            b_re, b_im = load8(x_re, n + step), load8(x_im, n + step)
            c_re, c_im = load8(x_re, n + 2 * step), load8(x_im, n + 2 * step)
            sum_re, sum_im = b_re + c_re, b_im + c_im
            turn_re, turn_im = (b_im - c_im) * root, (c_re - b_re) * root
            gap_re, gap_im = a_re - sum_re * half, a_im - sum_im * half
            n, step = 8 * (q + s * 3 * p), 8 * s
            store(y_re, n, a_re + sum_re)
            store(y_im, n, a_im + sum_im)
            re, im = rotate(gap_re + turn_re, gap_im + turn_im, cos1, sin1)
            store(y_re, n + step, re)
            store(y_im, n + step, im)
            re, im = rotate(gap_re - turn_re, gap_im - turn_im, cos2, sin2)
            store(y_re, n + 2 * step, re)
            store(y_im, n + 2 * step, im)


@function
def pass_odd(
    x_re: Floats,
    x_im: Floats,
    y_re: Floats,
    y_im: Floats,
    w: Floats,
    m: int,
    s: int,
    factor: int,
    scratch: Floats,
) -> None:
    """Any odd factor: sums and differences of the numbers that lie opposite, times cos and sin."""
    half = factor // 2
    circle = at(w, 2 * m * (factor - 1))
    for p in range(m):
        for q in range(s):
            n, step = 8 * (q + s * p), 8 * s * m
            first_re, first_im = load8(x_re, n), load8(x_im, n)
            all_re, all_im = first_re, first_im
            for j in range(1, half + 1):
                one, other = n + j * step, n + (factor - j) * step
                a_re, a_im, b_re, b_im = (
                    load8(x_re, one), load8(x_im, one), load8(x_re, other), load8(x_im, other)
                )  # fmt: skip
                store(scratch, 32 * j, a_re + b_re)
                store(scratch, 32 * j + 8, a_im + b_im)
                store(scratch, 32 * j + 16, a_re - b_re)
                store(scratch, 32 * j + 24, a_im - b_im)
                all_re, all_im = all_re + a_re + b_re, all_im + a_im + b_im
            n, step = 8 * (q + s * factor * p), 8 * s
            store(y_re, n, all_re)
            store(y_im, n, all_im)
            for k in range(1, half + 1):
                even_re, even_im = first_re, first_im
                odd_re = odd_im = splat8(0.0)
                for j in range(1, half + 1):
                    place = j * k % factor
                    cos, sin = splat8(load(circle, 2 * place)), splat8(load(circle, 2 * place + 1))
                    even_re = fma(load8(scratch, 32 * j), cos, even_re)
                    even_im = fma(load8(scratch, 32 * j + 8), cos, even_im)
                    odd_re = fma(load8(scratch, 32 * j + 24), sin, odd_re)
                    odd_im = fma(load8(scratch, 32 * j + 16), sin, odd_im)
                at_k = 2 * (p * (factor - 1) + k - 1)
                re, im = rotate(
                    even_re + odd_re, even_im - odd_im,
                    splat8(load(w, at_k)), splat8(load(w, at_k + 1)),
                )  # fmt: skip
                store(y_re, n + k * step, re)
                store(y_im, n + k * step, im)
                at_k = 2 * (p * (factor - 1) + factor - k - 1)
                re, im = rotate(
                    even_re - odd_re, even_im + odd_im,
                    splat8(load(w, at_k)), splat8(load(w, at_k + 1)),
                )  # fmt: skip
                store(y_re, n + (factor - k) * step, re)
                store(y_im, n + (factor - k) * step, im)


@inline
def four(
    a_re: Vector, a_im: Vector, b_re: Vector, b_im: Vector,
    c_re: Vector, c_im: Vector, d_re: Vector, d_im: Vector,
) -> tuple[Vector, Vector, Vector, Vector, Vector, Vector, Vector, Vector]:  # fmt: skip
    """A transform of four numbers; real and imaginary parts by turns."""
    sum_re, sum_im, gap_re, gap_im = a_re + c_re, a_im + c_im, a_re - c_re, a_im - c_im
    odd_re, odd_im, turn_re, turn_im = b_re + d_re, b_im + d_im, b_im - d_im, d_re - b_re
    return (
        sum_re + odd_re, sum_im + odd_im, gap_re + turn_re, gap_im + turn_im,
        sum_re - odd_re, sum_im - odd_im, gap_re - turn_re, gap_im - turn_im,
    )  # fmt: skip


@inline
def rotated_row(x_re: Floats, x_im: Floats, w: Floats, row: int) -> tuple[Vector, Vector]:
    return rotate(
        load8(x_re, 8 * row), load8(x_im, 8 * row), load8(w, 16 * row), load8(w, 16 * row + 8)
    )


@function
def rows8(x_re: Floats, x_im: Floats, y_re: Floats, y_im: Floats, w: Floats, rows: int) -> None:
    """Rotate, and transform the rows, 8 of them at a time: number k of row n goes to n + rows k."""
    for block in range((rows + 7) // 8):
        n = min(8 * block, rows - 8)  # the last ones once more rather than fewer than 8
        a_re, a_im = rotated_row(x_re, x_im, w, n)
        b_re, b_im = rotated_row(x_re, x_im, w, n + 1)
        c_re, c_im = rotated_row(x_re, x_im, w, n + 2)
        d_re, d_im = rotated_row(x_re, x_im, w, n + 3)
        e_re, e_im = rotated_row(x_re, x_im, w, n + 4)
        f_re, f_im = rotated_row(x_re, x_im, w, n + 5)
        g_re, g_im = rotated_row(x_re, x_im, w, n + 6)
        h_re, h_im = rotated_row(x_re, x_im, w, n + 7)
        a_re, b_re, c_re, d_re, e_re, f_re, g_re, h_re = transpose8(
            a_re, b_re, c_re, d_re, e_re, f_re, g_re, h_re
        )
        a_im, b_im, c_im, d_im, e_im, f_im, g_im, h_im = transpose8(
            a_im, b_im, c_im, d_im, e_im, f_im, g_im, h_im
        )
        p0, p0_im, p1, p1_im, p2, p2_im, p3, p3_im = four(
            a_re, a_im, c_re, c_im, e_re, e_im, g_re, g_im
        )
        q0, q0_im, q1, q1_im, q2, q2_im, q3, q3_im = four(
            b_re, b_im, d_re, d_im, f_re, f_im, h_re, h_im
        )
        root = splat8(HALF_ROOT)
        q1, q1_im = (q1 + q1_im) * root, (q1_im - q1) * root
        q2, q2_im = q2_im, splat8(0.0) - q2
        q3, q3_im = (q3_im - q3) * root, splat8(0.0) - (q3 + q3_im) * root
        store(y_re, n, p0 + q0)
        store(y_im, n, p0_im + q0_im)
        store(y_re, n + rows, p1 + q1)
        store(y_im, n + rows, p1_im + q1_im)
        store(y_re, n + 2 * rows, p2 + q2)
        store(y_im, n + 2 * rows, p2_im + q2_im)
        store(y_re, n + 3 * rows, p3 + q3)
        store(y_im, n + 3 * rows, p3_im + q3_im)
        store(y_re, n + 4 * rows, p0 - q0)
        store(y_im, n + 4 * rows, p0_im - q0_im)
        store(y_re, n + 5 * rows, p1 - q1)
        store(y_im, n + 5 * rows, p1_im - q1_im)
        store(y_re, n + 6 * rows, p2 - q2)
        store(y_im, n + 6 * rows, p2_im - q2_im)
        store(y_re, n + 7 * rows, p3 - q3)
        store(y_im, n + 7 * rows, p3_im - q3_im)


@function
def transform(x_re: Floats, x_im: Floats, y_re: Floats, y_im: Floats, tables: Floats) -> None:
    """The complex FFT of `x`, M numbers, into `y`; `x` is overwritten on the way."""
    rows = int(load(tables, ROWS_AT))
    passes = int(load(tables, PASSES_AT))
    scratch = stack(6 * 32)
    w = at(tables, PASSES_BEGIN)
    from_re, from_im, to_re, to_im = x_re, x_im, y_re, y_im
    m, s = rows, 1
    for number in range(passes):
        factor = int(load(tables, FACTORS_AT + number))
        m //= factor
        if factor == 4:
            pass4(from_re, from_im, to_re, to_im, w, m, s)
        elif factor == 2:
            pass2(from_re, from_im, to_re, to_im, w, m, s)
        elif factor == 3:
            pass3(from_re, from_im, to_re, to_im, w, m, s)
            w = at(w, 2 * factor)
        else:
            pass_odd(from_re, from_im, to_re, to_im, w, m, s, factor, scratch)
            w = at(w, 2 * factor)
        w = at(w, 2 * m * (factor - 1))
        s *= factor
        from_re, from_im, to_re, to_im = to_re, to_im, from_re, from_im
    if passes % 2 == 0:
        rows8(x_re, x_im, y_re, y_im, at(tables, int(load(tables, ROTATION_AT))), rows)
    else:
        rows8(y_re, y_im, x_re, x_im, at(tables, int(load(tables, ROTATION_AT))), rows)
        copy(y_re, x_re, 8 * rows)
        copy(y_im, x_im, 8 * rows)


@function
def forward(frame: Floats, spectrum: Floats, scratch: Floats, tables: Floats) -> None:
    """The real FFT of twice a frame: W numbers to M + 1 pairs. `scratch` has room for 2 W numbers.

    Twice, as the window of the analysis holds the half that is missing here.
    """
    size = 8 * int(load(tables, ROWS_AT))
    x_re, x_im, y_re, y_im = (
        scratch, at(scratch, size), at(scratch, 2 * size), at(scratch, 3 * size)
    )  # fmt: skip
    for n in range(0, size, 8):
        pairs = load16(frame, 2 * n)
        store(x_re, n, evens(pairs))
        store(x_im, n, odds(pairs))
    transform(x_re, x_im, y_re, y_im, tables)
    split = at(tables, int(load(tables, SPLIT_AT)))
    for block in range(size // 8):
        n = min(8 * block + 1, size - 8)
        a_re, a_im = load8(y_re, n), load8(y_im, n)
        b_re, b_im = reversed8(load8(y_re, size - n - 7)), reversed8(load8(y_im, size - n - 7))
        re, im = rotate(a_im + b_im, b_re - a_re, load8(split, n), load8(split, size + n))
        store(spectrum, 2 * n, interleave(a_re + b_re + re, a_im - b_im + im))
    low, high = load(y_re, 0), load(y_im, 0)
    store(spectrum, 0, np.float32(2) * (low + high))
    store(spectrum, 1, np.float32(0))
    store(spectrum, 2 * size, np.float32(2) * (low - high))
    store(spectrum, 2 * size + 1, np.float32(0))


@function
def inverse(spectrum: Floats, frame: Floats, scratch: Floats, tables: Floats) -> None:
    """The inverse FFT, W times as large: what is missing is in the window of the synthesis."""
    size = 8 * int(load(tables, ROWS_AT))
    x_re, x_im, y_re, y_im = (
        scratch, at(scratch, size), at(scratch, 2 * size), at(scratch, 3 * size)
    )  # fmt: skip
    split = at(tables, int(load(tables, SPLIT_AT)))
    for block in range(size // 8):
        n = min(8 * block + 1, size - 8)
        a, b = load16(spectrum, 2 * n), load16(spectrum, 2 * (size - n - 7))
        a_re, a_im = evens(a), odds(a)
        b_re, b_im = reversed8(evens(b)), reversed8(odds(b))
        # Back by the conjugate rotation; real and imaginary part change places, which makes an
        # inverse transform of a forward one.
        re, im = rotate(
            a_re - b_re, a_im + b_im, load8(split, n), splat8(0.0) - load8(split, size + n)
        )
        store(x_im, n, a_re + b_re - im)
        store(x_re, n, a_im - b_im + re)
    low, high = load(spectrum, 0), load(spectrum, 2 * size)
    store(x_im, 0, low + high)
    store(x_re, 0, low - high)
    transform(x_re, x_im, y_re, y_im, tables)
    for n in range(0, size, 8):
        store(frame, 2 * n, interleave(load8(y_im, n), load8(y_re, n)))
