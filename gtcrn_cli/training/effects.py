"""What rooms, devices and connections do to an example, and its levels."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingExtraError
from ..evaluation.recordings import Mono
from ..network.config import SAMPLE_RATE
from .corpora import Corpora, Random
from .recipe import Recipe

try:
    from scipy import signal
except ImportError:
    raise MissingExtraError("making training mixtures", "train") from None

EARLY_MS = 50  # what of a room response still counts as speech: later reflections are to go
ACTIVE_DB = -35.0  # a stretch counts as active above this, relative to the loudest


def room_pair(corpora: Corpora, recipe: Recipe, random: Random) -> tuple[Mono, Mono] | None:
    """The responses from the speaker and from the noise to the microphone, or ``None``: no room."""
    if random.random() >= recipe.room:
        return None
    if corpora.rooms and random.random() < 0.4:
        first, second = random.integers(len(corpora.rooms), size=2)
        return corpora.rooms[first], corpora.rooms[second]
    t60_s = random.uniform(0.08, 0.8)
    return made_room(t60_s, random), made_room(t60_s, random)


def made_room(t60_s: float, random: Random) -> Mono:
    """The response of a small room: the direct sound, a few reflections, a decaying tail.

    Reflections grow denser with the square of time until they are noise; energy falls by 60 dB in
    `t60_s`, high frequencies a little sooner (Moorer 1979).
    """
    length = int(min(t60_s, 1.0) * SAMPLE_RATE)
    time_s = np.arange(length) / SAMPLE_RATE
    density = np.minimum(1.0, (time_s / random.uniform(0.02, 0.06)) ** 2)
    tail = random.normal(size=length) * (random.random(length) < density)
    tail *= 10 ** (-3 * time_s / t60_s)
    damping = random.uniform(0.0, 0.5)
    tail = signal.lfilter([1 - damping], [1, -damping], tail)
    tail[: int(0.001 * SAMPLE_RATE)] = 0
    direct_to_tail_db = random.uniform(-3, 15)
    tail *= db_to_gain(-direct_to_tail_db) / max(1e-9, float(np.sqrt(np.sum(tail**2))))
    tail[0] = 1
    return tail.astype(np.float32)


def early_part(response: Mono) -> Mono:
    """Direct sound and early reflections, faded out over a few ms."""
    start = int(np.abs(response).argmax())
    end, fade = start + EARLY_MS * SAMPLE_RATE // 1000, 80
    shape = np.clip((end - np.arange(len(response))) / fade, 0, 1)
    return (response * shape).astype(np.float32)


def reverberate(samples: Mono, response: Mono) -> Mono:
    """Convolution, cut to the input's length; the direct sound stays where it was."""
    start = int(np.abs(response).argmax())
    wet = signal.oaconvolve(samples, response)
    return wet[start : start + len(samples)].astype(np.float32)


def whispered(samples: Mono, random: Random) -> Mono:
    """Speech without a voice: its envelope on noise, and, as breath has it, weaker low formants."""
    from scipy.ndimage import uniform_filter1d

    _, _, spectrum = signal.stft(samples, nperseg=512, noverlap=384)
    # The filter adds what comes and takes off what goes: rounding can leave less than nothing.
    envelope = np.sqrt(np.maximum(uniform_filter1d(np.abs(spectrum) ** 2, 9, axis=0), 0))
    _, _, breath = signal.stft(random.normal(size=len(samples)), nperseg=512, noverlap=384)
    hz = np.linspace(0, SAMPLE_RATE / 2, len(spectrum))[:, None]
    flatter = np.maximum(hz / (hz + 800), 0.05) * (1 + hz / 2000)
    _, whisper = signal.istft(breath * envelope * flatter, nperseg=512, noverlap=384)
    whisper = np.resize(whisper, len(samples))
    peak = float(np.abs(samples).max(initial=0))
    return (whisper * (peak / max(1e-9, float(np.abs(whisper).max())))).astype(np.float32)


# What devices and connections do. `both` is [2, N]: noisy and clean change alike.


