"""A noisy recording beside what was made of it: read, enhanced where asked to, and measured.

All that can be seen comes from one pass of the STFT that the network uses itself: frames of 32 ms
every 16 ms.
"""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .audio.files import FileSource
from .enhancement.engines import Engine, State
from .enhancement.enhancer import Enhancer, Settings
from .enhancement.stft import STFT
from .errors import MissingExtraError, ReadError, UserError
from .measures import dnsmos_scores, pesq_score, si_sdr_db, stoi_score
from .network.checkpoint import Checkpoint
from .network.config import BINS, SAMPLE_RATE, WINDOW
from .signals import SILENCE_DB, Level, Samples, Spectrum

Role = Literal["noisy", "enhanced", "clean"]
Floats = NDArray[np.float32]

DEFAULT_DURATION_S = 120.0
LONGEST_DURATION_S = 900.0  # a browser holds every track decoded: 0.7 GB for two of 48 kHz stereo
SHORTEST_S = 0.05
SCORED_S = 30.0  # scores take about as long as the sound, and 30 s tell nearly as much as all
MOST_TRACKS = 9  # as many as there are digit keys

ROWS = 192  # of a picture of the spectrum, evenly spaced in mel
LOUDNESS_BLOCK_S = 0.4
FRAMES_AT_ONCE = 256  # bounds memory
QUIET_PERCENTILE = 10
SMOOTH_FRAMES = 5  # over which levels are averaged before one is taken from another
FULL_SCALE = 1 - 2**-15  # the largest sample that 16 bits hold
SMALLEST_POWER = 10 ** (SILENCE_DB / 10)


class Figure(NamedTuple):
    """How a number in the table is called, written and to be understood."""

    label: str
    unit: str
    digits: int
    meaning: str
    scored: bool = False  # of the first `SCORED_S` only


FIGURES = {
    "loudness": Figure("Loudness", "LUFS", 1, "as loud as it sounds (ITU-R BS.1770)"),
    "level": Figure("Level", "dB", 1, "root mean square relative to full scale"),
    "removed": Figure("Removed", "dB", 1, "how much lower the level is than that of the noisy one"),
    "quiet": Figure("Quiet parts", "dB", 1, "a tenth of the time the level is below this"),
    "peak": Figure("Peak", "dB", 1, "largest sample relative to full scale"),
    "clipped": Figure("Clipped", "", 0, "samples at full scale or beyond"),
    "si_sdr": Figure(
        "SI-SDR", "dB", 1, "clean speech over everything else; higher is better", True
    ),
    "pesq": Figure("PESQ", "", 2, "quality against the clean one, 1 to 4.6 (P.862.2)", True),
    "stoi": Figure("STOI", "", 3, "intelligibility against the clean one, 0 to 1", True),
    "dnsmos": Figure("DNSMOS", "", 2, "overall quality as a network guesses it, 1 to 5", True),
    "dnsmos_speech": Figure("DNSMOS speech", "", 2, "of the speech alone, 1 to 5", True),
    "dnsmos_noise": Figure("DNSMOS noise", "", 2, "5: no noise is heard, 1: very intrusive", True),
}


@dataclass(frozen=True)
class Section:
    """Which part of the recordings to show.

    Attributes
    ----------
    start_s
        Where it begins.
    duration_s
        How long it is; ``None`` for the rest, or two minutes of it.
    """

    start_s: float = 0.0
    duration_s: float | None = None

    def __post_init__(self) -> None:
        if not self.start_s >= 0:
            raise UserError(f"a start of {self.start_s:g} s lies before the beginning")
        if self.duration_s is not None and not SHORTEST_S <= self.duration_s <= LONGEST_DURATION_S:
            raise UserError(
                f"a duration of {self.duration_s:g} s: "
                f"a page takes {SHORTEST_S:g} to {LONGEST_DURATION_S:g} s"
            )


@dataclass(frozen=True)
class Enhancing:
    """Enhance now, instead of reading what was enhanced before.

    Attributes
    ----------
    engine, settings
        What enhances, and how.
    name
        What to call the result.
    """

    engine: Engine
    settings: Settings
    name: str


