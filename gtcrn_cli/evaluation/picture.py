"""A comparison as a picture."""

from __future__ import annotations

import io
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import MissingExtraError
from ..paths import write_whole
from .analysis import mel
from .comparison import Comparison, Track
from .sounds import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Look(NamedTuple):
    """How a picture over time and frequency is coloured."""

    what: str
    colours: str
    lowest_db: float
    highest_db: float


SPECTRUM_LOOK = Look("", "magma", -100, -10)
GAIN_LOOK = Look(": gain", "cividis", -40, 0)


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
    panel: Axes, comparison: Comparison, track: Track, values_db: FloatArray, look: Look
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
