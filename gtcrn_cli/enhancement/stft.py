"""Streaming STFT and overlap-add at any sample rate, without a resampler.

The network sees bins of 31.25 Hz every 16 ms. At 16 kHz that is a window of 512 samples. At another
rate we take the window that lasts the same 32 ms: its bins lie at the same frequencies, there are
just more or fewer of them, and scaling the spectrum by 512/window gives them the same levels. So
one network serves every rate, and what lies above 8 kHz is still there to be put back.

Both windows are periodic sqrt-Hann, ``w[n] = sin(pi n / W)``. With a hop of W/2 each sample meets
``w[n]^2 + w[n + W/2]^2 = sin^2 + cos^2 = 1``: analysis and synthesis reconstruct exactly.

Framing is causal. Frame t covers samples ``[(t - 1) hop, (t + 1) hop)``: the first one is half
silence. When frame t is known, the output is complete up to sample ``t hop``. So the sample
``n = (t - 1) hop`` enters and leaves one window later: that is the latency.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..errors import UserError
from ..network.config import BINS, SAMPLE_RATE, WINDOW
from ..signals import Samples, Spectrum

LOWEST_RATE_HZ = 8_000
HIGHEST_RATE_HZ = 192_000


def window_length(sample_rate: int) -> int:
    """Samples in a window of 32 ms: the even number nearest to that, or one whose FFT is fast.

    Fast means no prime factor above 11, and such a one is taken within half a percent, which the
    network does not notice: 44.1 kHz gets 1408 = 2^7 * 11 instead of 1412.

    Raises
    ------
    UserError
        The rate is outside of 8-192 kHz.
    """
    if not LOWEST_RATE_HZ <= sample_rate <= HIGHEST_RATE_HZ:
        raise UserError(
            f"a sample rate of {sample_rate} Hz is outside of {LOWEST_RATE_HZ}-{HIGHEST_RATE_HZ} "
            "Hz: resample first, for example with sox or ffmpeg"
        )
    ideal = WINDOW * sample_rate / SAMPLE_RATE
    nearest = 2 * round(ideal / 2)
    reach = int(0.0025 * ideal)  # in steps of 2
    nearby = [nearest + 2 * step for step in sorted(range(-reach, reach + 1), key=abs)]
    return next(filter(_fft_is_fast, nearby), nearest)


def _fft_is_fast(length: int) -> bool:
    for prime in (2, 3, 5, 7, 11):
        while length % prime == 0:
            length //= prime
    return length == 1


@dataclass(frozen=True)
class STFT:
    """Analysis and synthesis at one sample rate. Remembers nothing: state goes in and comes out.

    Parameters
    ----------
    sample_rate
        In Hz, 8,000 to 192,000.
    """

    sample_rate: int

    def __post_init__(self) -> None:
        window_length(self.sample_rate)  # refuses a rate out of range here rather than at first use

    @cached_property
    def window(self) -> int:
        """Samples in a frame."""
        return window_length(self.sample_rate)

    @cached_property
    def hop(self) -> int:
        """Samples between frames: half a window."""
        return self.window // 2

    @cached_property
    def bins(self) -> int:
        """Bins from 0 Hz to half of the sample rate."""
        return self.window // 2 + 1

    @cached_property
    def _halves(self) -> tuple[Samples, Samples]:
        """The window of the analysis, rising and falling, with the level of 16 kHz in it."""
        shape = np.sin(np.pi * np.arange(self.window) / self.window) * (WINDOW / self.window)
        return shape[: self.hop].astype(np.float32), shape[self.hop :].astype(np.float32)

    @cached_property
    def _inverse_halves(self) -> tuple[Samples, Samples]:
        rise, fall = self._halves
        scale = np.float32((self.window / WINDOW) ** 2)
        return rise * scale, fall * scale

    def analyze(self, block: Samples, state: Samples | None) -> tuple[Spectrum, Samples]:
        """The spectra of all windows that `block` completes.

        Parameters
        ----------
        block
            Samples ``[N, C]``, any N.
        state
            Samples ``[C, hop...window)`` that the next window begins with; ``None`` at the start.

        Returns
        -------
        spectrum
            complex64 ``[C, T, bins]``, levels as at 16 kHz; T may be 0.
        state
            For the next call.
        """
        channels = block.shape[1]
        if state is None:
            state = np.zeros((channels, self.hop), np.float32)
        pending = np.concatenate([state, block.T], axis=1)  # [C, P]
        count = pending.shape[1] // self.hop - 1  # T
        if count == 0:
            return np.zeros((channels, 0, self.bins), np.complex64), pending
        hops = pending[:, : (count + 1) * self.hop].reshape(channels, count + 1, self.hop)
        rise, fall = self._halves
        frames = np.empty((channels, count, self.window), np.float32)
        np.multiply(hops[:, :-1], rise, out=frames[..., : self.hop])
        np.multiply(hops[:, 1:], fall, out=frames[..., self.hop :])
        spectrum = np.fft.rfft(frames).astype(np.complex64, copy=False)
        return spectrum, pending[:, count * self.hop :].copy()

    def synthesize(self, spectrum: Spectrum, state: Samples | None) -> tuple[Samples, Samples]:
        """Overlap-add: the samples that `spectrum` completes, a hop for every frame.

        Parameters
        ----------
        spectrum
            complex64 ``[C, T, bins]``, as `analyze` gives it.
        state
            Samples ``[C, hop]``: the second half of the last frame; ``None`` at the start.

        Returns
        -------
        block
            Samples ``[T * hop, C]``. The first hop of a stream lies before its first sample.
        state
            For the next call.
        """
        channels, count, _ = spectrum.shape
        if state is None:
            state = np.zeros((channels, self.hop), np.float32)
        if count == 0:
            return np.zeros((0, channels), np.float32), state
        frames = np.fft.irfft(spectrum, self.window)
        rise, fall = self._inverse_halves
        second = frames[..., self.hop :] * fall  # [C, T, hop]
        block = frames[..., : self.hop] * rise
        block[:, 0] += state
        block[:, 1:] += second[:, :-1]
        return block.reshape(channels, -1).T, second[:, -1].copy()


def network_bins(spectrum: Spectrum) -> Spectrum:
    """The 257 bins of the network, 0-8 kHz: ``[C, T, bins] -> [C, T, 257]``.

    What a low sample rate does not have is zero.
    """
    missing = BINS - spectrum.shape[-1]
    if missing > 0:
        return np.pad(spectrum, ((0, 0), (0, 0), (0, missing)))
    return np.ascontiguousarray(spectrum[..., :BINS])