def device(
    both: NDArray[np.float32], corpora: Corpora, recipe: Recipe, random: Random
) -> NDArray[np.float32]:
    """The colour of a microphone, and the bandwidth of a connection."""
    if corpora.microphones and random.random() < recipe.microphone:
        response = corpora.microphones[int(random.integers(len(corpora.microphones)))]
        start = int(np.abs(response).argmax())
        both = signal.oaconvolve(both, response[None], axes=1)[:, start : start + both.shape[1]]
    if random.random() < recipe.bandlimit:
        cutoff_hz = random.choice([3_400, 4_000, 5_500, 7_000])
        both = signal.sosfilt(signal.butter(8, cutoff_hz, fs=SAMPLE_RATE, output="sos"), both)
    if random.random() < recipe.bandlimit:
        cutoff_hz = random.uniform(60, 300)
        highpass = signal.butter(2, cutoff_hz, "highpass", fs=SAMPLE_RATE, output="sos")
        both = signal.sosfilt(highpass, both)
    return both


def equalise(samples: Mono, random: Random) -> Mono:
    """A random second-order filter with unit gain at 0 Hz nowhere far from it (Valin 2018)."""
    b1, b2, a1, a2 = random.uniform(-0.375, 0.375, 4)
    return signal.lfilter([1, b1, b2], [1, a1, a2], samples).astype(np.float32)


def gain_curve(length: int, random: Random) -> Mono:
    """A gain that steps once, or glides, by up to 15 dB."""
    step_db = random.uniform(-15, 15)
    at = random.uniform(0.1, 0.9) * length
    width = random.choice([0.005, 0.1, 1.0]) * SAMPLE_RATE
    ramp = np.clip((np.arange(length) - at) / width, 0, 1)
    return (10 ** (step_db * ramp / 20)).astype(np.float32)


def damage(noisy: Mono, recipe: Recipe, random: Random) -> Mono:
    """Clipping and lossy coding, which the clean part is spared."""
    if random.random() < recipe.clipping:
        limit = np.abs(noisy).max() * random.uniform(0.2, 0.8)
        noisy = np.clip(noisy, -limit, limit)
    if random.random() < recipe.codec:
        noisy = coded(noisy, *CODECS[random.integers(len(CODECS))])
    return noisy


CODECS = (("OGG", "OPUS"), ("OGG", "VORBIS"), ("WAV", "ULAW"), ("WAV", "IMA_ADPCM"))


def coded(samples: Mono, container: str, subtype: str) -> Mono:
    """What is left after a codec, aligned and as long as before."""
    import soundfile

    buffer = io.BytesIO()
    options: dict[str, Any] = {"compression_level": 0.9} if container == "OGG" else {}
    with soundfile.SoundFile(
        buffer, "w", SAMPLE_RATE, 1, subtype, format=container, **options
    ) as file:
        file.write(samples)
    buffer.seek(0)
    decoded, _ = soundfile.read(buffer, dtype="float32")
    return np.pad(decoded, (0, max(0, len(samples) - len(decoded))))[: len(samples)]


# Levels


def db_to_gain(level_db: float) -> float:
    """An amplitude ratio from decibels."""
    return float(10 ** (level_db / 20))


def active_level_db(samples: Mono, block_ms: int = 20) -> float:
    """RMS over the blocks within `ACTIVE_DB` of the loudest; -120 for silence."""
    block = SAMPLE_RATE * block_ms // 1000
    energy = np.square(samples[: len(samples) // block * block].reshape(-1, block)).mean(axis=1)
    loudest = energy.max(initial=0)
    if loudest < 1e-12:
        return -120.0
    return float(10 * np.log10(energy[energy > loudest * 10 ** (ACTIVE_DB / 10)].mean()))


def at_level(samples: Mono, level_db: float) -> Mono:
    """Scaled to an RMS; what is silent stays silent."""
    rms = float(np.sqrt(np.mean(np.square(samples))))
    return samples * (db_to_gain(level_db) / rms if rms > 1e-6 else 0.0)
