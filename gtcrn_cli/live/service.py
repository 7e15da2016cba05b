"""What keeps `gtcrn live` running: a systemd user unit, a launchd agent."""

from __future__ import annotations

import platform
import plistlib
import sys
from pathlib import Path

from ..errors import UserError

LABEL = "gtcrn-live"


def service_file(arguments: list[str], system: str = "") -> str:
    """A service that runs gtcrn with these arguments, restarts it, and starts it at login.

    Parameters
    ----------
    arguments
        Those of `gtcrn`: ``["live", "--input", "USB"]``.
    system
        As `platform.system` names it; empty for this one.

    Raises
    ------
    UserError
        The system has neither systemd nor launchd.
    """
    command = [sys.executable, "-m", "gtcrn_cli", *arguments]
    system = system or platform.system()
    if system == "Linux":
        return _systemd_unit(command)
    if system == "Darwin":
        return _launch_agent(command)
    raise UserError(
        "no service file for this system: in the Task Scheduler, have a task start at log on "
        f"and run: {' '.join(command)}"
    )


def _systemd_unit(command: list[str]) -> str:
    place = f"~/.config/systemd/user/{LABEL}.service"
    return f"""\
# Save as {place}, then:
#   systemctl --user daemon-reload && systemctl --user enable --now {LABEL}
# What it says: journalctl --user -u {LABEL} -f

[Unit]
Description=gtcrn live: the microphone without its noise
After=pipewire-pulse.service pulseaudio.service
StartLimitIntervalSec=0

[Service]
ExecStart={" ".join(map(_quoted, command))}
WorkingDirectory={_escaped(str(Path.cwd()))}
Restart=always
RestartSec=2

[Install]
WantedBy=default.target
"""


def _escaped(text: str) -> str:
    return text.replace("%", "%%")  # else a specifier of systemd


def _quoted(word: str) -> str:
    word = _escaped(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    plain = word and not set(word) & set(" \t'\";")
    return word if plain else f'"{word}"'


def _launch_agent(command: list[str]) -> str:
    agent = {
        "Label": LABEL,
        "ProgramArguments": command,
        "WorkingDirectory": str(Path.cwd()),
        "RunAtLoad": True,
        "KeepAlive": True,
        "ProcessType": "Interactive",
        "StandardOutPath": f"/tmp/{LABEL}.log",
        "StandardErrorPath": f"/tmp/{LABEL}.log",
    }
    head, _, body = plistlib.dumps(agent, sort_keys=False).decode().partition("<plist")
    place = f"~/Library/LaunchAgents/{LABEL}.plist"
    how = f"<!-- Save as {place}, then: launchctl load -w {place} -->\n"
    return f"{head}{how}<plist{body}"
