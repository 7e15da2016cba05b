"""A comparison as a page to listen and look."""

from __future__ import annotations

import base64
import html
import io
import json
import math
import zlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from ..audio import bit_rates
from ..audio.fitting import OPUS_RATES
from ..errors import UserError
from ..network.config import SAMPLE_RATE
from ..paths import write_whole
from ..signals import SILENCE_DB, Samples
from .analysis import ROWS
from .comparison import SCORED_S, Comparison, Track, compare
from .sounds import FloatArray

Codec = Literal["flac", "opus"]

STEP_DB = 0.5  # a byte of the page counts these above -120 dB
OPUS_BIT_RATE = {1: 48_000, 2: 64_000}  # by channels
COLUMN_HOPS = {"flac": 1, "opus": 2}  # of a picture: they are most of a small page
LARGEST_PAGE = 400_000_000  # bytes; Chromium holds no string of more than 2^29


def comparison_page(
    noisy: Path, enhanced: Sequence[Path], target: Path, clean: Path | None = None
) -> None:
    """Write a page that compares files that exist; `target` is replaced.

    Parameters
    ----------
    noisy
        The recording.
    enhanced
        What was made of it; may be empty.
    target
        The page, an ``.html``.
    clean
        The recording without its noise.

    Raises
    ------
    UserError
        A file cannot be read, or the page cannot be written.
    """
    write_page(compare(noisy, enhanced, clean), target)


def write_page(comparison: Comparison, target: Path, codec: Codec = "flac") -> None:
    """Write one HTML file that needs no other and no network; `target` is replaced.

    Parameters
    ----------
    comparison
        What it shows.
    target
        The page.
    codec
        Of the sound inside. With ``"opus"`` the page is about a tenth as large: two minutes of
        48 kHz stereo have less than 5 MB. Columns of its pictures are two hops wide then.

    Raises
    ------
    UserError
        It cannot be written, or would be too large to be opened.
    """
    folder = files(__package__) / "assets"
    page = (folder / "page.html").read_text("utf-8")
    parts = {
        "title": html.escape(comparison.title),
        "style": (folder / "page.css").read_text("utf-8"),
        "script": (folder / "page.js").read_text("utf-8"),
        "data": _json_for_html(_page_data(comparison, codec)),
    }
    for name, text in parts.items():
        before, after = page.split(f"<!--{name}-->")  # once each, or the template is broken
        page = before + text + after
    if len(page) > LARGEST_PAGE:
        raise UserError(
            f"the page would have {len(page) / 1e6:.0f} MB, more than a browser opens: "
            f"use {'--sound opus, or ' if codec == 'flac' else ''}--duration to show less"
        )
    write_whole(target, page.encode())


def _page_data(comparison: Comparison, codec: Codec) -> dict[str, Any]:
    tracks = comparison.tracks
    attenuation = min(1.0, *(1 / max(track.sound.peak, 1e-9) for track in tracks))
    notes = list(comparison.notes)
    if attenuation < 1:
        notes.append(f"played {-20 * math.log10(attenuation):.1f} dB lower, so that nothing clips")
    if codec == "opus":
        notes.append("played as Opus, which leaves out what ears miss least: FLAC keeps all")
    return {
        "title": comparison.title,
        "startS": comparison.start_s,
        "durationS": comparison.duration_s,
        "highestHz": comparison.highest_hz,
        "rows": ROWS,
        "columnHops": COLUMN_HOPS[codec],
        "stepDb": STEP_DB,
        "floorDb": SILENCE_DB,
        "gainIsMask": comparison.gain_is_mask,
        "maskHz": SAMPLE_RATE // 2,
        "scoredS": SCORED_S,
        "notes": notes,
        "made": comparison.made,
        "figures": [
            {"name": name, **figure._asdict()} for name, figure in comparison.figures.items()
        ],
        "tracks": [
            _track_data(track, gain, attenuation, codec)
            for track, gain in zip(tracks, comparison.matching_gains(), strict=True)
        ],
    }


def _track_data(
    track: Track, matching_gain: float, attenuation: float, codec: Codec
) -> dict[str, Any]:
    sound, analysis = track.sound, track.analysis
    samples = sound.samples * np.float32(attenuation)
    encode = {"flac": _as_flac, "opus": _as_opus}[codec]
    hops = COLUMN_HOPS[codec]
    data: dict[str, Any] = {
        "name": track.name,
        "role": sound.role,
        "sampleRate": sound.sample_rate,
        "channels": sound.samples.shape[1],
        "durationS": sound.duration_s,
        "matchingGain": matching_gain / attenuation,
        "audio": _base64(encode(samples, sound.sample_rate)),
        "hopS": analysis.hop_s,
        "spectrum": _packed(analysis.rows_db, hops),
        "level": _base64(_steps_of_db(analysis.level_db).tobytes()),
        "figures": {name: round(value, 4) for name, value in track.figures.items()},
    }
    if track.gain_db is not None and track.removed_db is not None:
        data["gain"] = _packed(track.gain_db, hops)
        data["change"] = _base64(_steps_of_db(-track.removed_db).tobytes())
    return data


def _as_flac(samples: Samples, sample_rate: int) -> bytes:
    """16 bit FLAC: what every browser decodes, and nothing is lost or late."""
    audio = io.BytesIO()
    soundfile.write(audio, samples, sample_rate, format="FLAC", subtype="PCM_16")
    return audio.getvalue()


def _as_opus(samples: Samples, sample_rate: int) -> bytes:
    """Opus in Ogg, whose header tells players what to leave out at the start."""
    rate = min((r for r in OPUS_RATES if r >= sample_rate), default=OPUS_RATES[-1])
    if rate != sample_rate:
        samples = soxr.resample(samples, sample_rate, rate)
    audio = io.BytesIO()
    channels = samples.shape[1]
    level = bit_rates.options("OPUS", rate, channels, OPUS_BIT_RATE[channels])
    with soundfile.SoundFile(audio, "w", rate, channels, "OPUS", format="OGG", **level) as file:
        file.write(samples)
    return audio.getvalue()


def _packed(picture: FloatArray, hops: int) -> str:
    """A picture ``[T, ROWS]``: columns as differences to the one before, deflated."""
    padded = np.pad(picture, ((0, -len(picture) % hops), (0, 0)), mode="edge")
    columns = padded.reshape(-1, hops, padded.shape[1]).mean(axis=1)
    steps = _steps_of_db(columns)
    return _base64(zlib.compress(np.diff(steps, axis=0, prepend=np.uint8(0)).tobytes(), 9))


def _steps_of_db(values: FloatArray) -> NDArray[np.uint8]:
    """One byte each: half dB above -120 dB, so up to +7.5 dB."""
    steps = np.rint((values - np.float32(SILENCE_DB)) / STEP_DB)
    return np.clip(steps, 0, 255).astype(np.uint8)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _json_for_html(data: dict[str, Any]) -> str:
    """JSON that a script element can hold: nothing in it ends or comments out the element."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")
