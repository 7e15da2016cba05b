"""The command line: parse, call one function, report. One module for each command.

Command modules import what they run inside the command's function, and of the modules only the one
is imported whose command was given: `gtcrn --help` must answer at once, and a short recording must
not wait for options that nobody asked about.
"""

from __future__ import annotations

import gc
import math
import os
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from .. import __version__
from .conduct import run

if TYPE_CHECKING:
    app: typer.Typer

MAY_BE_INFINITE = ("atten_limit",)  # which is no limit


@dataclass(frozen=True)
class _Command:
    """Where a command is, and what `gtcrn --help` says of it."""

    module: str
    short_help: str


COMMANDS = {
    "denoise": _Command("denoise", "Enhance a recording or a stream."),
    "live": _Command("live", "Enhance the microphone, for hours."),
    "batch": _Command("batch", "Enhance every recording in a folder tree."),
    "compare": _Command("compare", "Make a page to hear and see what was done."),
    "evaluate": _Command("evaluate", "Measure PESQ, STOI, SI-SDR and DNSMOS."),
    "models": _Command("models", "List, show, add and remove models."),
    "devices": _Command("devices", "List the sound devices."),
    "doctor": _Command("doctor", "Check what 'gtcrn live' needs."),
    "bench": _Command("bench", "Measure speed beside other denoisers."),
    "export": _Command("export", "Write a model as ONNX."),
    "plugin": _Command("plugin", "Make a LADSPA plugin."),
    "train": _Command("train", "Train a network."),
    "finetune": _Command("train", "Fit a model to your own noise."),
    "ablate": _Command("ablate", "Compare networks on the same budget."),
}


class _Finite(TyperCommand):
    """A command whose numbers are numbers: ``float`` also takes "nan" and "inf", and the bounds of
    an option let the first pass.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        for name, value in ctx.params.items():
            if not isinstance(value, float) or math.isfinite(value):
                continue
            if math.isnan(value) or name not in MAY_BE_INFINITE:
                option = name.replace("_", "-")
                raise typer.BadParameter(f"--{option}: {value} is no finite number", ctx)
        return rest


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gtcrn {__version__}")
        raise typer.Exit


def _gtcrn(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


def make_app(*names: str) -> typer.Typer:
    """The command line with these commands, or with all of them."""
    app = typer.Typer(
        name="gtcrn",
        help="Remove noise from speech in real time: files, folders, pipes and the microphone.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_gtcrn)
    for name in names or COMMANDS:
        command = COMMANDS[name]
        module = import_module(f".{command.module}", __name__)
        if isinstance(getattr(module, "app", None), typer.Typer):
            app.add_typer(module.app, name=name, short_help=command.short_help)
        else:
            app.command(
                name,
                cls=_Finite,
                short_help=command.short_help,
                epilog=getattr(module, "EXAMPLES", None),
            )(getattr(module, name))
    return app


def __getattr__(name: str) -> Any:
    """Make ``app``, with all commands, when it is first asked for."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault("app", make_app())


def main() -> None:
    """Run the command line; what a user can put right ends in one line on stderr and exit 1."""
    # Start-up makes many objects and drops few: the collector, which would look at all of them
    # again and again, takes a tenth of the time of a short command.
    gc.set_threshold(100_000, 20, 20)
    given = sys.argv[1] if len(sys.argv) > 1 else ""
    completing = "_GTCRN_COMPLETE" in os.environ
    run(make_app(given) if given in COMMANDS and not completing else make_app())
