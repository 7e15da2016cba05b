"""Noisy speech made on the fly: clean speech, noise and rooms in, ``(noisy, clean)`` out.

An example is a pure function of the corpora, a seed and its index. So it can be made again, in any
process and in any order, and a resumed training run sees what an uninterrupted one would.

All audio is 16 kHz, mono. What an index or a folder names is decoded once into one int16 array that
is kept on disk and mapped into memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import MissingExtraError
from ..evaluation.recordings import Mono
from ..network.config import SAMPLE_RATE
from .corpora import Corpora, Corpus, Random
from .effects import (
    active_level_db,
    at_level,
    damage,
    db_to_gain,
    device,
    early_part,
    equalise,
    gain_curve,
    reverberate,
    room_pair,
    whispered,
)
from .recipe import Recipe

try:
    from scipy import signal
except ImportError:
    raise MissingExtraError("making training mixtures", "train") from None

SHORTEST_GAP_S, LONGEST_GAP_S = 0.1, 0.8  # between two clips of speech


def mixture(
    corpora: Corpora, recipe: Recipe, length: int, seed: Sequence[int]
) -> tuple[Mono, Mono]:
    """One example: the noisy samples and the clean ones to be found in them, ``[length]`` each.

    Noise-only examples have silence for their clean part. The same arguments give the same example.
    """
    random = np.random.default_rng(seed)
    if recipe.plain and random.random() < recipe.plain:
        recipe = recipe.only(
            snr_db=recipe.plain_snr_db, level_db=recipe.plain_level_db, speed=recipe.speed
        )
    kind = random.random()
    (speech, softer_db), rooms = (
        voices(corpora, recipe, length, random),
        room_pair(corpora, recipe, random),
    )
    clean, heard = speech, speech
    if rooms is not None:
        heard, clean = reverberate(speech, rooms[0]), reverberate(speech, early_part(rooms[0]))

    noise = noises(corpora, recipe, length, random)
    if rooms is not None:
        noise = reverberate(noise, rooms[1])
    if kind < recipe.noise_only:
        clean, heard = np.zeros_like(clean), np.zeros_like(heard)
        noise = at_level(noise, -30)
    elif kind < recipe.noise_only + recipe.nearly_clean:
        quiet = random.random() < 0.5
        snr_db = np.inf if quiet else random.uniform(*recipe.nearly_clean_db)
        clean = heard  # nothing is wrong with it: let it pass as it is
        noise = at_level(noise, active_level_db(heard) - snr_db)
    else:
        noise = at_level(noise, active_level_db(heard) - random.uniform(*recipe.snr_db) - softer_db)

    if random.random() < recipe.gain_step:
        noise = noise * gain_curve(length, random)
    both = np.stack([heard + noise, clean])
    both = device(both, corpora, recipe, random)
    if random.random() < recipe.gain_step:
        both = both * gain_curve(length, random)
    loudness_db = active_level_db(both[1] if both[1].any() else both[0])
    level_db = random.uniform(*recipe.level_db)
    if recipe.far_away and random.random() < recipe.far_away:
        level_db = random.uniform(*recipe.far_away_db)
    both *= db_to_gain(level_db - loudness_db)
    both /= max(1.0, float(np.abs(both).max()))
    both[0] = damage(both[0], recipe, random)
    noisy, clean = both.astype(np.float32)
    return noisy, clean


def voices(corpora: Corpora, recipe: Recipe, length: int, random: Random) -> tuple[Mono, float]:
    """Speech of one speaker, sometimes of two; and how much softer than it the noise is to be.

    Two speak at once, or the second, who is farther away, answers: heard well above the noise, and
    below the first.
    """
    speech, softer_db = one_voice(corpora.speech, length, random, any_speed(recipe, random)), 0.0
    if random.random() < recipe.second_voice:
        speech = speech + db_to_gain(random.uniform(-6, 6)) * one_voice(
            corpora.speech, length, random
        )
    elif recipe.quiet_reply and random.random() < recipe.quiet_reply:
        reply_db = random.uniform(*recipe.quiet_reply_db)
        begin = int(random.uniform(0.35, 0.65) * length)
        reply = one_voice(corpora.speech, length - begin, random)
        speech = np.concatenate([speech[:begin], db_to_gain(reply_db) * reply])
        softer_db = -reply_db * random.uniform(0.6, 1.0)
    if recipe.whisper and random.random() < recipe.whisper:
        speech = whispered(speech, random)
    if random.random() < recipe.equaliser:
        speech = equalise(speech, random)
    return speech, softer_db


def one_voice(corpus: Corpus, length: int, random: Random, speed: tuple[int, int] = (1, 1)) -> Mono:
    """Clips of one speaker with pauses between them, cut anywhere, loudest at full scale."""
    number = corpus.draw(random)
    clip = corpus.clip(number)
    start = random.integers(max(1, len(clip) - length // 2))
    pieces = [at_speed(clip[start : start + 2 * length], speed)]
    if random.random() < 0.3:  # let some streams begin with silence
        pieces.insert(0, np.zeros(int(random.uniform(0, 0.3) * length), np.float32))
    while sum(map(len, pieces)) < length:
        gap_s = random.uniform(SHORTEST_GAP_S, LONGEST_GAP_S)
        pieces.append(np.zeros(int(gap_s * SAMPLE_RATE), np.float32))
        clip = corpus.clip(corpus.draw_beside(number, random))
        pieces.append(at_speed(clip[: 2 * length], speed))
    speech = np.concatenate(pieces)[:length]
    return speech / max(1e-3, float(np.abs(speech).max()))


# Lengths after and before. A fifth makes another voice of one, and is no caricature yet.
SPEEDS = ((4, 5), (5, 6), (6, 7), (8, 9), (9, 8), (7, 6), (6, 5), (5, 4))


def any_speed(recipe: Recipe, random: Random) -> tuple[int, int]:
    """One of `SPEEDS`, or as it is."""
    if recipe.speed and random.random() < recipe.speed:
        return SPEEDS[random.integers(len(SPEEDS))]
    return (1, 1)


def at_speed(samples: Mono, speed: tuple[int, int]) -> Mono:
    """As a tape played faster or slower: pitch, formants and tempo change together."""
    if speed == (1, 1) or not len(samples):
        return samples
    return signal.resample_poly(samples, *speed).astype(np.float32)


def noises(corpora: Corpora, recipe: Recipe, length: int, random: Random) -> Mono:
    """One to three noises at once, each recorded or made."""
    count = 1 + int(random.choice(3, p=_chances(recipe.two_noises, recipe.three_noises)))
    total = np.zeros(length, np.float32)
    for _ in range(count):
        kind = random.random()
        if kind < recipe.made_noise:
            noise = made_noise(length, random)
        elif kind < recipe.made_noise + recipe.babble:
            talkers = [
                one_voice(corpora.speech, length, random) for _ in range(random.integers(4, 9))
            ]
            noise = np.sum(talkers, axis=0)
        else:
            up, down = speed = any_speed(recipe, random)
            noise = recorded_noise(corpora.noise, -(-length * down // up), random)
            noise = at_speed(noise, speed)[:length]
        if random.random() < recipe.equaliser:
            noise = equalise(noise, random)
        total += at_level(noise, random.uniform(-10, 0))
    return total


def _chances(*shares: float) -> list[float]:
    return [1 - sum(shares), *shares]


def recorded_noise(corpus: Corpus, length: int, random: Random) -> Mono:
    """A cut of one recording; short ones (keys, clicks) are followed by others of their kind."""
    number = corpus.draw(random)
    clip = corpus.clip(number)
    if len(clip) >= length:
        start = random.integers(len(clip) - length + 1)
        return clip[start : start + length]
    noise = np.zeros(length, np.float32)
    position: int = int(random.integers(-len(clip) // 2, length - len(clip) // 2))
    longest_gap_s = float(random.choice([0.0, 0.3, 2.0]))
    position = min(position, 0) if longest_gap_s == 0 else position
    while position < length:
        first, end = max(position, 0), min(position + len(clip), length)
        noise[first:end] = clip[first - position : end - position]
        position += len(clip) + int(random.uniform(0, longest_gap_s) * SAMPLE_RATE) + 1
        if random.random() < 0.8:
            clip = corpus.clip(corpus.draw_beside(number, random, same="sources"))
    return noise


def made_noise(length: int, random: Random) -> Mono:
    """Coloured noise, hum with its harmonics, clicks, or bursts."""
    kind = random.choice(["coloured", "coloured", "hum", "clicks", "bursts"])
    if kind == "hum":
        base_hz = random.choice([50.0, 60.0, random.uniform(80, 400)])
        orders = np.arange(1, int(random.integers(3, 30)))
        phases = random.uniform(0, 2 * np.pi, len(orders))
        time_s = np.arange(length)[:, None] / SAMPLE_RATE
        weights = orders ** -random.uniform(0.3, 1.5) * (orders * base_hz < SAMPLE_RATE / 2)
        return (np.sin(2 * np.pi * base_hz * orders * time_s + phases) @ weights).astype(np.float32)
    noise = coloured_noise(length, random)
    if kind == "clicks":
        clicks = random.random(length) < random.uniform(2, 30) / SAMPLE_RATE
        ring = coloured_noise(400, random) * np.exp(-np.arange(400) / random.uniform(5, 80))
        noise = signal.oaconvolve(clicks * random.normal(size=length), ring)[:length] + 1e-4 * noise
    elif kind == "bursts":
        steps = np.cumsum(random.exponential(0.4, 200))
        inside = np.searchsorted(steps, np.arange(length) / SAMPLE_RATE) % 2
        ramp = np.hanning(int(random.uniform(0.002, 0.1) * SAMPLE_RATE) + 3)
        noise = noise * signal.oaconvolve(inside, ramp / ramp.sum(), mode="same")
    return noise.astype(np.float32)


def coloured_noise(length: int, random: Random) -> Mono:
    """Gaussian noise whose spectrum falls (or rises) by a random power of the frequency."""
    spectrum = np.fft.rfft(random.normal(size=length))
    falloff = np.maximum(np.arange(len(spectrum)), 1.0) ** -random.uniform(-0.3, 1.2)
    noise = np.fft.irfft(spectrum * falloff, length)
    return (noise / max(1e-9, float(np.abs(noise).max()))).astype(np.float32)
