"""Runs `gtcrn live` on a sound server of its own for a long time, and says what was heard.

    python tools/soak.py --server PipeWire --minutes 30 [-- options of gtcrn live]

Noise with pauses is played into a virtual microphone, and both that and the virtual speaker are
recorded. At a strength of 0 sound takes the same way as ever and comes out as it went in, so every
second of the one must be found in the other, later by the same delay each time. Told are the gaps,
how the delay has changed, the delay from click to click before and after, and what the process has
used of the processor. The exit code is 1 if anything was missing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.live_process import LiveProcess
from support.sound_server import MICROPHONE, RATE, SERVERS, SPEAKER, SoundServer

from gtcrn_cli.live import loopback, pulse
from gtcrn_cli.signals import lag

SETTLE_S = 8.0  # a start is not counted: devices begin in bursts and pauses
SEARCHED_S = 0.3  # how far from the last delay the next is looked for
LEAST_DB = 20.0  # of what was heard, against what should be: less is a fault
NOISE_S, PAUSE_S = 1.6, 0.4
PIECE = RATE // 50  # of a second that was stretched
STRETCH = RATE // 200  # how far a piece of it may be from its place
LEAST_NEAR_DB = 6.0  # of a piece, as no sample falls on a sample


class Source(threading.Thread):
    """Plays noise with pauses into a sink until it is stopped."""

    def __init__(self, server: SoundServer, sink: str) -> None:
        super().__init__(daemon=True)
        self._process = server.popen(
            *("pacat", "-d", sink, "--raw", "--format=s16le", f"--rate={RATE}", "--channels=1"),
            *("--latency-msec=300",),
            stdin=subprocess.PIPE,
        )

    def run(self) -> None:
        """See `threading.Thread`."""
        rng = np.random.default_rng(0)
        count, fade = round(NOISE_S * RATE), RATE // 50
        window = np.ones(count)
        window[:fade] = np.linspace(0, 1, fade)
        window[-fade:] = window[:fade][::-1]
        pipe = self._process.stdin
        assert pipe is not None
        try:
            while True:
                noise = np.convolve(rng.normal(0, 0.05, count), np.ones(4), "same") * window
                pipe.write((32767 * noise.clip(-1, 1)).astype("<i2").tobytes())
                pipe.write(bytes(2 * round(PAUSE_S * RATE)))
        except BrokenPipeError:
            pass

    def stop(self) -> None:
        """And wait until it has."""
        self._process.kill()
        self._process.wait()
        self.join()


class Recorder:
    """Records what a sink plays to a file."""

    def __init__(self, server: SoundServer, sink: str, folder: Path) -> None:
        self.path = folder / f"{sink}.raw"
        self._process = server.popen(
            *("parec", "-d", f"{sink}.monitor", "--raw", "--format=s16le"),
            *(f"--rate={RATE}", "--channels=1", "--latency-msec=100"),
            stdout=self.path.open("wb"),
        )

    def stop(self) -> np.ndarray:
        """All of it, still on the disk."""
        self._process.kill()
        self._process.wait()
        return np.memmap(self.path, "<i2", "r")


@dataclass
class Usage:
    """What a process has used: processor time in seconds, changes of context, memory."""

    at_s: float
    threads_s: dict[str, float]
    waits: int
    memory_mb: float

    @classmethod
    def of(cls, pid: int) -> Usage:
        """Now."""
        threads_s: dict[str, float] = {}
        waits = 0
        for task in Path(f"/proc/{pid}/task").iterdir():
            name = f"{(task / 'comm').read_text().strip()}/{task.name}"
            threads_s[name] = int((task / "schedstat").read_text().split()[0]) / 1e9
            lines = (task / "status").read_text().splitlines()
            waits += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary"))
        status = Path(f"/proc/{pid}/status").read_text()
        (memory,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
        return cls(time.monotonic(), threads_s, waits, int(memory.split()[1]) / 1024)

    def told_since(self, before: Usage) -> str:
        """What was used in between."""
        took_s = self.at_s - before.at_s
        used = {name: at - before.threads_s.get(name, 0.0) for name, at in self.threads_s.items()}
        shares = {name: 100 * used_s / took_s for name, used_s in used.items()}
        busy = ", ".join(f"{n.split('/')[0]} {p:.2f} %" for n, p in shares.items() if p >= 0.01)
        return (
            f"{sum(shares.values()):.2f} % of a core ({busy}), woken "
            f"{(self.waits - before.waits) / took_s:.0f} times a second, "
            f"{before.memory_mb:.0f} MB at first, {self.memory_mb:.0f} MB at last"
        )


@dataclass
class Heard:
    """What was heard of what was said.

    Attributes
    ----------
    delays
        In samples: of each second of what was heard, against what was said.
    faulty_s
        Where that second was not what it should be.
    silent
        Pieces of 10 ms that were silent and should not have been.
    """

    delays: np.ndarray
    faulty_s: list[int]
    silent: int


def compare(said: np.ndarray, heard: np.ndarray, first: int) -> Heard:
    """Find every second of `said` in `heard`, where it begins about `first` samples later."""
    reach = round(SEARCHED_S * RATE)
    delay, delays, faulty, silent = first, [], [], 0
    for second in range(len(said) // RATE):
        at = second * RATE
        begin = at + delay - reach
        if begin < 0 or begin + RATE + 2 * reach > len(heard):
            continue
        wanted = said[at : at + RATE] / 32768
        around = heard[begin : begin + RATE + 2 * reach] / 32768
        delay += lag(around, wanted, 2 * reach) - reach
        got = heard[at + delay : at + delay + RATE] / 32768
        delays.append(delay)
        if snr_db(got, wanted) < LEAST_DB:
            around = heard[at + delay - STRETCH : at + delay + RATE + STRETCH] / 32768
            if not is_stretched(around, wanted):
                faulty.append(second)
        peaks = [np.abs(samples).reshape(-1, RATE // 100).max(1) for samples in (wanted, got)]
        silent += int(np.sum((peaks[0] > 0.01) & (peaks[1] < 0.001)))
    return Heard(np.array(delays), faulty, silent)


def snr_db(got: np.ndarray, wanted: np.ndarray) -> float:
    """How much of what was heard is what should be."""
    error = np.mean((got - wanted) ** 2) + 1e-12
    return float(10 * np.log10((np.mean(wanted**2) + 1e-12) / error))


def is_stretched(around: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether all is there but a little earlier or later, as where a drift is corrected."""
    for start in range(0, len(wanted), PIECE):
        piece = wanted[start : start + PIECE]
        near = around[start : start + PIECE + 2 * STRETCH]
        shift = int(np.argmax(np.correlate(near, piece, "valid")))
        if (
            np.abs(piece).max() > 0.01
            and snr_db(near[shift : shift + PIECE], piece) < LEAST_NEAR_DB
        ):
            return False
    return True


