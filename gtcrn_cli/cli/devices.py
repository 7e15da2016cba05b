"""`gtcrn devices`: what there is to hear with and to play on."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.text import Text

    from ..live.devices import Device

WIDE = 1000


def devices(
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the sound devices, with the numbers and names that 'gtcrn live' takes."""
    from ..live.devices import list_devices

    listed = list_devices()
    if as_json:
        from ..live.soundcard import expected_latency_ms

        facts = [
            asdict(device) | {"latency_ms": round(expected_latency_ms(device), 1)}
            for device in listed
        ]
        typer.echo(json.dumps(facts, indent=2))
        return
    if not listed:
        typer.echo("gtcrn: no sound devices: is a sound server running?", err=True)
        return
    from rich.console import Console
    from rich.table import Table

    from ..live.soundcard import expected_latency_ms

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("#", "in", "out", "rate"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("name", no_wrap=True)
    table.add_column("host", no_wrap=True)
    table.add_column("delay", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for device in listed:
        table.add_row(
            str(device.index),
            str(device.inputs or "-"),
            str(device.outputs or "-"),
            str(device.sample_rate),
            _name(device),
            device.host,
            f"{expected_latency_ms(device):.0f} ms",
            ", ".join(_marks(device)),
        )
    # Names are there to be copied: where the terminal is too narrow, it wraps whole lines.
    Console(width=WIDE, soft_wrap=True).print(table)


def _name(device: Device) -> Text:
    from rich.text import Text

    parts = [device.name, f" ({device.port_description})" if device.port_description else ""]
    text = Text("".join(parts), no_wrap=True)
    return text.append(f" {device.pulse}", "dim") if device.pulse is not None else text


def _marks(device: Device) -> list[str]:
    marks = []
    if device.default_input:
        marks.append("default input")
    if device.default_output:
        marks.append("default output")
    if device.monitor_of:
        marks.append("what an output plays")
    elif device.virtual:
        marks.append("virtual cable")
    return marks
