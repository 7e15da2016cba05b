"""`gtcrn doctor`: does live sound work here, and if not, why."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from .options import (
    Device,
    EngineName,
    InputDevice,
    Model,
    OutputDevice,
    engine_of,
    refuse_options,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..live.doctor import Finding

COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}


class VirtualMic(str, Enum):
    """Choices of --virtual-mic."""

    add = "add"
    remove = "remove"


def doctor(
    context: typer.Context,
    loopback: Annotated[
        bool,
        typer.Option(
            "--loopback",
            help="Measure the delay with clicks: that of the whole of 'gtcrn live' between virtual "
            "devices, or, with --input and --output, over your cable or through the air.",
        ),
    ] = False,
    low_latency: Annotated[
        bool, typer.Option("--low-latency", help="With --loopback: measure 'live --low-latency'.")
    ] = False,
    input_device: InputDevice = None,
    output_device: OutputDevice = None,
    rate: Annotated[
        int | None, typer.Option(metavar="HZ", help="Sample rate of the loopback.")
    ] = None,
    virtual_mic: Annotated[
        VirtualMic | None,
        typer.Option(help="Make a virtual microphone that stays until logout, or remove it."),
    ] = None,
    precompile: Annotated[
        bool,
        typer.Option(
            "--precompile",
            help="Compile the network for this CPU now, into $XDG_CACHE_HOME/gtcrn, and do nothing "
            "else: for container images, and for jobs without a home.",
        ),
    ] = False,
    model: Model = "gtcrn",
    engine: EngineName = "native",
    device: Device = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Check what 'gtcrn live' needs: sound server or PortAudio, devices, speed and delay."""
    others = {str(parameter.name) for parameter in context.command.params}
    if virtual_mic is not None:
        refuse_options(context, others - {"virtual_mic"}, "does nothing beside --virtual-mic")
        _set_up(virtual_mic)
        return
    if precompile:
        refuse_options(context, others - {"precompile"}, "does nothing beside --precompile")
        _precompile()
        return
    if not loopback:
        measured = ("low_latency", "input_device", "output_device", "rate")
        refuse_options(context, measured, "is for --loopback")
    from ..live.devices import server_devices
    from ..live.doctor import examine, live_latency, round_trip

    def findings() -> Iterator[Finding]:
        engine_used = engine_of(model, engine, device)
        yield from examine(engine_used)
        if not loopback:
            return
        from ..live.soundcard import SoundCard, Wanted

        wanted = Wanted(input_device, output_device, rate, low_latency=low_latency)
        if input_device is None and output_device is None and server_devices():
            yield live_latency(engine_used, wanted)
            return
        card = SoundCard(wanted, endless=True)
        try:
            yield round_trip(card.open())
        finally:
            card.close()

    seen = []
    for finding in findings():
        seen.append(finding)
        if not as_json:
            mark = typer.style(f"{finding.verdict:<8}", fg=COLOURS[finding.verdict])
            typer.echo(f"{mark} {finding.what}: {finding.text}")
    _conclude(seen, as_json)


def _conclude(seen: list[Finding], as_json: bool) -> None:
    from ..live.doctor import virtual_microphone_recipe

    if as_json:
        facts = {
            "findings": [asdict(finding) for finding in seen],
            "virtual_microphone": virtual_microphone_recipe(),
        }
        typer.echo(json.dumps(facts, indent=2))
    else:
        typer.echo(f"\nA virtual microphone: {virtual_microphone_recipe()}")
    if any(finding.verdict == "failed" for finding in seen):
        raise typer.Exit(1)


def _precompile() -> None:
    """Fails where the code cannot be kept: that is what was asked for."""
    from ..errors import UserError
    from ..native.machine_code import cache_file, can_keep, load_kernel

    path = cache_file()
    if can_keep():  # else compiling would be in vain
        load_kernel()
    if not path.is_file():
        raise UserError(f"{path} cannot be kept: set XDG_CACHE_HOME to a writable folder")
    typer.echo(f"{path}: compiled for this CPU", err=True)


def _set_up(wanted: VirtualMic) -> None:
    from ..live import pulse

    if wanted is VirtualMic.remove:
        removed = pulse.remove_virtual_microphone(also_kept=True)
        typer.echo("removed" if removed else "there was none", err=True)
    elif pulse.add_virtual_microphone(kept=True):
        typer.echo(f'choose "{pulse.VIRTUAL_DESCRIPTION}"; feed it: gtcrn live -o gtcrn', err=True)
    else:
        typer.echo("it is there already", err=True)
