"""`gtcrn live` as a user runs it, on a sound server, and what is heard there."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from support.sound_server import MICROPHONE, RATE, SoundServer

STARTING_S = 40.0  # for a machine on which all tests run at once


class LiveProcess:
    """`gtcrn live --json`, and what it has printed so far."""

    def __init__(self, server: SoundServer, *arguments: str) -> None:
        command = (sys.executable, "-m", "gtcrn_cli", "live", "--json", *arguments)
        self.process = server.popen(
            *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.events: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def wait_for(
        self, what: Callable[[dict[str, Any]], bool], seconds: float = STARTING_S
    ) -> dict[str, Any]:
        """Until an event like that comes, or has come since the last one waited for: the event."""
        end = time.monotonic() + seconds
        seen = getattr(self, "_seen", 0)
        while True:
            for event in self.events[seen:]:
                seen += 1
                if what(event):
                    self._seen = seen
                    return event
            assert time.monotonic() < end, f"in vain: {self.events[-3:]}"
            assert self.process.poll() is None, self.process.stderr.read()
            time.sleep(0.02)

    def wait_for_note(self, words: str) -> str:
        """Until it says so."""
        return self.wait_for(lambda event: words in event.get("text", ""))["text"]

    def wait_until_running(self) -> dict[str, Any]:
        """Until sound flows."""
        return self.wait_for(runs)

    def end(self, how: signal.Signals = signal.SIGTERM) -> dict[str, Any]:
        """Ask it to end: its last line."""
        self.process.send_signal(how)
        code = self.process.wait(20)
        self._reader.join()
        assert code == 0, self.process.stderr.read()
        assert self.events[-1]["event"] == "end"
        return self.events[-1]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        self.process.stderr.close()


def runs(event: dict[str, Any]) -> bool:
    return event.get("state") == "running" and event["frames"] > 0


def speak(server: SoundServer, folder: Path, seconds: float = 60.0) -> subprocess.Popen:
    """Have somebody speak into the microphone: a warble, which the network cannot take for noise
    where it is told to change nothing."""
    at_s = np.arange(int(seconds * RATE)) / RATE
    path = folder / "spoken.wav"
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 300 * at_s) * np.cos(10 * at_s), RATE)
    return server.popen("paplay", "-d", MICROPHONE, "--latency-msec=200", str(path))


class Listener:
    """Records what a sink plays, from now on."""

    def __init__(self, server: SoundServer, sink: str, folder: Path) -> None:
        self.path = folder / f"{sink}.raw"
        self._process = server.popen(
            *("parec", "-d", f"{sink}.monitor", "--raw", "--format=float32le"),
            *(f"--rate={RATE}", "--channels=1", "--latency-msec=50"),
            stdout=self.path.open("wb"),
        )

    def heard(self) -> np.ndarray:
        """All of it so far."""
        size = self.path.stat().st_size // 4 * 4
        return np.frombuffer(self.path.read_bytes()[:size], np.float32)

    def wait_for_sound(self, after: int = 0, seconds: float = 20.0) -> None:
        """Until something is heard."""
        end = time.monotonic() + seconds
        while not np.abs(self.heard()[after:]).max(initial=0) > 0.01:
            assert time.monotonic() < end, "nothing was heard"
            time.sleep(0.05)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
