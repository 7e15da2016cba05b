"""The plugin at its place, and the PipeWire configuration that makes a microphone of it."""

from __future__ import annotations

import json
from os import environ
from pathlib import Path

from ..errors import UserError
from ..network.checkpoint import Checkpoint
from ..paths import home, write_whole
from .build import LABEL, build_plugin

MARK = "# Written by gtcrn plugin --install; gtcrn plugin --remove takes it away.\n"
NODE = "gtcrn_plugin"
_CONFIGURATION = """\
context.modules = [
    {{ name = libpipewire-module-filter-chain
        flags = [ nofail ]
        args = {{
            node.description = "Microphone without noise (gtcrn)"
            media.name = "Microphone without noise (gtcrn)"
            filter.graph = {{
                nodes = [
                    {{ type = ladspa
                        name = gtcrn
                        plugin = {plugin}
                        label = gtcrn_mono
                        control = {{ "Strength" = 1.0 "Attenuation limit (dB)" = 100.0 }}
                    }}
                ]
            }}
            audio.rate = 48000
            audio.channels = 1
            audio.position = [ MONO ]
            capture.props = {{
                node.name = "{node}_input"
                node.passive = true
            }}
            playback.props = {{
                node.name = "{node}"
                media.class = Audio/Source
            }}
        }}
    }}
]
"""


def configuration(plugin: str | Path) -> str:
    """A drop-in for PipeWire: a virtual microphone through the plugin at a path."""
    return _CONFIGURATION.format(plugin=json.dumps(str(Path(plugin).absolute())), node=NODE)


def plugin_place() -> Path:
    """Where hosts look for a user's LADSPA plugins."""
    return home() / ".ladspa" / "gtcrn.so"


def configuration_place() -> Path:
    """Where PipeWire looks for a user's additions to its configuration."""
    base = environ.get("XDG_CONFIG_HOME") or home() / ".config"
    return Path(base) / "pipewire" / "pipewire.conf.d" / "50-gtcrn-plugin.conf"


def install(checkpoint: Checkpoint, *, overwrite: bool = False) -> list[Path]:
    """Put plugin and configuration in their places; what an earlier call put there is replaced.

    Parameters
    ----------
    checkpoint
        The model whose weights go into the plugin.
    overwrite
        Replace also files that gtcrn did not write.

    Returns
    -------
    What was written.

    Raises
    ------
    UserError
        A file of someone else's is there, or it cannot be written.
    """
    places = [plugin_place(), configuration_place()]
    for place in places:
        if place.exists() and not (overwrite or _is_ours(place)):
            raise UserError(f"{place} is not gtcrn's: add --overwrite to replace it")
    try:
        for place in places:
            place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {error.filename}: {error.strerror}") from None
    build_plugin(checkpoint, places[0], overwrite=True)
    write_whole(places[1], (MARK + configuration(places[0])).encode())
    return places


def remove() -> list[Path]:
    """Take away what `install` put there, and nothing else; says what that was.

    Raises
    ------
    UserError
        A file cannot be removed.
    """
    ours = [place for place in (configuration_place(), plugin_place()) if _is_ours(place)]
    try:
        for place in ours:
            place.unlink()
    except OSError as error:
        raise UserError(f"cannot remove {error.filename}: {error.strerror}") from None
    return ours


def _is_ours(place: Path) -> bool:
    mark = LABEL if place.suffix == ".so" else MARK.encode()
    try:
        return mark in place.read_bytes()
    except OSError:
        return False
