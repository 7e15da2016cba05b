"""`gtcrn live` on the command line: what it refuses, and the service it prints."""

from __future__ import annotations

import subprocess
import sys

import pytest

COMMAND = [sys.executable, "-m", "gtcrn_cli", "live"]


def gtcrn_live(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--virtual-mic", "--output", "x"], "--virtual-mic"),
        (["--follow-default", "--input", "x", "--output", "y"], "--follow-default"),
        (["--strength", "1", "--atten-limit", "3"], "--atten-limit"),
        (["--print-service", "--duration", "3"], "--duration"),
        (["--rate", "7999"], "--rate"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], word: str):
    done = gtcrn_live(*arguments)
    assert done.returncode == 2
    assert word in done.stderr
    assert not done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="no systemd or launchd on Windows")
def test_a_service_runs_the_same_command():
    done = gtcrn_live("--print-service", "--input", "usb mic", "--strength", "0.9")
    assert done.returncode == 0
    assert '--input "usb mic" --strength 0.9 --plain' in done.stdout


def test_help_needs_neither_audio_nor_network():
    code = (
        "import sys; from gtcrn_cli.cli import app; app(['live', '--help'], standalone_mode=False);"
        "print({'sounddevice', 'numba', 'numpy', 'soxr'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
    assert "--follow-default" in done.stdout