@dataclass(frozen=True, eq=False)
class Sound:
    """A section of one recording.

    Attributes
    ----------
    path, role
        Where it comes from and what it is.
    samples, sample_rate
        ``[N, C]``, C at most 2.
    notes
        What a reader should know about it.
    """

    path: Path
    role: Role
    samples: Samples
    sample_rate: int
    notes: list[str] = field(default_factory=list)

    @property
    def duration_s(self) -> float:
        """How long it is."""
        return len(self.samples) / self.sample_rate

    @property
    def peak(self) -> float:
        """Largest magnitude."""
        return float(np.abs(self.samples).max(initial=0))


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
    rows_db: Floats
    level_db: Floats
    loudness: float


@dataclass(frozen=True, eq=False)
class Track:
    """A sound, its name and all that is known about it.

    Attributes
    ----------
    gain_db, removed_db
        ``[T, ROWS]`` and ``[T]``: what enhancing did; ``None`` for the noisy and the clean one.
    figures
        By the names in `FIGURES`.
    """

    name: str
    sound: Sound
    analysis: Analysis
    figures: dict[str, float]
    gain_db: Floats | None = None
    removed_db: Floats | None = None


@dataclass(frozen=True, eq=False)
class Comparison:
    """All that there is to compare.

    Attributes
    ----------
    tracks
        The noisy one first, the clean one last.
    highest_hz
        Of the spectra.
    start_s
        Where in the recording the section begins.
    gain_is_mask
        Whether `Track.gain_db` is the network's own mask below 8 kHz, or estimated everywhere.
    """

    tracks: list[Track]
    highest_hz: float
    start_s: float
    gain_is_mask: bool

    @property
    def title(self) -> str:
        """The noisy recording's name."""
        return self.tracks[0].name

    @property
    def duration_s(self) -> float:
        """Of the longest track."""
        return max(track.sound.duration_s for track in self.tracks)

    @property
    def figures(self) -> dict[str, Figure]:
        """Those of `FIGURES` that any track has."""
        return {
            name: figure
            for name, figure in FIGURES.items()
            if any(name in track.figures for track in self.tracks)
        }

    @property
    def notes(self) -> list[str]:
        """What a reader should know."""
        notes = [f"{track.name}: {note}" for track in self.tracks for note in track.sound.notes]
        lengths = [track.sound.duration_s for track in self.tracks]
        if max(lengths) - min(lengths) > 0.1:
            notes.append(f"not equally long: {', '.join(f'{length:.2f} s' for length in lengths)}")
        return notes

    def matching_gains(self) -> list[float]:
        """For each track the factor that makes all equally loud, as loud as none clips."""
        loudness = [track.analysis.loudness for track in self.tracks]
        heard = [track for track in self.tracks if track.analysis.loudness > SILENCE_DB]
        room = [t.analysis.loudness - 20 * math.log10(t.sound.peak) for t in heard]
        target = min([max(loudness), *room])
        return [10 ** ((target - db) / 20) if db > SILENCE_DB else 1.0 for db in loudness]


def compare(
    noisy: Path,
    enhanced: Sequence[Path] | Enhancing,
    clean: Path | None = None,
    section: Section | None = None,
    dnsmos: bool = False,
) -> Comparison:
    """Read, enhance where asked to, and measure.

    Parameters
    ----------
    noisy, clean
        As for `comparison_page`.
    enhanced
        What was made of it; or how to make it.
    section
        Which part of all of them.
    dnsmos
        Rate each with DNSMOS as well, where that is installed. Takes about as long as the sound.

    Raises
    ------
    UserError
        A file cannot be read, or there are more than nine.
    """
    section = section or Section()
    sounds = [_read(noisy, "noisy", section)]
    recorder = None
    if isinstance(enhanced, Enhancing):
        recorder = _GainRecorder(enhanced.engine, enhanced.settings.strength)
        sounds.append(_enhance(sounds[0], recorder, enhanced))
    else:
        sounds += [_read(path, "enhanced", section) for path in enhanced]
    if clean:
        sounds.append(_read(clean, "clean", section))
    if len(sounds) > MOST_TRACKS:
        raise UserError(f"{len(sounds)} sounds to compare: a page takes up to {MOST_TRACKS}")

    highest_hz = max(sound.sample_rate for sound in sounds) / 2
    analyses = [_analyze(sound, highest_hz) for sound in sounds]
    names = distinct_names([sound.path for sound in sounds])
    tracks: list[Track] = []
    for name, sound, analysis in zip(names, sounds, analyses, strict=True):
        figures = _figures(sound, analysis)
        gain_db = removed_db = None
        if sound.role == "enhanced":
            figures["removed"] = tracks[0].figures["level"] - figures["level"]
            gain_db, removed_db = _change_db(analysis, analyses[0])
            if recorder:
                _fill_in_mask(gain_db, recorder.gains(), highest_hz)
        figures |= _scores(sound, sounds[-1] if clean else None, dnsmos)
        tracks.append(Track(name, sound, analysis, figures, gain_db, removed_db))
    return Comparison(tracks, highest_hz, section.start_s, recorder is not None)


