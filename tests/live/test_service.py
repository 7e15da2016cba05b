"""The printed service runs the same command, whatever is in it."""

from __future__ import annotations

import plistlib
import shlex
import sys
from pathlib import Path

import pytest

from gtcrn_cli.errors import UserError
from gtcrn_cli.live.service import service_file

ARGUMENTS = ["live", "--input", 'My "best" mic 100%', "--output", "$cable", "--plain"]


def test_a_systemd_unit():
    unit = service_file(ARGUMENTS, "Linux")
    settings = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line[:24])
    command = shlex.split(settings["ExecStart"])
    command = [word.replace("%%", "%").replace("$$", "$") for word in command]
    assert command == [sys.executable, "-m", "gtcrn_cli", *ARGUMENTS]
    assert settings["Restart"] == "always"
    assert settings["WorkingDirectory"] == str(Path.cwd())
    assert settings["WantedBy"] == "default.target"


def test_a_launch_agent():
    agent = plistlib.loads(service_file(ARGUMENTS, "Darwin").encode())
    assert agent["ProgramArguments"] == [sys.executable, "-m", "gtcrn_cli", *ARGUMENTS]
    assert agent["KeepAlive"] is True
    assert agent["RunAtLoad"] is True


def test_elsewhere_it_is_said_what_to_do():
    with pytest.raises(UserError, match="Task Scheduler"):
        service_file(ARGUMENTS, "Windows")
