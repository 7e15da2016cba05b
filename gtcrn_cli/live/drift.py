"""Two sound cards, two clocks: keep the delay between them what it was, inaudibly.

A microphone that delivers 48,001 samples while the speaker takes 48,000 fills a buffer by 1.25 s an
hour, or empties it. `DriftControl` watches how much sound waits between the two, and `Resampler`
stretches or squeezes it by some parts per million until that stays constant.

Resampling, rather than now and then dropping or repeating a piece, because it never has to find a
quiet place, works for music and noise as for speech, and at 200 ppm shifts the pitch by a third of
a cent, far below what is heard. The interpolator is a windowed sinc (Smith, "Digital Audio
Resampling", https://ccrma.stanford.edu/~jos/resample/): a sine keeps more than 80 dB of SNR.
The control is a slow PI loop, as in Adriaensen, "Controlling adaptive resampling", LAC 2012; it has
a dead zone, so that two devices of the same clock are not resampled at all.
"""

from __future__ import annotations

import math

import numpy as np

from ..native.layout import PHASES, RESAMPLE, RESAMPLED, TAPS
from ..native.machine_code import load_kernel
from ..signals import Samples

HALF = TAPS // 2
KAISER_BETA = 9.0

MOST = 1e-3  # the largest correction: 1.7 cents. Sound cards are within 100 ppm of each other
SETTLE_S = 10.0  # after a start, how long the waiting sound is averaged before anything is done
SMOOTH_S = 8.0  # time constant of the running average: blocks and hops make it ripple
DEAD_ZONE_S = 0.004  # smaller deviations are left alone
PROPORTIONAL = 0.03  # 1 ms too much is squeezed by 30 ppm
INTEGRAL = PROPORTIONAL**2 / 4  # critically damped


def _filters() -> Samples:
    """Fractional delays ``[PHASES + 1, TAPS]``: row p interpolates at p / PHASES."""
    fraction = np.arange(PHASES + 1)[:, None] / PHASES
    distance = np.arange(TAPS) - (HALF - 1) - fraction  # in samples, from the wanted point
    window = np.i0(KAISER_BETA * np.sqrt(np.maximum(0, 1 - (distance / HALF) ** 2)))
    taps = np.sinc(distance) * window
    return (taps / taps.sum(axis=1, keepdims=True)).astype(np.float32)


class Resampler:
    """Resamples a stream by a ratio close to 1 that may change at any time.

    With a correction of 0 from the start on, samples pass through unchanged.
    """

    def __init__(self, channels: int) -> None:
        self._filters = _filters()
        self._kernel = load_kernel()
        self._kept = np.zeros((HALF - 1, channels), np.float32)
        self._position = float(HALF - 1)  # in `_kept`, of the next sample to return

    @property
    def pending(self) -> float:
        """Samples taken in but not yet returned: 16 at rest."""
        return len(self._kept) - self._position

    def push(self, block: Samples, correction: float) -> Samples:
        """Take in a block and return what it completes.

        Parameters
        ----------
        block
            Samples ``[N, C]``.
        correction
            Relative: 1e-4 returns 100 ppm fewer samples than it takes.
        """
        buffer = np.concatenate([self._kept, block])
        step = 1.0 + correction
        # Only what all taps reach: HALF samples beyond the position.
        count = max(0, math.ceil((len(buffer) - HALF - self._position) / step))
        if count == 0:
            resampled = buffer[:0]
        elif step == 1.0 and self._position.is_integer():
            first = int(self._position)
            resampled = buffer[first : first + count]
        else:
            resampled = self._interpolate(buffer, correction, count)
        following = self._position + step * count
        start = int(following) - (HALF - 1)
        self._kept = buffer[start:]
        self._position = following - start
        return resampled

    def _interpolate(self, buffer: Samples, correction: float, count: int) -> Samples:
        samples = np.ascontiguousarray(buffer.T)
        channels, length = samples.shape
        resampled = np.empty((count, channels), np.float32)
        first = int(self._position)
        controls = np.zeros(RESAMPLED.size, np.float32)
        controls[RESAMPLED.first] = first
        controls[RESAMPLED.fraction] = self._position - first
        controls[RESAMPLED.correction] = correction
        controls[RESAMPLED.length] = length
        self._kernel(
            RESAMPLE,
            samples.ctypes.data,
            resampled.ctypes.data,
            self._filters.ctypes.data,
            None,
            None,
            None,
            controls.ctypes.data,
            channels,
            count,
        )
        return resampled


class DriftControl:
    """Turns how much sound waits between two devices into the correction that keeps it constant.

    Attributes
    ----------
    correction
        For `Resampler.push`. In the long run the drift of the input's clock against the output's.
    waiting_s
        The running average of the waiting sound.
    aim_s
        What that is to be: what it was when the control had settled.
    settled
        Whether it has, since the last start.
    """

    def __init__(self) -> None:
        self.correction = 0.0
        self.waiting_s = 0.0
        self.aim_s = 0.0
        self.settled = False
        self._owed_s = 0.0
        self._learnt = 0.0  # the loop's integral: the drift
        self._elapsed_s = 0.0

    def restart(self) -> None:
        """After a gap: settle anew. The drift learnt stays."""
        self._owed_s = 0.0
        self._elapsed_s = 0.0
        self.settled = False
        self.correction = self._learnt

    @property
    def lengthening(self) -> bool:
        """Whether what `lengthen` asked for is still going on."""
        return self._owed_s != 0

    def lengthen(self, by_s: float) -> None:
        """Stretch the sound until so much more of it waits (squeeze, if negative); then settle."""
        self._owed_s = by_s
        self.settled = False

    def update(self, waiting_s: float, elapsed_s: float) -> float:
        """Count in how much sound waits now, `elapsed_s` after the last time: the correction."""
        if self._owed_s != 0:
            longer = self._owed_s > 0
            self.correction = _limited(self._learnt + (-MOST if longer else MOST))
            self._owed_s -= (self._learnt - self.correction) * elapsed_s
            if longer != (self._owed_s > 0):
                self.restart()
            return self.correction
        if elapsed_s <= 0:  # a clock may tick more seldom than hops come
            return self.correction
        self._elapsed_s += elapsed_s
        weight = elapsed_s / min(self._elapsed_s, SMOOTH_S)
        self.waiting_s += min(weight, 1.0) * (waiting_s - self.waiting_s)
        if self._elapsed_s < SETTLE_S:
            return self.correction
        if not self.settled:
            self.settled, self.aim_s = True, self.waiting_s
        error = self.waiting_s - self.aim_s
        error -= min(max(error, -DEAD_ZONE_S), DEAD_ZONE_S)
        self._learnt = _limited(self._learnt + INTEGRAL * error * elapsed_s)
        self.correction = _limited(self._learnt + PROPORTIONAL * error)
        return self.correction


def _limited(correction: float) -> float:
    return min(max(correction, -MOST), MOST)
