"""A comparison as a page to listen and look."""

from __future__ import annotations

import base64
import html
import io
import json
import math
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ..errors import UserError
from ..network.config import SAMPLE_RATE
from ..paths import write_whole
from ..signals import SILENCE_DB
from .analysis import ROWS
from .comparison import SCORED_S, Comparison, Track, compare
from .sounds import FloatArray

STEP_DB = 0.5  # a byte of the page counts these above -120 dB
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


def write_page(comparison: Comparison, target: Path) -> None:
    """Write one HTML file that needs no other and no network; `target` is replaced.

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
        "data": _json_for_html(_page_data(comparison)),
    }
    for name, text in parts.items():
        before, after = page.split(f"<!--{name}-->")  # once each, or the template is broken
        page = before + text + after
    if len(page) > LARGEST_PAGE:
        raise UserError(
            f"the page would have {len(page) / 1e6:.0f} MB, more than a browser opens: "
            "use --duration to show less"
        )
    write_whole(target, page.encode())


def _page_data(comparison: Comparison) -> dict[str, Any]:
    tracks = comparison.tracks
    attenuation = min(1.0, *(1 / max(track.sound.peak, 1e-9) for track in tracks))
    notes = list(comparison.notes)
    if attenuation < 1:
        notes.append(f"played {-20 * math.log10(attenuation):.1f} dB lower, so that nothing clips")
    return {
        "title": comparison.title,
        "startS": comparison.start_s,
        "durationS": comparison.duration_s,
        "highestHz": comparison.highest_hz,
        "rows": ROWS,
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
            _track_data(track, gain, attenuation)
            for track, gain in zip(tracks, comparison.matching_gains(), strict=True)
        ],
    }


def _track_data(track: Track, matching_gain: float, attenuation: float) -> dict[str, Any]:
    sound, analysis = track.sound, track.analysis
    # 16 bit FLAC: what every browser decodes, without the delay that lossy codecs add
    audio = io.BytesIO()
    samples = sound.samples * np.float32(attenuation)
    soundfile.write(audio, samples, sound.sample_rate, format="FLAC", subtype="PCM_16")
    data: dict[str, Any] = {
        "name": track.name,
        "role": sound.role,
        "sampleRate": sound.sample_rate,
        "channels": sound.samples.shape[1],
        "durationS": sound.duration_s,
        "matchingGain": matching_gain / attenuation,
        "audio": _base64(audio.getvalue()),
        "hopS": analysis.hop_s,
        "spectrum": _base64(_bytes_of_db(analysis.rows_db)),
        "level": _base64(_bytes_of_db(analysis.level_db)),
        "figures": {name: round(value, 4) for name, value in track.figures.items()},
    }
    if track.gain_db is not None and track.removed_db is not None:
        data["gain"] = _base64(_bytes_of_db(track.gain_db))
        data["change"] = _base64(_bytes_of_db(-track.removed_db))
    return data


def _bytes_of_db(values: FloatArray) -> bytes:
    """One byte each: half dB above -120 dB, so up to +7.5 dB."""
    steps = np.rint((values - np.float32(SILENCE_DB)) / STEP_DB)
    return np.clip(steps, 0, 255).astype(np.uint8).tobytes()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _json_for_html(data: dict[str, Any]) -> str:
    """JSON that a script element can hold: nothing in it ends or comments out the element."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")
