"""`gtcrn live`: the microphone, enhanced, until Ctrl-C."""

from __future__ import annotations

import sys
from queue import SimpleQueue
from typing import TYPE_CHECKING, Annotated

import typer

from .options import (
    AttenLimit,
    Channels,
    ChannelsChoice,
    Device,
    EngineName,
    HighBand,
    HighBandChoice,
    InputDevice,
    Model,
    OutputDevice,
    Overwrite,
    PresetName,
    Quiet,
    Strength,
    engine_of,
    settings_of,
)

if TYPE_CHECKING:
    from ..live.views import StatusView


EXAMPLES = """
\b
Examples:
  gtcrn live
  gtcrn live --input usb --output headphones
  gtcrn live --virtual-mic   # choose "gtcrn microphone" in the call
  gtcrn live --record-input noisy.wav --record-output clean.wav
  gtcrn live --virtual-mic --print-service > gtcrn-live.service
"""


def live(
    input_device: InputDevice = None,
    output_device: OutputDevice = None,
    virtual_mic: Annotated[
        bool,
        typer.Option(
            "--virtual-mic",
            help="Play into a virtual microphone, which is there while this runs (Linux).",
        ),
    ] = False,
    follow_default: Annotated[
        bool,
        typer.Option(
            "--follow-default",
            help="Change devices when the system's default changes. Without this, live stays with "
            "those that it began with, and waits for them if they go.",
        ),
    ] = False,
    rate: Annotated[
        int | None,
        typer.Option(
            metavar="HZ",
            min=8_000,
            max=192_000,
            show_default="the devices' own",
            help="Open both devices at this sample rate.",
        ),
    ] = None,
    block: Annotated[
        float | None,
        typer.Option(
            metavar="MS",
            min=1,
            max=200,
            show_default="the system's own, 3-10",
            help="How much a device hands over at a time.",
        ),
    ] = None,
    low_latency: Annotated[
        bool,
        typer.Option(
            "--low-latency",
            help="Work with the least delay that the devices allow; a busy machine has gaps then.",
        ),
    ] = False,
    latency: Annotated[
        float | None,
        typer.Option(
            metavar="MS",
            min=0,
            max=2000,
            show_default="as low as is safe",
            help="The delay to aim for, from microphone to speaker. A longer one has fewer gaps on "
            "a busy machine.",
        ),
    ] = None,
    input_channels: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=64,
            show_default="1",
            metavar="N",
            help="Channels of the microphone to open. Unless as many are played, they are mixed "
            "to one.",
        ),
    ] = None,
    output_channels: Annotated[
        int | None,
        typer.Option(
            min=1, max=64, show_default="up to 2", metavar="N", help="Channels to play on."
        ),
    ] = None,
    preset: PresetName = None,
    strength: Strength = None,
    atten_limit: AttenLimit = None,
    high_band: HighBand = HighBandChoice.gate,
    channels: Channels = ChannelsChoice.independent,
    model: Model = "gtcrn",
    engine: EngineName = "native",
    device: Device = "cpu",
    record_input: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Record the microphone as it is, into this file.",
            show_default=False,
        ),
    ] = None,
    record_output: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Record what is played, in time with the other recording.",
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
    duration: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", min=0, show_default="until Ctrl-C", help="End after so many seconds."
        ),
    ] = None,
    plain: Annotated[
        bool,
        typer.Option("--plain", help="Print a line each second instead of the meters."),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print a JSON object each second."),
    ] = False,
    quiet: Quiet = False,
    print_service: Annotated[
        bool,
        typer.Option(
            "--print-service",
            help="Print a systemd user unit or launchd agent that runs this command from login on.",
        ),
    ] = False,
) -> None:
    """Remove the noise from the microphone, live: to speaker, headphones or a virtual cable.

    Keys: space bypass, m mute, up and down strength, r record, q quit.
    """
    settings = settings_of(strength, atten_limit, high_band, channels, preset)
    if virtual_mic and output_device is not None:
        raise typer.BadParameter("--virtual-mic is an output: leave out --output")
    if follow_default and input_device is not None and (output_device or virtual_mic):
        raise typer.BadParameter("--follow-default has nothing to follow: both devices are given")
    if low_latency and latency is not None:
        raise typer.BadParameter("give --latency or --low-latency, not both")
    if print_service:
        _print_service(bool(record_input or record_output or duration is not None))
        return

    from ..live.session import Session
    from ..live.soundcard import SoundCard, Wanted
    from ..live.watch import watch

    wanted = Wanted(
        input_device,
        output_device,
        rate,
        block,
        latency,
        input_channels,
        output_channels,
        virtual_mic,
        follow_default,
        low_latency,
    )
    view = _view(plain, as_json, quiet)
    notes: SimpleQueue[str] = SimpleQueue()
    session = Session(
        SoundCard(wanted),
        engine_of(model, engine, device),
        settings,
        notes.put,
        (record_input, record_output),
        overwrite,
    )
    watch(session, view, duration, notes)


def _view(plain: bool, as_json: bool, quiet: bool) -> StatusView:
    from ..live.screen import Screen
    from ..live.views import JsonLines, Plain, Silent

    if as_json:
        return JsonLines()
    if quiet:
        return Silent()
    return Plain() if plain or not sys.stderr.isatty() else Screen()


def _print_service(ends: bool) -> None:
    from ..live.service import service_file

    if ends:
        raise typer.BadParameter("a service runs for ever: no --record-… and no --duration")
    arguments = [word for word in sys.argv[1:] if word != "--print-service"]
    if not {"--plain", "--json", "-q", "--quiet"} & set(arguments):
        arguments.append("--plain")
    typer.echo(service_file(arguments), nl=False)
