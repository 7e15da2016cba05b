"""What is to be seen of a sound: its spectrum over time, its level, its loudness."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..enhancement.stft import STFT
from ..network.config import BINS, SAMPLE_RATE, WINDOW
from ..signals import SILENCE_DB
from .loudness import gated_loudness, loudness_weighting
from .sounds import FloatArray, Sound

ROWS = 192  # of a picture of the spectrum, evenly spaced in mel
FRAMES_AT_ONCE = 256  # bounds memory
SMOOTH_FRAMES = 5  # over which levels are averaged before one is taken from another
SMALLEST_POWER = 10 ** (SILENCE_DB / 10)


@dataclass(frozen=True, eq=False)
class Analysis:
    """What is to be seen of a sound.

    Attributes
    ----------
    hop_s
        Between frames; frame t is around ``t * hop_s``.
    rows_db
        ``[T, ROWS]``, from 0 Hz upwards; a sine of full scale has 0 to -3 dB, by where it lies.
    level_db
        ``[T]``, root mean square relative to full scale.
    loudness
        Of the whole in LUFS; -120 where there is only silence.
    """

    hop_s: float
    rows_db: FloatArray
    level_db: FloatArray
    loudness: float


def analyze_sound(sound: Sound, highest_hz: float) -> Analysis:
    """What is to be seen of `sound`, in rows from 0 to `highest_hz`."""
    stft = STFT(sound.sample_rate)
    unscale = (stft.window / WINDOW) ** 2  # `STFT` gives levels as at 16 kHz
    bins_hz = np.arange(stft.bins) * sound.sample_rate / stft.window
    to_rows = row_weights(bins_hz, highest_hz).T * np.float32(unscale * (np.pi / stft.window) ** 2)
    # Parseval: with both windows' squares summing to one, the frames hold the sound's energy.
    energy = np.full(stft.bins, 2 * unscale / (stft.window * stft.hop))
    energy[[0, -1]] /= 2
    weights = np.stack([energy, energy * loudness_weighting(bins_hz)], axis=1).astype(np.float32)

    count = math.ceil(len(sound.samples) / stft.hop)
    padded = np.pad(sound.samples, ((0, count * stft.hop - len(sound.samples)), (0, 0)))
    rows, means, state = [], [], None
    piece = FRAMES_AT_ONCE * stft.hop
    for start in range(0, len(padded), piece):
        spectrum, state = stft.analyze(padded[start : start + piece], state)
        power = np.square(spectrum.real) + np.square(spectrum.imag)  # [C, T, bins]
        rows.append(power.mean(axis=0) @ to_rows)
        means.append(power @ weights)  # [C, T, 2]
    squares, weighted = np.moveaxis(np.concatenate(means, axis=1), -1, 0)  # [C, T] each
    return Analysis(
        stft.hop / sound.sample_rate,
        to_db(np.concatenate(rows)),
        to_db(squares.mean(axis=0)),
        gated_loudness(weighted.sum(axis=0), stft.hop / sound.sample_rate),
    )


def to_db(power: FloatArray) -> FloatArray:
    """Ten times the logarithm, at least -120."""
    return 10 * np.log10(np.maximum(power, np.float32(SMALLEST_POWER)))


def mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """O'Shaughnessy's mel scale."""
    return 2595 * np.log10(1 + hz / 700)


def row_weights(bins_hz: NDArray[np.float64], highest_hz: float) -> FloatArray:
    """How much of every bin's power is in every row of a picture: ``[ROWS, bins]``.

    Rows are evenly spaced in mel from 0 to `highest_hz`. A row averages the bins around its
    centre; where rows are closer than bins it interpolates. Above the last bin rows are empty.
    """
    edges = 700 * (10 ** (np.linspace(0, mel(np.array(highest_hz)), ROWS + 1) / 2595) - 1)
    centres = (edges[1:] + edges[:-1]) / 2
    reach = np.maximum(np.diff(edges), bins_hz[1])[:, None]
    weights = np.maximum(0, 1 - np.abs(bins_hz - centres[:, None]) / reach)
    weights[centres > bins_hz[-1]] = 0
    return (weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)).astype(np.float32)


def change_db(enhanced: Analysis, noisy: Analysis) -> tuple[FloatArray, FloatArray]:
    """Gain of every row, ``[T, ROWS]``, and how much lower the level is, ``[T]``."""
    # Another sample rate may have another hop: take the noisy frame that is nearest in time.
    index = np.rint(np.arange(len(enhanced.level_db)) * enhanced.hop_s / noisy.hop_s).astype(int)
    index = index[index < len(noisy.level_db)]
    removed_db = _smooth_db(noisy.level_db)[index] - _smooth_db(enhanced.level_db)[: len(index)]
    return enhanced.rows_db[: len(index)] - noisy.rows_db[index], removed_db


def fill_in_mask(gain_db: FloatArray, gains: FloatArray, highest_hz: float) -> None:
    """Put the mask's own gain ``[T, 257]`` where there is one, up to 8 kHz."""
    weights = row_weights(np.arange(BINS) * SAMPLE_RATE / WINDOW, highest_hz)
    covered = weights.any(axis=1)
    power = np.square(gains[: len(gain_db)]) @ weights[covered].T
    gain_db[:, covered] = to_db(power)


def _smooth_db(level_db: FloatArray) -> FloatArray:
    padded = np.pad(10 ** (level_db / 10), SMOOTH_FRAMES // 2, mode="edge")
    return to_db(np.convolve(padded, np.full(SMOOTH_FRAMES, 1 / SMOOTH_FRAMES), "valid"))
