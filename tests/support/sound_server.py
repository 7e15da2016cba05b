"""A PulseAudio server without hardware, private to the tests: null sinks for all devices."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOOLS = ("pulseaudio", "pactl", "paplay", "parec")
RATE = 48_000
MICROPHONE, SPEAKER = "virtual_microphone", "virtual_speaker"

ALSA = """
pcm.pulse { type pulse; hint { show on; description "sound server" } }
ctl.pulse { type pulse }
pcm.!default { type pulse; hint { show on; description "sound server" } }
ctl.!default { type pulse }
"""


class SoundServer:
    """Runs while it is a context; `env` is what programs need to find it, and nothing else.

    Programs hear what is played into the sink `MICROPHONE` from its monitor.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gtcrn-"))  # short: sockets have short names
        (self.folder / "asound.conf").write_text(ALSA)
        socket = self.folder / "socket"
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("PULSE_")} | {
            "ALSA_CONFIG_PATH": str(self.folder / "asound.conf"),
            "HOME": str(self.folder),
            "PULSE_RUNTIME_PATH": str(self.folder),
            "PULSE_SERVER": f"unix:{socket}",
            "PULSE_STATE_PATH": str(self.folder),
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
            "XDG_RUNTIME_DIR": str(self.folder),
            "OMP_NUM_THREADS": "1",
        }
        self.env.pop("DBUS_SESSION_BUS_ADDRESS", None)
        sink = f"module-null-sink rate={RATE} format=float32le channels=1 sink_name="
        self._command = [
            *("pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1"),
            *("--high-priority=yes", "--realtime=yes", "--log-level=error"),
            *("-L", f"module-native-protocol-unix socket={socket} auth-anonymous=1"),
            *("-L", f"{sink}{MICROPHONE}"),
            *("-L", f"{sink}{SPEAKER}"),
        ]
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        log = (self.folder / "log").open("a")
        self._process = subprocess.Popen(self._command, env=self.env, stdout=log, stderr=log)
        end = time.monotonic() + 20
        while self.run("pactl", "info", check=False).returncode:
            if time.monotonic() > end or self._process.poll() is not None:
                raise RuntimeError(f"no sound server: {(self.folder / 'log').read_text()}")
            time.sleep(0.1)
        self.run("pactl", "set-default-source", f"{MICROPHONE}.monitor")
        self.run("pactl", "set-default-sink", SPEAKER)

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def run(self, *command: str, **options) -> subprocess.CompletedProcess:
        options = {"check": True, "timeout": 60, "capture_output": True, "text": True} | options
        return subprocess.run(command, env=self.env, **options)

    def popen(self, *command: str, **options) -> subprocess.Popen:
        return subprocess.Popen(command, env=self.env, **options)

    def gtcrn(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        options = {"check": False} | options
        return self.run(sys.executable, "-m", "gtcrn_cli", *arguments, **options)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder)


def why_unavailable(server: SoundServer) -> str | None:
    """What this machine lacks to hear and play through such a server."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} missing (apt install pulseaudio pulseaudio-utils)"
    server.start()
    probe = "import sounddevice; print(sounddevice.query_devices())"
    found = server.run(sys.executable, "-c", probe, check=False)
    if "pulse" not in found.stdout:
        return (
            "PortAudio cannot reach PulseAudio (apt install libportaudio2 libasound2-plugins): "
            f"{found.stderr[-200:]}"
        )
    return None
