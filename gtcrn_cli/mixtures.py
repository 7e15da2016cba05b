"""Noisy speech made on the fly: clean speech, noise and rooms in, ``(noisy, clean)`` out.

An example is a pure function of the corpora, a seed and its index. So it can be made again, in any
process and in any order, and a resumed training run sees what an uninterrupted one would.

All audio is 16 kHz, mono. What an index or a folder names is decoded once into one int16 array that
is kept on disk and mapped into memory.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

from .errors import MissingExtraError, UserError
from .network.config import SAMPLE_RATE
from .recordings import Mono, audio_files, read_mono

try:
    from scipy import signal
except ImportError:
    raise MissingExtraError("making training mixtures", "train") from None

Random = np.random.Generator

EARLY_MS = 50  # what of a room response still counts as speech: later reflections are to go
SHORTEST_GAP_S, LONGEST_GAP_S = 0.1, 0.8  # between two clips of speech
VALID_SHARE = 0.1  # of the speakers and recordings of a folder
ACTIVE_DB = -35.0  # a stretch counts as active above this, relative to the loudest


# Corpora: many clips in one array


@dataclass(frozen=True)
class Clip:
    """A piece of an audio file, and what it belongs to.

    Attributes
    ----------
    path
        The file.
    start, length
        Samples at 16 kHz; a length of -1 reaches to the file's end.
    source
        The collection; training draws from small collections more often than their size says.
    group
        The speaker, or the recording. No group is on both sides of the split.
    valid
        Kept for validation.
    """

    path: Path
    start: int
    length: int
    source: str
    group: str
    valid: bool


@dataclass(frozen=True)
class Corpus:
    """Decoded clips.

    Attributes
    ----------
    samples
        int16 ``[N]``, all clips one after the other.
    starts, lengths, sources, groups
        int64 ``[clips]``: where each one lies, and the numbers of its source and its group.
    odds
        float64 ``[clips]``, how often each one is drawn, up to a factor.
    names
        Of the sources.
    """

    samples: NDArray[np.int16]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    sources: NDArray[np.int64]
    groups: NDArray[np.int64]
    odds: NDArray[np.float64]
    names: tuple[str, ...] = ()

    @cached_property
    def _cumulated(self) -> NDArray[np.float64]:
        total = np.cumsum(self.odds)
        return total / total[-1]

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def hours(self) -> float:
        """Of audio, in all clips."""
        return float(self.lengths.sum() / SAMPLE_RATE / 3600)

    def clip(self, number: int) -> Mono:
        """One clip as float32 in -1...1."""
        start = self.starts[number]
        samples = self.samples[start : start + self.lengths[number]]
        return samples.astype(np.float32) / np.float32(32768)

    def draw(self, random: Random) -> int:
        """The number of a random clip."""
        return int(np.searchsorted(self._cumulated, random.random(), side="right"))

    def favour(self, clips: NDArray[np.bool_], share: float) -> Corpus:
        """The same corpus, where these clips are drawn with a probability of `share` together."""
        inside, outside = self.odds[clips].sum(), self.odds[~clips].sum()
        odds = np.where(clips, self.odds * share / inside, self.odds * (1 - share) / outside)
        return replace(self, odds=odds)

    def draw_beside(self, number: int, random: Random, same: str = "groups") -> int:
        """The number of a random clip of the same group (or source)."""
        labels = getattr(self, same)
        return int(random.choice(np.flatnonzero(labels == labels[number])))


@dataclass(frozen=True)
class Corpora:
    """All that a mixture is made of. Rooms and microphones may be empty."""

    speech: Corpus
    noise: Corpus
    rooms: Sequence[Mono] = ()
    microphones: Sequence[Mono] = ()


def list_clips(path: Path, kind: str) -> list[Clip]:
    """The clips that a folder of audio files, or an index of clips, names.

    Parameters
    ----------
    path
        A folder, searched in depth: its first-level folders are sources; a file of speech belongs
        to the speaker whose name its folder bears, if there are several folders; every other file
        is a group of its own. `VALID_SHARE` of the groups is for validation; of a single group it
        is the end of every file. Or a ``.tsv`` with the columns ``file start samples source split``
        and ``speaker`` or ``recording``.
    kind
        ``"speech"`` or ``"noise"``.

    Raises
    ------
    UserError
        There is no such folder, or no audio in it.
    """
    if path.is_file() and path.suffix == ".tsv":
        return _clips_of_index(path)
    if not path.is_dir():
        raise UserError(f"no {kind} found: {path} is neither a folder nor a .tsv index")
    files = audio_files(path)
    if not files:
        raise UserError(f"no {kind} found: there are no audio files in {path}")
    by_folder = kind == "speech" and len({file.parent for file in files}) > 1
    grouped: dict[str, list[Path]] = {}
    for file in files:
        group = (file.parent if by_folder else file).relative_to(path).as_posix()
        grouped.setdefault(group, []).append(file)
    if len(grouped) == 1:
        return [clip for file in files for clip in _split_by_time(file)]
    shuffled = sorted(grouped, key=lambda group: hashlib.sha256(group.encode()).digest())
    held_out = set(shuffled[: math.ceil(VALID_SHARE * len(shuffled))])
    return [
        Clip(file, 0, -1, _first_folder(file, path), group, group in held_out)
        for group, members in grouped.items()
        for file in members
    ]


def _first_folder(file: Path, root: Path) -> str:
    first, *rest = file.relative_to(root).parts
    return first if rest else ""


def _split_by_time(file: Path) -> list[Clip]:
    import soundfile

    try:
        info = soundfile.info(file)
    except soundfile.LibsndfileError as error:
        raise UserError(f"cannot read {file}: {error}") from None
    cut = int(info.frames * SAMPLE_RATE / info.samplerate * (1 - VALID_SHARE))
    return [
        Clip(file, 0, cut, "", file.name, valid=False),
        Clip(file, cut, -1, "", file.name, valid=True),
    ]


def _clips_of_index(path: Path) -> list[Clip]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [
                Clip(
                    path.parent / row["file"],
                    int(row["start"]),
                    int(row["samples"]),
                    row["source"],
                    f"{row['source']}/{row.get('speaker') or row['recording']}",
                    row["split"] == "valid",
                )
                for row in csv.DictReader(file, delimiter="\t")
            ]
    except (OSError, KeyError, ValueError) as error:
        raise UserError(
            f"{path} is not an index of clips: it needs the tab-separated columns file, start, "
            f"samples, source, split, and speaker or recording ({error!r})"
        ) from None


def load_corpus(
    clips: Sequence[Clip], cache_dir: Path | None = None, log: Callable[[str], None] = print
) -> Corpus:
    """Decode clips, or map what an earlier call decoded.

    Raises
    ------
    UserError
        No clip can be read, or the cache cannot be written.
    """
    folder = cache_dir or user_cache_path("gtcrn") / "corpora"
    digest = hashlib.sha256()
    for clip in clips:
        stat = clip.path.stat() if clip.path.exists() else None
        fingerprint = (str(clip.path.resolve()), stat and (stat.st_size, stat.st_mtime_ns))
        digest.update(repr((fingerprint, clip.start, clip.length)).encode())
    cached = folder / f"{digest.hexdigest()[:16]}.npz"
    if not cached.exists():
        _decode_all(clips, cached, log)
    table = np.load(cached)
    samples = np.load(cached.with_suffix(".npy"), mmap_mode="r")
    kept = table["lengths"] > 0
    starts, lengths = table["starts"][kept], table["lengths"][kept]
    names, sources = np.unique([clip.source for clip in clips], return_inverse=True)
    sources = sources[kept]
    groups = np.unique([clip.group for clip in clips], return_inverse=True)[1][kept]
    # A source counts by the square root of its size, and within a source a clip by its length.
    odds = lengths / np.sqrt(np.bincount(sources, lengths)[sources])
    return Corpus(samples, starts, lengths, sources, groups, odds, tuple(map(str, names)))


def load_joined(
    own: Sequence[Clip],
    original: Sequence[Clip],
    share: float,
    log: Callable[[str], None] = print,
) -> Corpus:
    """Two sets of clips as one corpus, of which `own` are drawn with a probability of `share`."""
    mark = "own/"
    corpus = load_corpus(
        [*(replace(clip, source=mark + clip.source) for clip in own), *original], log=log
    )
    is_own = np.array([name.startswith(mark) for name in corpus.names])[corpus.sources]
    return corpus if is_own.all() or not is_own.any() else corpus.favour(is_own, share)


def rehearsal(kind: str) -> Path:
    """The index of a small sample of what the shipped model was trained on, in the package."""
    return Path(__file__).parent / "rehearsal" / f"{kind}.tsv"


def _decode_all(clips: Sequence[Clip], target: Path, log: Callable[[str], None]) -> None:
    files = list(dict.fromkeys(clip.path for clip in clips))
    log(f"decoding {len(files)} files into {target.parent} (once)")
    starts, lengths = np.zeros((2, len(clips)), np.int64)
    of_file: dict[Path, list[int]] = {}
    for number, clip in enumerate(clips):
        of_file.setdefault(clip.path, []).append(number)
    pieces, position = [], 0
    for file in files:
        try:
            audio = read_mono(file)
        except UserError as error:
            log(f"left out: {error}")
            continue
        for number in of_file[file]:
            clip = clips[number]
            end = len(audio) if clip.length < 0 else clip.start + clip.length
            piece = audio[clip.start : end]
            # A file louder than full scale is turned down rather than clipped.
            piece = piece / max(1.0, float(np.abs(piece).max(initial=0)))
            pieces.append(np.round(piece * 32767).astype(np.int16))
            starts[number], lengths[number] = position, len(piece)
            position += len(piece)
    if position == 0:
        raise UserError(f"none of the {len(files)} files beside {files[0]} can be read as audio")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.parent / f".{target.stem}-{os.getpid()}"  # others may do the same
        np.save(partial.with_suffix(".npy"), np.concatenate(pieces))
        partial.with_suffix(".npy").replace(target.with_suffix(".npy"))
        np.savez(partial.with_suffix(".npz"), starts=starts, lengths=lengths)
        partial.with_suffix(".npz").replace(target)
    except OSError as error:
        raise UserError(f"cannot keep decoded audio in {target.parent}: {error}") from None


def load_responses(folder: Path | None) -> list[Mono]:
    """All impulse responses of a folder, each scaled so that its largest sample is 1."""
    if folder is None:
        return []
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder}")
    files = audio_files(folder)
    if not files:
        raise UserError(f"there are no audio files in {folder}")
    responses = [read_mono(file) for file in files]
    return [response / np.abs(response).max() for response in responses if response.any()]


# One example


@dataclass(frozen=True)
class Recipe:
    """How often what happens to an example, and how much.

    Shares are probabilities; pairs are the ends of a uniform distribution.
    """

    snr_db: tuple[float, float] = (-5, 20)
    level_db: tuple[float, float] = (-50, -12)  # RMS of active speech, relative to full scale
    noise_only: float = 0.05
    nearly_clean: float = 0.12  # noise at nearly_clean_db, or none at all
    nearly_clean_db: tuple[float, float] = (30, 60)
    second_voice: float = 0.05  # both are to be kept
    two_noises: float = 0.3
    three_noises: float = 0.1
    made_noise: float = 0.15  # synthetic, in place of a recording
    babble: float = 0.05
    room: float = 0.4
    equaliser: float = 0.4
    microphone: float = 0.2
    bandlimit: float = 0.1
    codec: float = 0.05
    gain_step: float = 0.1
    clipping: float = 0.04
    speed: float = 0.6  # faster or slower, pitch and all: other speakers, other machines
    plain: float = 0.4  # one noise at plain_snr_db, and nothing else of all this
    plain_snr_db: tuple[float, float] = (-5, 15)
    plain_level_db: tuple[float, float] = (-40, -12)

    def only(self, **kept: Any) -> Recipe:
        """This recipe with every share 0 but those given."""
        shares = {f.name: 0.0 for f in fields(self) if isinstance(f.default, float)}
        return replace(self, **{**shares, **kept})


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
    speech, rooms = voices(corpora, recipe, length, random), room_pair(corpora, recipe, random)
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
        noise = at_level(noise, active_level_db(heard) - random.uniform(*recipe.snr_db))

    if random.random() < recipe.gain_step:
        noise = noise * gain_curve(length, random)
    both = np.stack([heard + noise, clean])
    both = device(both, corpora, recipe, random)
    if random.random() < recipe.gain_step:
        both = both * gain_curve(length, random)
    loudness_db = active_level_db(both[1] if both[1].any() else both[0])
    both *= db_to_gain(random.uniform(*recipe.level_db) - loudness_db)
    both /= max(1.0, float(np.abs(both).max()))
    both[0] = damage(both[0], recipe, random)
    noisy, clean = both.astype(np.float32)
    return noisy, clean


def voices(corpora: Corpora, recipe: Recipe, length: int, random: Random) -> Mono:
    """Speech of one speaker, sometimes of two at once."""
    speech = one_voice(corpora.speech, length, random, any_speed(recipe, random))
    if random.random() < recipe.second_voice:
        speech = speech + db_to_gain(random.uniform(-6, 6)) * one_voice(
            corpora.speech, length, random
        )
    if random.random() < recipe.equaliser:
        speech = equalise(speech, random)
    return speech


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


# Rooms


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
