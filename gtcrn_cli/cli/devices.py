"""`gtcrn devices`: what there is to hear with and to play on."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..live.devices import Device


def devices(
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the sound devices, with the numbers and names that 'gtcrn live' takes."""
    from ..live.devices import list_devices

    listed = list_devices()
    if as_json:
        typer.echo(json.dumps([asdict(device) for device in listed], indent=2))
        return
    if not listed:
        typer.echo("gtcrn: no sound devices: is a sound server running?", err=True)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("#", "in", "out", "rate"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("name", overflow="fold")
    for heading in ("host", ""):
        table.add_column(heading, no_wrap=True)
    for device in listed:
        table.add_row(
            str(device.index),
            str(device.inputs or "-"),
            str(device.outputs or "-"),
            str(device.sample_rate),
            device.name if device.pulse is None else f"{device.name} [dim]{device.pulse}[/dim]",
            device.host,
            ", ".join(_marks(device)),
        )
    Console(soft_wrap=True).print(table)


def _marks(device: Device) -> list[str]:
    marks = []
    if device.default_input:
        marks.append("default input")
    if device.default_output:
        marks.append("default output")
    if device.virtual:
        marks.append("virtual cable")
    return marks
