"""`gtcrn denoise`: one file or stream."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from .options import (
    AllowTruncated,
    AttenLimit,
    Bitrate,
    Channels,
    ChannelsChoice,
    Device,
    EngineName,
    HighBand,
    HighBandChoice,
    Model,
    Overwrite,
    PresetName,
    Quiet,
    Strength,
    Subtype,
    available_cores,
    bits_per_s,
    engine_of,
    settings_of,
)
from .progress import progress_bar

if TYPE_CHECKING:
    from ..enhancement.pipeline import Summary


EXAMPLES = """
\b
Examples:
  gtcrn denoise talk.wav clean.wav
  gtcrn denoise --preset gentle --high-band keep talk.flac out.flac
  gtcrn denoise talk.mp3 - | aplay
  gtcrn denoise film.mp4 better.mp4
  ffmpeg -i talk.mp4 -f s16le -ar 48000 -ac 2 - | gtcrn denoise --raw s16le:48000:2 - out.wav
"""


def denoise(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT", help="A sound file or video, or - for stdin.", show_default=False
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="OUTPUT", help="The enhanced file, or - for stdout.", show_default=False
        ),
    ],
    preset: PresetName = None,
    strength: Strength = None,
    atten_limit: AttenLimit = None,
    high_band: HighBand = HighBandChoice.gate,
    channels: Channels = ChannelsChoice.independent,
    model: Model = "gtcrn",
    engine: EngineName = "native",
    device: Device = "cpu",
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            show_default="by the file name",
            metavar="NAME",
            help="The output's format: wav, flac, ogg, opus, mp3, aiff, caf, ...",
        ),
    ] = None,
    subtype: Subtype = None,
    bitrate: Bitrate = None,
    overwrite: Overwrite = False,
    allow_truncated: AllowTruncated = False,
    raw: Annotated[
        str | None,
        typer.Option(
            metavar="ENC:RATE:CHANNELS",
            help="The input is PCM without a header, for example s16le:48000:2. So is the "
            "output, if it goes to stdout.",
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print a summary as JSON (on stderr when the sound goes to stdout)."
        ),
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            show_default="one for each core",
            help="Threads that read, enhance the channels and write at the same time.",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Remove the noise from a recording: same length, same rate, same format, in time with it.

    It is for speech: music is removed like noise.
    """
    format_name = format_name and format_name.lstrip(".")
    settings = settings_of(strength, atten_limit, high_band, channels, preset)

    from ..audio.formats import RawFormat
    from ..audio.opening import Output
    from ..enhancement import pipeline
    from ..memory import keep_freed_memory

    keep_freed_memory()
    with progress_bar(visible=sys.stderr.isatty() and not quiet and not as_json) as progress:
        summary = pipeline.denoise(
            source,
            target,
            engine_of(model, engine, device),
            settings,
            Output(format_name, subtype, overwrite, allow_truncated, bits_per_s(bitrate)),
            RawFormat.parse(raw) if raw else None,
            progress,
            threads or available_cores(),
        )
    if as_json:
        typer.echo(json.dumps(summary.to_dict()), err=target == "-")
    elif not quiet:
        _report(summary)


def _report(summary: Summary) -> None:
    """On a terminal what was done; always what the user should know about it."""
    for note in summary.notes:
        typer.echo(f"gtcrn: {summary.output}: {note}", err=True)
    if sys.stderr.isatty():
        typer.echo(
            f"{summary.output}: {summary.duration_s:.1f} s in {summary.elapsed_s:.1f} s "
            f"({summary.speed:.0f}x real time), level {summary.level_in_db:.1f} -> "
            f"{summary.level_out_db:.1f} dB",
            err=True,
        )
