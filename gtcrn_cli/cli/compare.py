"""`gtcrn compare`: a page, or a picture, that shows what was done."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from .options import (
    PRESETS_HELP,
    AttenLimit,
    Channels,
    ChannelsChoice,
    Device,
    EngineName,
    HighBand,
    HighBandChoice,
    Model,
    Overwrite,
    PresetChoice,
    Quiet,
    Strength,
    engine_of,
    refuse_enhancing_options,
    refuse_options,
    settings_of,
)

EXAMPLES = """
\b
Examples:
  gtcrn compare talk.wav
  gtcrn compare talk.m4a --preset gentle --preset full
  gtcrn compare talk.wav clean.wav other.wav --clean studio.wav -o talk.html
  gtcrn compare lecture.flac --start 600 --duration 60 --png
"""


class SoundChoice(str, Enum):
    """Choices of --sound."""

    flac = "flac"
    opus = "opus"


def compare(
    context: typer.Context,
    noisy: Annotated[
        Path, typer.Argument(metavar="NOISY", help="The recording.", show_default=False)
    ],
    enhanced: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="ENHANCED",
            help="What was made of it by any tool; without any, gtcrn enhances it now.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            show_default="NOISY.compare.html, in this folder",
            help="Where the page goes; a name that ends in .png makes a picture.",
        ),
    ] = None,
    png: Annotated[
        bool, typer.Option("--png", help="Make a picture instead of a page (extra 'report').")
    ] = False,
    sound: Annotated[
        SoundChoice,
        typer.Option(
            "--sound",
            help="Inside a page: flac, exact, or opus, a tenth as large (two minutes of 48 kHz "
            "stereo: under 5 MB).",
        ),
    ] = SoundChoice.flac,
    overwrite: Overwrite = False,
    clean: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The recording without its noise. It can be played, too; SI-SDR, PESQ and STOI "
            "are measured against it.",
            show_default=False,
        ),
    ] = None,
    start: Annotated[
        float,
        typer.Option(min=0, metavar="S", help="Begin after so many seconds."),
    ] = 0,
    duration: Annotated[
        float | None,
        typer.Option(
            metavar="S", help="Show so many seconds, up to 900.", show_default="up to 120"
        ),
    ] = None,
    dnsmos: Annotated[
        bool,
        typer.Option(help="Measure DNSMOS where it is installed."),
    ] = True,
    preset: Annotated[
        list[PresetChoice] | None,
        typer.Option(
            metavar="[full|gentle|asr]",
            show_default="full",
            help=f"{PRESETS_HELP} Give several to hear them side by side.",
        ),
    ] = None,
    strength: Strength = None,
    atten_limit: AttenLimit = None,
    high_band: HighBand = HighBandChoice.gate,
    channels: Channels = ChannelsChoice.independent,
    model: Model = "gtcrn",
    engine: EngineName = "native",
    device: Device = "cpu",
    quiet: Quiet = False,
) -> None:
    """Make a page to hear and see what was done: it needs no network, only a browser."""
    if enhanced:
        refuse_enhancing_options(context, "ENHANCED")
    presets: list[PresetChoice | None] = list(dict.fromkeys(preset or [])) or [None]
    chosen = {one: settings_of(strength, atten_limit, high_band, channels, one) for one in presets}

    from ..evaluation.comparison import compare as compare_sounds
    from ..evaluation.page import write_page
    from ..evaluation.picture import require_matplotlib, write_picture
    from ..evaluation.sounds import Enhancing, Section
    from ..paths import require_distinct, require_free

    png = png or (output is not None and output.suffix.lower() == ".png")
    target = output or Path(f"{noisy.stem}.compare.{'png' if png else 'html'}")
    if png:
        refuse_options(context, ("sound",), "is for pages: a picture has no sound in it")
        if target.suffix.lower() != ".png":
            raise UserError(f"{target}: a picture is a .png: leave out --png, or give that ending")
    for path in (noisy, *(enhanced or ()), *([clean] if clean else [])):
        require_distinct(path, target)
    if target.suffix.lower() not in (".html", ".htm", ".png"):
        raise UserError(f"{target}: a page is an .html, a picture a .png")
    require_free(target, overwrite)
    section = Section(start, duration)
    if png:
        require_matplotlib()
    if enhanced:
        comparison = compare_sounds(noisy, enhanced, clean, section, dnsmos)
    else:
        loaded, name = engine_of(model, engine, device), f"enhanced by {Path(model).stem}"
        ways = [
            Enhancing(loaded, settings, name if one is None else f"{name}, {one.value}")
            for one, settings in chosen.items()
        ]
        comparison = compare_sounds(noisy, ways, clean, section, dnsmos)
    if png:
        write_picture(comparison, target)
    else:
        write_page(comparison, target, sound.value)
    if not quiet:
        for note in comparison.notes:
            typer.echo(f"gtcrn: {note}", err=True)
        megabytes = target.stat().st_size / 1e6
        typer.echo(f"gtcrn: wrote {target} ({megabytes:.1f} MB)", err=True)
