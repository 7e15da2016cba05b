"""The tables of one window: factors of the FFT, rotations, and the window's shape.

A real FFT of W numbers is a complex one of M = W / 2, whose numbers are the even and the odd
samples, and a step that takes the two apart. The complex one runs in vectors of 8: its numbers are
a matrix of R = M / 8 rows and 8 columns, row after row as they come. First the columns are
transformed, all 8 side by side (R is a product of small factors, with a pass for each: Stockham's
FFT), then, after a rotation, the rows, 8 of them side by side. No lane ever meets another but in
one transposition.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..network.config import WINDOW

FACTORS = (4, 2, 3, 5, 7, 11)  # in the order in which they are taken out
MOST_PASSES = 8
# The head of the tables: numbers of one window, and where what follows begins.
BINS_AT, ROWS_AT, PASSES_AT, FACTORS_AT = 0, 1, 2, 3
ROTATION_AT, SPLIT_AT, ANALYSIS_AT, SYNTHESIS_AT = 11, 12, 13, 14
PASSES_BEGIN = 16


def is_fast(window: int) -> bool:
    """Whether there are tables for a window of so many samples."""
    return window % 16 == 0 and window >= 128 and bool(factors(window // 16))


def factors(rows: int) -> list[int]:
    """The factors of the passes over columns; none if there is a prime that no pass is for."""
    found = []
    for factor in FACTORS:
        while rows % factor == 0:
            rows //= factor
            found.append(factor)
    return found if rows == 1 and len(found) <= MOST_PASSES else []


def make_tables(window: int) -> NDArray[np.float32]:
    """All that the FFT and the windows of so many samples need, in one array.

    Raises
    ------
    ValueError
        There are none: see `is_fast`.
    """
    if not is_fast(window):
        raise ValueError(f"no tables for a window of {window} samples")
    size, rows = window // 2, window // 16
    head = np.zeros(PASSES_BEGIN)
    passes = factors(rows)
    head[[BINS_AT, ROWS_AT, PASSES_AT]] = size, rows, len(passes)
    head[FACTORS_AT : FACTORS_AT + len(passes)] = passes
    parts = [head]

    left = rows
    for factor in passes:  # exp(-2 pi i p k / left) for p < left / factor, 0 < k < factor
        p, k = np.meshgrid(np.arange(left // factor), np.arange(1, factor), indexing="ij")
        parts.append(_pairs(np.exp(-2j * np.pi * p * k / left)))
        if factor % 2:  # cos and sin of 2 pi n / factor
            parts.append(_pairs(np.exp(2j * np.pi * np.arange(factor) / factor)))
        left //= factor

    def begin(at: int) -> None:
        head[at] = sum(map(len, parts))

    begin(ROTATION_AT)  # of row and column: real parts of a row, then imaginary parts
    rotation = np.exp(-2j * np.pi * np.outer(np.arange(rows), np.arange(8)) / size)
    parts.append(np.stack([rotation.real, rotation.imag], axis=1).ravel())
    begin(SPLIT_AT)
    split = np.exp(-2j * np.pi * np.arange(size) / window)
    parts.append(np.concatenate([split.real, split.imag]))
    shape = np.sin(np.pi * np.arange(window) / window)
    begin(ANALYSIS_AT)  # the halves of taking even and odd samples apart are in the windows
    parts.append(0.5 * shape * WINDOW / window)
    begin(SYNTHESIS_AT)
    parts.append(0.5 * shape * window / WINDOW / size)
    return np.concatenate(parts).astype(np.float32)


def _pairs(numbers: NDArray[np.complex128]) -> NDArray[np.float64]:
    return np.stack([numbers.real, numbers.imag], axis=-1).ravel()
