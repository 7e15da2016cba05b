"""`gtcrn plugin`: gtcrn inside other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Model, Overwrite, refuse_options

EXAMPLES = """
\b
Examples:
  gtcrn plugin gtcrn.so
  ffmpeg -i in.wav -af ladspa=file=./gtcrn.so:plugin=gtcrn_mono:latency=1 out.wav
  gtcrn plugin --install
  gtcrn plugin --pipewire gtcrn.so > ~/.config/pipewire/pipewire.conf.d/gtcrn.conf
"""


def plugin(
    context: typer.Context,
    target: Annotated[
        Path | None,
        typer.Argument(metavar="[OUT.so]", help="The file to write.", show_default="gtcrn.so"),
    ] = None,
    model: Model = "gtcrn",
    pipewire: Annotated[
        bool,
        typer.Option(
            "--pipewire",
            help="Print the PipeWire configuration for a virtual microphone with the plugin at "
            "OUT.so; make nothing.",
        ),
    ] = False,
    install: Annotated[
        bool,
        typer.Option(
            "--install", help="Make the plugin, and put it and the configuration in your home."
        ),
    ] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take away what --install put there.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Make a LADSPA plugin for PipeWire, Ardour, Audacity, ffmpeg and others: no Python inside.

    It holds the model and runs on this kind of CPU. Its labels are gtcrn_mono and gtcrn_stereo (one
    mask for both channels); it delays by 32 ms, which hosts can ask for. It needs a C compiler to
    be made.
    """
    if pipewire + install + remove > 1:
        raise typer.BadParameter("choose one of --pipewire, --install and --remove")
    if target is not None and (install or remove):
        raise typer.BadParameter("--install and --remove know the file's place: leave out OUT.so")

    if pipewire or remove:
        mode = "--pipewire" if pipewire else "--remove"
        refuse_options(context, ("model", "overwrite"), f"is for making a plugin, not for {mode}")

    from ..plugin import pipewire as places

    if remove:
        removed = places.remove()
        for place in removed:
            typer.echo(f"gtcrn: removed {place}", err=True)
        if not removed:
            typer.echo("gtcrn: there is nothing to remove", err=True)
        return
    if pipewire:
        typer.echo(places.configuration(target or places.plugin_place()), nl=False)
        return

    from ..network.checkpoint import load_model

    checkpoint = load_model(model)
    if install:
        for place in places.install(checkpoint, overwrite=overwrite):
            typer.echo(f"gtcrn: wrote {place}", err=True)
        typer.echo(
            "gtcrn: the microphone is there after: systemctl --user restart pipewire", err=True
        )
        return
    from ..plugin.build import build_plugin

    place = target or Path("gtcrn.so")
    build_plugin(checkpoint, place, overwrite=overwrite)
    typer.echo(f"gtcrn: wrote {place}, with gtcrn_mono and gtcrn_stereo in it", err=True)
