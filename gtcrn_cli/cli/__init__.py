"""The command line: parse, call one function, report. One module for each command.

Command modules import what they run inside the command's function: `gtcrn --help` must answer at
once, and most of the packages behind the commands take longer to import than that.
"""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from . import (
    ablate,
    batch,
    bench,
    compare,
    denoise,
    devices,
    doctor,
    evaluate,
    export,
    live,
    models,
    plugin,
    train,
)
from .conduct import run

app = typer.Typer(
    name="gtcrn",
    help="Remove noise from speech in real time: files, folders, pipes and the microphone.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gtcrn {__version__}")
        raise typer.Exit


@app.callback()
def _gtcrn(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


app.command(short_help="Enhance a recording or a stream.", epilog=denoise.EXAMPLES)(denoise.denoise)
app.command(short_help="Enhance the microphone, for hours.", epilog=live.EXAMPLES)(live.live)
app.command(short_help="Enhance every recording in a folder tree.", epilog=batch.EXAMPLES)(
    batch.batch
)
app.command(short_help="Make a page to hear and see what was done.", epilog=compare.EXAMPLES)(
    compare.compare
)
app.command(short_help="Measure PESQ, STOI, SI-SDR and DNSMOS.")(evaluate.evaluate)
app.add_typer(models.app, name="models")
app.command(short_help="List the sound devices.")(devices.devices)
app.command(short_help="Examine what 'gtcrn live' needs.")(doctor.doctor)
app.command(short_help="Measure speed beside other denoisers.")(bench.bench)
app.command(short_help="Write a model as ONNX.")(export.export)
app.command(short_help="Make a LADSPA plugin.", epilog=plugin.EXAMPLES)(plugin.plugin)
app.command(short_help="Train a network.")(train.train)
app.command(short_help="Fit a model to your own noise.")(train.finetune)
app.command(short_help="Compare networks on the same budget.")(ablate.ablate)


def main() -> None:
    """Run the command line; what a user can put right ends in one line on stderr and exit 1."""
    run(app)
