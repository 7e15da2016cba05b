"""What is done to each number by itself: activations, and the step of a GRU."""

from __future__ import annotations

from .simd import Vector, fma, inline, larger, smaller, splat16


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


@inline
def gru_step(r: Vector, z: Vector, n: Vector, m: Vector, h: Vector) -> Vector:
    """The next hidden numbers.

    From what leads to the reset gate, to the update gate, and to the new value (`n` from the
    input, `m` from `h`, which is reset), and the hidden numbers before. The gates' sigmoids are in
    the sums that they scale, so that fewer steps wait for each other: `m` is halved, too.
    """
    half = splat16(0.5)
    update = tanh(z)
    kept = fma(update, half, half) * h
    n = tanh(fma(tanh(r), m, n + m))
    return fma(fma(update, splat16(-0.5), half), n, kept)
