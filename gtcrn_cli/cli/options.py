"""Options that several commands share, so that they read and mean the same everywhere."""

from __future__ import annotations

import os
import sys
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Container

    from ..enhancement.engines import Engine
    from ..enhancement.enhancer import Settings


class HighBandChoice(str, Enum):
    """Choices of --high-band."""

    gate = "gate"
    keep = "keep"
    mute = "mute"


class ChannelsChoice(str, Enum):
    """Choices of --channels."""

    independent = "independent"
    linked = "linked"


class PresetChoice(str, Enum):
    """Choices of --preset, as `enhancement.presets` has them."""

    full = "full"
    gentle = "gentle"
    asr = "asr"


# the parameters that say how to enhance, which these options are
ENHANCING = (
    "preset",
    "strength",
    "atten_limit",
    "high_band",
    "channels",
    "model",
    "engine",
    "device",
)

PRESETS_HELP = (
    "full: remove all of the noise that is found. gentle: --atten-limit 12, for listeners. "
    "asr: --atten-limit 6, for speech recognisers."
)
PresetName = Annotated[
    PresetChoice | None, typer.Option("--preset", show_default="full", help=PRESETS_HELP)
]
Strength = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        metavar="0-1",
        show_default="1",
        help="How much of the noise to remove: 0 is none, 1 is all.",
    ),
]
AttenLimit = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="DB",
        show_default="no limit",
        help="Lower the noise by no more than so many decibels; another way to give the strength.",
    ),
]
HighBand = Annotated[
    HighBandChoice,
    typer.Option(
        help="What to do above 8 kHz, where the network does not hear: follow its mask of 6-8 kHz, "
        "keep all, or mute; as far as strength and limit allow."
    ),
]
Channels = Annotated[
    ChannelsChoice,
    typer.Option(
        help="Enhance each channel on its own, or all with one mask, which keeps the stereo image."
    ),
]
Model = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE", help="A model that 'gtcrn models list' names, or a model file."
    ),
]
EngineName = Annotated[
    str,
    typer.Option("--engine", metavar="NAME", help="What runs the network: 'native' or 'torch'."),
]
Device = Annotated[
    str,
    typer.Option(metavar="NAME", help="Where the torch engine runs, for example 'cuda'."),
]
InputDevice = Annotated[
    str | None,
    typer.Option(
        "--input",
        "-i",
        metavar="NUMBER|NAME",
        show_default="the system's default",
        help="The microphone, as 'gtcrn devices' lists it; a part of the name will do.",
    ),
]
OutputDevice = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="NUMBER|NAME",
        show_default="the system's default",
        help="The speaker, headphones or virtual cable, named in the same way.",
    ),
]
Subtype = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        show_default="the input's",
        help="Sample format: PCM_16, PCM_24, FLOAT, VORBIS, ...",
    ),
]
AllowTruncated = Annotated[
    bool,
    typer.Option(
        "--allow-truncated",
        help="Accept a recording that breaks off: what is there is enhanced, and a note says "
        "what is missing.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


Bitrate = Annotated[
    int | None,
    typer.Option(
        metavar="KBIT/S",
        min=1,
        show_default="that of the input",
        help="Bit rate of a lossy output: MP3, Ogg Vorbis, Opus, AAC and others.",
    ),
]


def bits_per_s(bitrate: int | None) -> int | None:
    """A bit rate as users give it, in bit/s."""
    return None if bitrate is None else 1000 * bitrate


def available_cores() -> int:
    """Cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def settings_of(
    strength: float | None,
    atten_limit: float | None,
    high_band: HighBandChoice,
    channels: ChannelsChoice,
    preset: PresetChoice | None = None,
) -> Settings:
    """The settings that these options ask for."""
    from ..enhancement.enhancer import Settings, strength_of_limit

    if preset is not None:
        from ..enhancement.presets import PRESETS

        if strength is not None or atten_limit is not None:
            raise typer.BadParameter("--preset tells the strength: leave out the other option")
        strength = PRESETS[preset.value].settings.strength
    elif strength is not None and atten_limit is not None:
        raise typer.BadParameter("--strength and --atten-limit say the same thing: give one")
    elif atten_limit is not None:
        strength = strength_of_limit(atten_limit)
    return Settings(
        1.0 if strength is None else strength,
        high_band.value,
        channels is ChannelsChoice.linked,
    )


def engine_of(model: str, engine: str, device: str) -> Engine:
    """The engine that these options ask for, its model loaded."""
    from ..enhancement.engines import load_engine
    from ..network.checkpoint import load_model

    return load_engine(load_model(model), engine, device)


def refuse_enhancing_options(context: typer.Context, given: str) -> None:
    """With files that were enhanced before, the options of enhancing would do nothing."""
    refuse_options(context, ENHANCING, f"is for enhancing, but {given} is given already")


def refuse_options(context: typer.Context, names: Container[str], why: str) -> None:
    """Refuse options that would do nothing, if they are on the command line.

    Parameters
    ----------
    context
        Of the command.
    names
        Of the parameters.
    why
        What follows the option in the message.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and source and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"{parameter.opts[0]} {why}")