class _GainRecorder:
    """An engine that remembers what its masks amount to."""

    def __init__(self, engine: Engine, strength: float) -> None:
        self.name: str = engine.name
        self.checkpoint: Checkpoint = engine.checkpoint
        self._engine = engine
        self._strength = np.float32(strength)
        self._gains: list[Floats] = []

    def mask(self, spectrum: Spectrum, state: State | None) -> tuple[Spectrum, State]:
        """See `engines.Engine`."""
        mask, state = self._engine.mask(spectrum, state)
        gain = np.abs(1 - self._strength + self._strength * mask)  # as `Enhancer` applies it
        self._gains.append(np.sqrt(np.square(gain).mean(axis=0)))
        return mask, state

    def gains(self) -> Floats:
        """``[T, 257]``, the mean of all channels."""
        return np.concatenate(self._gains)


def _read(path: Path, role: Role, section: Section) -> Sound:
    """The section of a file; more than two channels become one, as headphones have but two."""
    source = FileSource(path)
    STFT(source.sample_rate)  # refuses a rate out of range before everything is read
    assert source.length is not None
    total_s = source.length / source.sample_rate
    start = round(section.start_s * source.sample_rate)
    length_s = DEFAULT_DURATION_S if section.duration_s is None else section.duration_s
    end = min(start + round(length_s * source.sample_rate), source.length)
    if (end - start) / source.sample_rate < SHORTEST_S:
        raise UserError(f"{path} is {total_s:.2f} s long: there is nothing to show of it")
    notes = []
    if section.duration_s is None and end < source.length:
        notes.append(
            f"{length_s:g} of {total_s:.0f} s shown; "
            "--start and --duration choose another part or a longer one"
        )

    if source.channels > 2:
        notes.append(f"its {source.channels} channels are mixed to one")

    source.skip(start)
    blocks: list[Samples] = []
    try:
        for block in itertools.islice(source.blocks(source.sample_rate), math.ceil(length_s)):
            heard = block.mean(axis=1, keepdims=True) if source.channels > 2 else block
            blocks.append(np.nan_to_num(heard, posinf=0, neginf=0))
    except ReadError as error:
        if not blocks:
            raise
        notes.append(str(error))
    samples = np.concatenate(blocks)[: end - start]
    return Sound(path, role, samples, source.sample_rate, notes)


def _enhance(noisy: Sound, engine: Engine, how: Enhancing) -> Sound:
    enhancer = Enhancer(engine, noisy.sample_rate, noisy.samples.shape[1], how.settings)
    enhanced = np.concatenate([enhancer.push(noisy.samples), enhancer.flush()])
    return Sound(Path(how.name), "enhanced", enhanced, noisy.sample_rate)


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """File names as text; with their folders where several files are called the same."""
    count = Counter(path.name for path in paths)
    names = [path.name if count[path.name] == 1 else str(path) for path in paths]
    return [os.fsencode(name).decode("utf-8", "replace") for name in names]


def _analyze(sound: Sound, highest_hz: float) -> Analysis:
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


def to_db(power: Floats) -> Floats:
    """Ten times the logarithm, at least -120."""
    return 10 * np.log10(np.maximum(power, np.float32(SMALLEST_POWER)))


def mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """O'Shaughnessy's mel scale."""
    return 2595 * np.log10(1 + hz / 700)


def row_weights(bins_hz: NDArray[np.float64], highest_hz: float) -> Floats:
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


