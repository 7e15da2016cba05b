"""`gtcrn live` as a user runs it, on a sound server, and what is heard there."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from support.sound_server import MICROPHONE, RATE, SoundServer
from support.waiting import wait_for

STARTING_S = 40.0  # for a machine on which all tests run at once


class LiveProcess:
    """`gtcrn live --json`, and what it has printed so far."""

    def __init__(self, server: SoundServer, *arguments: str) -> None:
        command = (sys.executable, "-m", "gtcrn_cli", "live", "--json", *arguments)
        self.process = server.popen(
            *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.events: list[dict[str, Any]] = []
        self._seen = 0
        self._ended = False
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            with self._news:
                self.events.append(json.loads(line))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def wait_for(
        self, what: Callable[[dict[str, Any]], bool], seconds: float = STARTING_S
    ) -> dict[str, Any]:
        """Until an event like that comes, or has come since the last one waited for: the event."""

        def happened() -> dict[str, Any] | None:
            while self._seen < len(self.events):
                self._seen += 1
                if what(self.events[self._seen - 1]):
                    return self.events[self._seen - 1]
            assert not self._ended, self.process.stderr.read()
            return None

        with self._news:
            event = self._news.wait_for(happened, seconds)
        assert event is not None, f"in vain: {self.events[-3:]}"
        return event

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

    def history(self) -> str:
        """What it has told so far, a line each: why a test failed."""
        names = ("uptime_s", "frames", "frame_ms", "late_frames", "latency_ms", "headroom_ms",
                 "drift_ppm", "overruns", "underruns", "dropped", "device_xruns")  # fmt: skip
        told = [
            {name: event[name] for name in names} if event["event"] == "status" else event
            for event in self.events
        ]
        return "\n".join(map(str, told))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        self.process.stderr.close()


def runs(event: dict[str, Any]) -> bool:
    """Sound flows: a frame was timed. Those of the first seconds are not counted."""
    return event.get("state") == "running" and event["frame_ms"] > 0


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
        wait_for(lambda: bool(np.abs(self.heard()[after:]).max(initial=0) > 0.01), seconds)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
