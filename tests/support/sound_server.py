"""Sound servers without hardware, private to the tests: null sinks for all devices."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

RATE = 48_000
# Programs hear what is played into the first from its monitor. The last is what a desktop has, and
# nobody asks for: its loudspeaker.
MICROPHONE, SPEAKER, BUILT_IN = "virtual_microphone", "virtual_speaker", "built_in_speaker"

ALSA = """
pcm.pulse { type pulse; hint { show on; description "sound server" } }
ctl.pulse { type pulse }
pcm.!default { type pulse; hint { show on; description "sound server" } }
ctl.!default { type pulse }
"""

# In a virtual machine PipeWire would work in larger steps.
PIPEWIRE_CONF = """
context.properties = {
    default.clock.quantum = 1024
    default.clock.min-quantum = 32
    vm.overrides = { default.clock.min-quantum = 32 }
}
"""
PIPEWIRE_PULSE_CONF = """
pulse.properties = { vm.overrides = { pulse.min.quantum = 256/48000 } }
"""


class SoundServer:
    """A server with three devices. `env` is what programs need to find it, and nothing else."""

    name = "?"
    tools: tuple[str, ...] = ()
    packages = ""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gtcrn-"))  # short: sockets have short names
        (self.folder / "asound.conf").write_text(ALSA)
        ours = ("PULSE_", "PIPEWIRE_", "XDG_", "DBUS_", "WIREPLUMBER_")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(ours)} | {
            "ALSA_CONFIG_PATH": str(self.folder / "asound.conf"),
            "HOME": str(self.folder),
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "XDG_RUNTIME_DIR": str(self.folder),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "OMP_NUM_THREADS": "1",
        }
        self.processes: list[subprocess.Popen] = []

    def launch(self) -> None:
        """Start the server's processes."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the server and give it its devices."""
        self.launch()
        end = time.monotonic() + 20
        while self.run("pactl", "info", check=False).returncode:
            if time.monotonic() > end or any(p.poll() is not None for p in self.processes):
                raise RuntimeError(f"no sound server: {(self.folder / 'log').read_text()}")
            time.sleep(0.05)
        self.reset()

    def reset(self) -> None:
        """Make the devices what they were at the start, whatever a test has done."""
        assert self.alive, (self.folder / "log").read_text()
        for line in reversed(self.pactl("list", "short", "modules").splitlines()):
            if "=gtcrn" in line:
                self.run("pactl", "unload-module", line.split()[0], check=False)
        there = {sink["name"] for sink in self.listing("sinks")}
        for sink in (MICROPHONE, SPEAKER, BUILT_IN):
            if sink not in there:
                self.plug(sink)
        self.set_default("sink", BUILT_IN)
        self.set_default("source", f"{MICROPHONE}.monitor")

    @property
    def alive(self) -> bool:
        return bool(self.processes) and all(p.poll() is None for p in self.processes)

    def signal(self, which: signal.Signals) -> None:
        for process in self.processes:
            process.send_signal(which)

    def kill(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait()
        self.processes = []

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    def plug(self, sink: str, speakers: str = "mono") -> None:
        """Add a device that the machine has, or has again."""
        channels = len(speakers.split(","))
        self.pactl(
            *("load-module", "module-null-sink", f"sink_name={sink}"),
            *(f"rate={RATE}", "format=float32le", f"channels={channels}"),
            f"channel_map={speakers}",
        )
        self.until(lambda: any(s["name"] == sink for s in self.listing("sinks")))

    def unplug(self, sink: str) -> None:
        for line in self.pactl("list", "short", "modules").splitlines():
            if f"sink_name={sink} " in f"{line} ":
                self.pactl("unload-module", line.split()[0])

    def set_default(self, kind: str, name: str) -> None:
        def is_set() -> bool:  # PipeWire's session manager may not be there yet
            self.run("pactl", f"set-default-{kind}", name, check=False)
            return self.pactl(f"get-default-{kind}").strip() == name

        self.until(is_set)

    def listing(self, kind: str) -> list[dict[str, Any]]:
        """What there is: sinks, sources, sink-inputs..."""
        return json.loads(self.pactl("--format=json", "list", kind))

    def played_on(self) -> set[str]:
        """The sinks that something is played on."""
        names = {sink["index"]: sink["name"] for sink in self.listing("sinks")}
        return {names.get(stream["sink"], "nothing") for stream in self.listing("sink-inputs")}

    def recorded_from(self) -> set[str]:
        """The sources that something is recorded from."""
        names = {source["index"]: source["name"] for source in self.listing("sources")}
        streams = self.listing("source-outputs")
        return {names.get(stream["source"], "nothing") for stream in streams}

    def until(self, what: Any, seconds: float = 10.0) -> None:
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, "the sound server did not come to that"
            time.sleep(0.02)

    def pactl(self, *arguments: str) -> str:
        return self.run("pactl", *arguments).stdout

    def run(self, *command: str, **options) -> subprocess.CompletedProcess:
        options = {"check": True, "timeout": 60, "capture_output": True, "text": True} | options
        return subprocess.run(command, **({"env": self.env} | options))

    def popen(self, *command: str, **options) -> subprocess.Popen:
        return subprocess.Popen(command, env=self.env, **options)

    def gtcrn(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        options = {"check": False} | options
        return self.run(sys.executable, "-m", "gtcrn_cli", *arguments, **options)

    def _popen_logged(self, *command: str) -> None:
        with (self.folder / "log").open("a") as log:
            self.processes.append(self.popen(*command, stdout=log, stderr=log))

    @classmethod
    def why_unavailable(cls) -> str | None:
        """What this machine lacks to run it."""
        missing = [tool for tool in (*cls.tools, "pactl", "paplay") if shutil.which(tool) is None]
        return f"{', '.join(missing)} missing (apt install {cls.packages})" if missing else None


class PulseAudio(SoundServer):
    """A PulseAudio server."""

    name = "PulseAudio"
    tools = ("pulseaudio",)
    packages = "pulseaudio pulseaudio-utils"

    def __init__(self) -> None:
        super().__init__()
        self.env |= {
            "PULSE_RUNTIME_PATH": str(self.folder),
            "PULSE_SERVER": f"unix:{self.folder / 'socket'}",
            "PULSE_STATE_PATH": str(self.folder),
        }

    def launch(self) -> None:
        socket = f"socket={self.folder / 'socket'} auth-anonymous=1"
        self._popen_logged(
            *("pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1"),
            *("--high-priority=yes", "--realtime=yes", "--log-level=error"),
            *("-L", f"module-native-protocol-unix {socket}"),
        )


class PipeWire(SoundServer):
    """PipeWire with its session manager and its PulseAudio server."""

    name = "PipeWire"
    tools = ("dbus-daemon", "pipewire", "wireplumber", "pipewire-pulse")
    packages = "dbus pipewire wireplumber pipewire-pulse pulseaudio-utils"

    def __init__(self) -> None:
        super().__init__()
        self.env["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={self.folder / 'bus'}"
        self.env["PULSE_SERVER"] = f"unix:{self.folder / 'pulse' / 'native'}"
        for name, text in (("pipewire", PIPEWIRE_CONF), ("pipewire-pulse", PIPEWIRE_PULSE_CONF)):
            folder = self.folder / "config" / "pipewire" / f"{name}.conf.d"
            folder.mkdir(parents=True)
            (folder / "test.conf").write_text(text)

    def launch(self) -> None:
        for left in ("bus", "pipewire-0", "pipewire-0.lock", "pulse/native", "pulse/pid"):
            (self.folder / left).unlink(missing_ok=True)
        address = self.env["DBUS_SESSION_BUS_ADDRESS"]
        self._popen_logged("dbus-daemon", "--session", "--nofork", f"--address={address}")
        self.until(lambda: (self.folder / "bus").exists())
        self._popen_logged("pipewire")
        self.until(lambda: (self.folder / "pipewire-0").exists())
        self._popen_logged("wireplumber")
        self._popen_logged("pipewire-pulse")
        self.until(lambda: (self.folder / "pulse" / "native").exists())


class Jack(SoundServer):
    """A JACK server with its dummy backend: one device, "system"."""

    name = "JACK Audio Connection Kit"
    tools = ("jackd",)
    packages = "jackd2"

    def __init__(self) -> None:
        super().__init__()
        self.env |= {"JACK_DEFAULT_SERVER": self.folder.name, "JACK_NO_AUDIO_RESERVATION": "1"}

    def launch(self) -> None:
        backend = ("-d", "dummy", "-r", str(RATE), "-p", "128")
        self._popen_logged("jackd", "-n", self.folder.name, "-r", *backend)

    def start(self) -> None:
        """Start it, and wait until PortAudio sees it."""
        self.launch()
        probe = "import sounddevice; print(sounddevice.query_devices())"

        def seen() -> bool:
            assert self.alive, (self.folder / "log").read_text()
            return self.name in self.run(sys.executable, "-c", probe, check=False).stdout

        self.until(seen, 30.0)

    def kill(self) -> None:
        """In good order: else it leaves its shared memory behind."""
        self.signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(10)
        self.processes = []


SERVERS: tuple[type[SoundServer], ...] = (PulseAudio, PipeWire)


def on_each(servers: Sequence[SoundServer], *bodies: Callable[[SoundServer], None]) -> None:
    """Run tests on all of them at once: where most of them is waiting, that saves most of it."""
    with ThreadPoolExecutor(len(servers) * len(bodies)) as pool:
        tests = [(s.name, b.__name__, pool.submit(b, s)) for s in servers for b in bodies]
    for server, body, test in tests:
        if (error := test.exception()) is not None:
            raise AssertionError(f"{body} on {server}: {error}") from error


def running(kind: type[SoundServer]) -> Iterator[SoundServer]:
    """A server of this kind, for a fixture; skips where it is not installed."""
    reason = kind.why_unavailable()
    if reason is not None:
        pytest.skip(reason)
    server = kind()
    try:
        server.start()
        yield server
    finally:
        server.close()