def first_delay(said: np.ndarray, heard: np.ndarray) -> int:
    """By the first seconds of both."""
    starts = [samples[: 8 * RATE].astype(np.float32) for samples in (heard, said)]
    return lag(*starts, 8 * RATE)


def is_new_status(now_s: float) -> Callable[[dict[str, Any]], bool]:
    """For `LiveProcess.wait_for`: what it tells after that time."""
    return lambda event: event["event"] == "status" and event["time_s"] > now_s


def clicks_ms(server: SoundServer) -> str:
    """From a click in the microphone to the click in the speaker."""
    os.environ.update({k: v for k, v in server.env.items() if k.startswith(("PULSE", "XDG_RUN"))})
    assert pulse.available()
    latency_s = loopback.click_to_click_s(MICROPHONE, SPEAKER)
    return "no click" if latency_s is None else f"{1000 * latency_s:.1f} ms"


def main() -> int:
    """Run it: the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--server", choices=[s.name for s in SERVERS], default=SERVERS[-1].name)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("options", nargs="*", help="of gtcrn live")
    arguments = parser.parse_args()
    server = next(s for s in SERVERS if s.name == arguments.server)()
    try:
        if (reason := server.why_unavailable()) is not None:
            print(reason)
            return 2
        server.start()
        with tempfile.TemporaryDirectory(prefix="gtcrn-soak-") as folder:
            return soak(server, Path(folder), 60 * arguments.minutes, arguments.options)
    finally:
        server.close()


def soak(server: SoundServer, folder: Path, seconds: float, options: list[str]) -> int:
    """Have it run, and say what was heard: the exit code."""
    print(f"gtcrn live on {server.name}, {seconds / 60:.1f} min, {' '.join(options)}")
    between = ("--input", f"{MICROPHONE}.monitor", "--output", SPEAKER, "--strength", "0")
    live = LiveProcess(server, *between, *options)
    try:
        live.wait_until_running()
        time.sleep(SETTLE_S)
        print(f"from click to click at first: {clicks_ms(server)}")
        source = Source(server, MICROPHONE)
        source.start()
        recorders = [Recorder(server, sink, folder) for sink in (MICROPHONE, SPEAKER)]
        time.sleep(2.0)
        loads = [os.getloadavg()[0]]
        before, told_before = Usage.of(live.process.pid), live.wait_for(is_new_status(time.time()))
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            time.sleep(min(20.0, left_s))
            loads.append(os.getloadavg()[0])
        after = Usage.of(live.process.pid)
        said, heard = (recorder.stop() for recorder in recorders)
        source.stop()
        print(f"from click to click at last: {clicks_ms(server)}")
        told = live.end()
    finally:
        live.kill()
    result = compare(said, heard, first_delay(said, heard))
    delays_ms = 1000 * (result.delays - result.delays[0]) / RATE
    counted = ("underruns", "overruns", "dropped", "device_xruns", "late_frames")
    print("counted: " + ", ".join(f"{name} {told[name] - told_before[name]}" for name in counted))
    print(f"told: latency {told['latency_ms']:.1f} ms, headroom {told['headroom_ms']:.1f} ms, "
          f"drift {told['drift_ppm']:.0f} ppm, {told['frame_ms']:.3f} ms a frame, "
          f"{told['p99_ms']:.3f} ms for 99 of 100")  # fmt: skip
    print(f"heard: {len(result.delays)} s, of which {len(result.faulty_s)} s faulty "
          f"{result.faulty_s[:20]}, {10 * result.silent} ms missing")  # fmt: skip
    print(f"delay against the first second: {delays_ms.min():.2f} to {delays_ms.max():.2f} ms, "
          f"{delays_ms[-1]:.2f} ms at last")  # fmt: skip
    print(f"used: {after.told_since(before)}")
    print(f"load of the machine: {np.mean(loads):.1f} on average, {max(loads):.1f} at most")
    return int(bool(result.faulty_s or result.silent))


if __name__ == "__main__":
    sys.exit(main())