def loudness_weighting(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """The power response of ITU-R BS.1770-4's two filters, tables 1 and 2, made for 48 kHz."""
    z = np.exp(-2j * np.pi * np.minimum(hz, 24_000) / 48_000)
    shelf = np.polyval([1.19839281085285, -2.69169618940638, 1.53512485958697], z) / np.polyval(
        [0.73248077421585, -1.69065929318241, 1], z
    )
    highpass = np.polyval([1, -2, 1], z) / np.polyval([0.99007225036621, -1.99004745483398, 1], z)
    return np.square(np.abs(shelf * highpass))


def gated_loudness(power: Floats, hop_s: float) -> float:
    """Loudness of ITU-R BS.1770-4, equations 5-7, from the weighted power of frames ``[T]``.

    Parameters
    ----------
    power
        Sum of the channels' mean squares.
    hop_s
        Between frames.

    Returns
    -------
    LUFS; -120 where no block is above the absolute gate of -70.
    """
    length = min(len(power), round(LOUDNESS_BLOCK_S / hop_s))
    blocks = np.lib.stride_tricks.sliding_window_view(power, length)[:: max(1, length // 4)]
    means = blocks.mean(axis=1, dtype=float)
    means = means[means > 10 ** ((-70 + 0.691) / 10)]
    if not len(means):
        return SILENCE_DB
    loud = means[means > means.mean() / 10]  # 10 LU below the mean
    return -0.691 + 10 * math.log10(loud.mean())


def _change_db(enhanced: Analysis, noisy: Analysis) -> tuple[Floats, Floats]:
    """Gain of every row, ``[T, ROWS]``, and how much lower the level is, ``[T]``."""
    # Another sample rate may have another hop: take the noisy frame that is nearest in time.
    index = np.rint(np.arange(len(enhanced.level_db)) * enhanced.hop_s / noisy.hop_s).astype(int)
    index = index[index < len(noisy.level_db)]
    removed_db = _smooth_db(noisy.level_db)[index] - _smooth_db(enhanced.level_db)[: len(index)]
    return enhanced.rows_db[: len(index)] - noisy.rows_db[index], removed_db


def _fill_in_mask(gain_db: Floats, gains: Floats, highest_hz: float) -> None:
    """Put the mask's own gain ``[T, 257]`` where there is one, up to 8 kHz."""
    weights = row_weights(np.arange(BINS) * SAMPLE_RATE / WINDOW, highest_hz)
    covered = weights.any(axis=1)
    power = np.square(gains[: len(gain_db)]) @ weights[covered].T
    gain_db[:, covered] = to_db(power)


def _smooth_db(level_db: Floats) -> Floats:
    padded = np.pad(10 ** (level_db / 10), SMOOTH_FRAMES // 2, mode="edge")
    return to_db(np.convolve(padded, np.full(SMOOTH_FRAMES, 1 / SMOOTH_FRAMES), "valid"))


def _figures(sound: Sound, analysis: Analysis) -> dict[str, float]:
    """What can be said of any sound."""
    level = Level()
    level.add(sound.samples)
    return {
        "loudness": analysis.loudness,
        "level": level.db,
        "quiet": float(np.percentile(analysis.level_db, QUIET_PERCENTILE)),
        "peak": 20 * math.log10(max(sound.peak, 10 ** (SILENCE_DB / 20))),
        "clipped": float(np.count_nonzero(np.abs(sound.samples) >= FULL_SCALE)),
    }


def _scores(sound: Sound, clean: Sound | None, dnsmos: bool) -> dict[str, float]:
    """What has to be guessed, or measured against the clean original: of the first 30 s.

    Left out is what needs a package that is not installed, and what makes no sense of this sound:
    nothing can be said against silence, and PESQ and STOI need some speech.
    """
    if sound is clean:
        clean = None
    if clean is None and not dnsmos:
        return {}
    scores: dict[str, float] = {}
    mono = _mono_16k(sound)
    if clean is not None:
        reference = _mono_16k(clean)[: len(mono)]
        estimate = mono[: len(reference)]
        if estimate.any() and reference.any():
            measures = {"si_sdr": si_sdr_db, "pesq": pesq_score, "stoi": stoi_score}
            for name, measure in measures.items():
                with suppress(MissingExtraError):
                    scores[name] = measure(estimate, reference)
    if dnsmos:
        with suppress(MissingExtraError):
            guessed = dnsmos_scores(mono)
            for name, part in (("", "OVRL"), ("_speech", "SIG"), ("_noise", "BAK")):
                scores[f"dnsmos{name}"] = guessed[f"DNSMOS {part}"]
    return {name: score for name, score in scores.items() if math.isfinite(score)}


def _mono_16k(sound: Sound) -> Floats:
    """The first 30 s as the scores want them; resampled by cutting or extending the spectrum."""
    mono = sound.samples[: round(SCORED_S * sound.sample_rate)].mean(axis=1)
    if sound.sample_rate == SAMPLE_RATE:
        return mono
    length = round(len(mono) * SAMPLE_RATE / sound.sample_rate)
    return np.fft.irfft(np.fft.rfft(mono), length) * np.float32(length / len(mono))
