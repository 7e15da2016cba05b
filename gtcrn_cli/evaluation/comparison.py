"""A noisy recording beside what was made of it: read, enhanced where asked to, and measured.

All that can be seen comes from one pass of the STFT that the network uses itself: frames of 32 ms
every 16 ms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import __version__
from ..errors import MissingExtraError, UserError
from ..signals import SILENCE_DB, Level
from .analysis import Analysis, analyze_sound, change_db, fill_in_mask
from .measures import dnsmos_scores, pesq_score, si_sdr_db, stoi_score
from .recordings import to_mono
from .sounds import (
    Enhancing,
    FloatArray,
    Section,
    Sound,
    _enhance,
    _GainRecorder,
    _read,
    distinct_names,
)

SCORED_S = 30.0  # scores take about as long as the sound, and 30 s tell nearly as much as all
MOST_TRACKS = 9  # as many as there are digit keys
QUIET_PERCENTILE = 10
FULL_SCALE = 1 - 2**-15  # the largest sample that 16 bits hold


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
    gain_db: FloatArray | None = None
    removed_db: FloatArray | None = None


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
    made
        With what, when and how it was made, line by line.
    """

    tracks: list[Track]
    highest_hz: float
    start_s: float
    gain_is_mask: bool
    made: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The noisy recording's name."""
        return self.tracks[0].name

    @property
    def duration_s(self) -> float:
        """The length of the longest track in seconds."""
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
    enhanced: Sequence[Path] | Sequence[Enhancing] | Enhancing,
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
        What was made of it; or how to make it, once or in several ways.
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
    ways = 1 if isinstance(enhanced, Enhancing) else len(enhanced)
    if ways + 1 + bool(clean) > MOST_TRACKS:
        raise UserError(f"{ways + 1 + bool(clean)} sounds: a page takes up to {MOST_TRACKS}")
    sounds = [_read(noisy, "noisy", section)]
    recorders: dict[int, _GainRecorder] = {}  # by the number of the track
    made = [f"made by gtcrn {__version__} on {date.today().isoformat()}"]
    for way in [enhanced] if isinstance(enhanced, Enhancing) else enhanced:
        if isinstance(way, Enhancing):
            recorder = _GainRecorder(way.engine, way.settings.strength)
            recorders[len(sounds)] = recorder
            sounds.append(_enhance(sounds[0], recorder, way))
            made.append(f"{way.name}: {way.in_words}")
        else:
            sounds.append(_read(way, "enhanced", section))
    if clean:
        sounds.append(_read(clean, "clean", section))

    highest_hz = max(sound.sample_rate for sound in sounds) / 2
    analyses = [analyze_sound(sound, highest_hz) for sound in sounds]
    names = distinct_names([sound.path for sound in sounds])
    tracks: list[Track] = []
    for number, (name, sound, analysis) in enumerate(zip(names, sounds, analyses, strict=True)):
        figures = _figures(sound, analysis)
        gain_db = removed_db = None
        if sound.role == "enhanced":
            figures["removed"] = tracks[0].figures["level"] - figures["level"]
            gain_db, removed_db = change_db(analysis, analyses[0])
            if number in recorders:
                fill_in_mask(gain_db, recorders[number].gains(), highest_hz)
        figures |= _scores(sound, sounds[-1] if clean else None, dnsmos)
        tracks.append(Track(name, sound, analysis, figures, gain_db, removed_db))
    return Comparison(tracks, highest_hz, section.start_s, bool(recorders), made)


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


def _mono_16k(sound: Sound) -> FloatArray:
    """The first 30 s as the scores want them."""
    return to_mono(sound.samples[: round(SCORED_S * sound.sample_rate)], sound.sample_rate)
