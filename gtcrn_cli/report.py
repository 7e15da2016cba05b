"""Show a comparison: as a page to listen and look, or as a picture."""

from __future__ import annotations

import base64
import html
import io
import json
import math
import warnings
from collections.abc import Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import soundfile

from .comparison import ROWS, SCORED_S, Comparison, Floats, Track, compare, mel
from .errors import MissingExtraError, UserError
from .network.config import SAMPLE_RATE
from .paths import write_whole
from .signals import SILENCE_DB

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEP_DB = 0.5  # a byte of the page counts these above -120 dB
LARGEST_PAGE = 400_000_000  # bytes; Chromium holds no string of more than 2^29


class Look(NamedTuple):
    """How a picture over time and frequency is coloured."""

    what: str
    colours: str
    lowest_db: float
    highest_db: float


SPECTRUM_LOOK = Look("", "magma", -100, -10)
GAIN_LOOK = Look(": gain", "cividis", -40, 0)


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
    folder = files(__package__) / "page"
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


def _bytes_of_db(values: Floats) -> bytes:
    """One byte each: half dB above -120 dB, so up to +7.5 dB."""
    steps = np.rint((values - np.float32(SILENCE_DB)) / STEP_DB)
    return np.clip(steps, 0, 255).astype(np.uint8).tobytes()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _json_for_html(data: dict[str, Any]) -> str:
    """JSON that a script element can hold: nothing in it ends or comments out the element."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")


def require_matplotlib() -> None:
    """Refuse early: before the work that a picture would show.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise MissingExtraError("drawing a picture", "report")


def write_picture(comparison: Comparison, target: Path) -> None:
    """Draw what the page shows as a PNG; `target` is replaced.

    Raises
    ------
    UserError
        It cannot be written; matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure as Canvas

    tracks = comparison.tracks
    enhanced = [track for track in tracks if track.gain_db is not None]
    heights = [2.0, 0.7] * len(tracks) + [1.4] * len(enhanced) + [1.4, 1.0]
    table_height = 0.25 * (len(comparison.figures) + 1)
    canvas = Canvas(figsize=(12, sum(heights) + table_height + 1), layout="constrained")
    canvas.suptitle(comparison.title, parse_math=False)
    *panels, table = canvas.subplots(len(heights) + 1, height_ratios=[*heights, table_height])
    free = iter(panels)
    for index, track in enumerate(tracks):
        _draw_rows(next(free), comparison, track, track.analysis.rows_db, SPECTRUM_LOOK)
        _draw_waveform(next(free), comparison, track, f"C{index}")
    for track in enhanced:
        assert track.gain_db is not None
        _draw_rows(next(free), comparison, track, track.gain_db, GAIN_LOOK)
    levels, removed = free
    for index, track in enumerate(tracks):
        hop_s, level_db = track.analysis.hop_s, track.analysis.level_db
        times = comparison.start_s + np.arange(len(level_db)) * hop_s
        levels.plot(times, level_db, color=f"C{index}", linewidth=0.8)
        if track.removed_db is not None:
            times = times[: len(track.removed_db)]
            removed.plot(times, track.removed_db, color=f"C{index}", linewidth=0.8)
    levels.set(ylabel="level, dB", ylim=(-90, 0))
    removed.set(ylabel="removed, dB", xlabel="time, s", ylim=(-5, 50))
    for panel in panels:
        panel.set_xlim(comparison.start_s, comparison.start_s + comparison.duration_s)
    for panel in panels[:-1]:
        panel.tick_params(labelbottom=False)
    _draw_table(table, comparison)
    data = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in a script of few fonts
        canvas.savefig(data, format="png", dpi=120)
    write_whole(target, data.getvalue())


def _draw_rows(
    panel: Axes, comparison: Comparison, track: Track, values_db: Floats, look: Look
) -> None:
    """A spectrogram, or a gain."""
    length_s = len(values_db) * track.analysis.hop_s
    left = comparison.start_s - track.analysis.hop_s / 2
    image = panel.imshow(
        values_db.T,
        cmap=look.colours,
        vmin=look.lowest_db,
        vmax=look.highest_db,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        extent=(left, left + length_s, 0.0, float(mel(np.array(comparison.highest_hz)))),
    )
    khz = [k for k in (0, 0.5, 1, 2, 4, 8, 16, 32, 64) if k * 1000 <= comparison.highest_hz]
    panel.set_yticks(mel(np.array(khz) * 1000), [f"{k:g}" for k in khz])
    panel.set_ylabel("kHz")
    panel.set_title(track.name + look.what, loc="left", fontsize="medium", parse_math=False)
    panel.figure.colorbar(image, ax=panel, pad=0.01, aspect=12, label="dB")


def _draw_waveform(panel: Axes, comparison: Comparison, track: Track, colour: str) -> None:
    """Smallest and largest sample of every pixel or so."""
    samples = track.sound.samples
    step = max(1, len(samples) // 3000)
    starts = np.arange(0, len(samples), step)
    times = comparison.start_s + starts / track.sound.sample_rate
    lowest = np.minimum.reduceat(samples.min(axis=1), starts)
    highest = np.maximum.reduceat(samples.max(axis=1), starts)
    panel.fill_between(times, lowest, highest, color=colour, linewidth=0.5)
    reach = max(t.sound.peak for t in comparison.tracks) or 1.0
    panel.set(ylim=(-reach, reach), yticks=[])


def _draw_table(panel: Axes, comparison: Comparison) -> None:
    tracks = comparison.tracks
    shown = comparison.figures
    cells = [
        [f"{t.figures[name]:.{figure.digits}f}" if name in t.figures else "" for t in tracks]
        for name, figure in shown.items()
    ]
    labels = [f"{figure.label} {figure.unit}" for figure in shown.values()]
    panel.axis("off")
    table = panel.table(
        cells, rowLabels=labels, colLabels=[track.name for track in tracks], loc="center"
    )
    for cell in table.get_celld().values():
        cell.get_text().set_parse_math(False)
        cell.set_linewidth(0.3)
