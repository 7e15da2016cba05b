"""The command line: parse, call one function, report. One module for each command.

Command modules import what they run inside the command's function: `gtcrn --help` must answer at
once, and most of the packages behind the commands take longer to import than that.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from .. import __version__
from ..errors import UserError
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
    train,
)

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


app.command(epilog=denoise.EXAMPLES)(denoise.denoise)
app.command(epilog=live.EXAMPLES)(live.live)
app.command(epilog=batch.EXAMPLES)(batch.batch)
app.command(epilog=compare.EXAMPLES)(compare.compare)
app.command()(evaluate.evaluate)
app.add_typer(models.app, name="models")
app.command()(devices.devices)
app.command()(doctor.doctor)
app.command()(bench.bench)
app.command()(export.export)
app.command()(train.train)
app.command()(train.finetune)
app.command()(ablate.ablate)


def _terminate(signum: int, frame: FrameType | None) -> None:
    """End by an exception, so that a half-written output is removed on the way out."""
    raise SystemExit(128 + signum)


def main() -> None:
    """Run the command line; what a user can put right ends in one line on stderr and exit 1."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app()
    except UserError as error:
        print(f"gtcrn: {error}", file=sys.stderr)
        sys.exit(1)
