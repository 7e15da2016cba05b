"""How late an enhanced recording is: many tools give their output 10 to 40 ms after the input.

Measures that hold samples against samples, above all SI-SDR, then say that nothing is left of the
speech. The delay is where the cross-correlation with the original is largest in magnitude, summed
over the whole recording, within 250 ms either way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..network.config import SAMPLE_RATE
from ..signals import cross_correlation
from .recordings import Mono

REACH_S = 0.25  # delays beyond that are not looked for
REACH = round(REACH_S * SAMPLE_RATE)
LEAST_LIKENESS = 0.3  # of the two at their best: below, they have too little in common to tell
LEAST_MS = 0.125  # two samples; less may come from how a tool changes the spectrum


def delay_of(pairs: Iterator[Sequence[Mono]]) -> int | None:
    """Samples at 16 kHz by which the first of each pair of windows is later than the second.

    Returns
    -------
    ``None`` where the two have too little in common.
    """
    likeness: NDArray[np.float64] = np.zeros(2 * REACH + 1)
    energies = np.zeros(2)
    for late, early in pairs:
        likeness += cross_correlation(late, early, REACH)
        energies += [float(np.sum(np.square(signal, dtype="f8"))) for signal in (late, early)]
    best = int(np.argmax(np.abs(likeness)))
    if not abs(likeness[best]) > LEAST_LIKENESS * np.sqrt(energies.prod()):
        return None
    return best - REACH


def without_first(blocks: Iterator[Mono], samples: int) -> Iterator[Mono]:
    """The same blocks less so many samples at the beginning."""
    for block in blocks:
        yield block[samples:]
        samples = max(0, samples - len(block))
