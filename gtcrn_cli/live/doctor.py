"""What `gtcrn doctor` finds out: whether live sound works on this system, and how fast."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..enhancement.engines import Engine
from ..enhancement.enhancer import Enhancer
from ..errors import DeviceError, UserError
from ..signals import Samples
from .devices import Device, End, Side, find, list_devices, portaudio, server_devices
from .loopback import click_sound, find_click, measure
from .soundcard import Wanted, expected_latency_ms
from .worker import Pair

Verdict = Literal["ok", "warning", "failed"]

SIDES: tuple[Side, Side] = ("input", "output")
CHECKED_RATES_HZ = (8_000, 16_000, 32_000, 44_100, 48_000, 96_000)
TIMED_FRAMES = 1500
LISTEN_S = 6.0
CLICKS_S = (3.0, 3.4, 4.1, 4.6)  # when devices have settled; uneven, so that only one delay fits


@dataclass(frozen=True)
class Finding:
    """One thing looked at, and what came of it."""

    what: str
    verdict: Verdict
    text: str


def examine(engine: Engine) -> Iterator[Finding]:
    """Look at all that `gtcrn live` needs, most basic first."""
    yield _engine(engine)
    served = server_devices()
    if served:
        yield Finding("sound server", "ok", f"{served[0].host}, {len(served)} devices")
    try:
        sd = portaudio()
    except UserError as error:  # beside a sound server it is not needed
        yield Finding("PortAudio", "warning" if served else "failed", str(error))
        if not served:
            return
    else:
        yield Finding("PortAudio", "ok", sd.get_portaudio_version()[1])
        hosts = [f"{host['name']} ({len(host['devices'])})" for host in sd.query_hostapis()]
        yield Finding("host APIs", "ok" if hosts else "failed", ", ".join(hosts) or "none")
    listed = list_devices()
    for side in SIDES:
        yield _default(listed, side)
    for device in listed:
        yield _rates(device)


def _engine(engine: Engine) -> Finding:
    p99_ms, budget_ms = frame_time_ms(engine)
    text = f"{p99_ms:.2f} ms for 99 % of the frames, of {budget_ms:.0f} ms there are"
    slow = p99_ms > budget_ms / 2
    return Finding(f"engine {engine.name}", "failed" if slow else "ok", text)


def frame_time_ms(engine: Engine, sample_rate: int = 48_000) -> tuple[float, float]:
    """The 99th percentile of the time that a frame takes, and the time there is."""
    enhancer = Enhancer(engine, sample_rate)
    noise = np.random.default_rng(0).normal(0, 0.1, (enhancer.hop, 1)).astype(np.float32)
    for _ in range(20):
        enhancer.push(noise)
    times_s = []
    for _ in range(TIMED_FRAMES):
        start = time.perf_counter()
        enhancer.push(noise)
        times_s.append(time.perf_counter() - start)
    return 1000 * float(np.percentile(times_s, 99)), 1000 * enhancer.hop / sample_rate


def _default(listed: list[Device], side: Side) -> Finding:
    try:
        device = find(listed, None, side)
    except DeviceError as error:
        return Finding(f"default {side}", "failed", str(error))
    return Finding(
        f"default {side}",
        "ok",
        f"{device.index} {device.name}, {device.host}, "
        f"about {expected_latency_ms(device):.0f} ms from microphone to speaker",
    )


def _rates(device: Device) -> Finding:
    parts, opens = [], True
    for side in SIDES:
        if not device.channels(side):
            continue
        end = End(device, side, 1)
        rates = [rate for rate in CHECKED_RATES_HZ if end.opens(rate)]
        opens = opens and bool(rates)
        parts.append(f"{side} at {', '.join(f'{r / 1000:g}' for r in rates) or 'no rate'} kHz")
    name = f"device {device.index} {device.name}"
    return Finding(name, "ok" if opens else "warning", "; ".join(parts))


def live_latency(engine: Engine, wanted: Wanted) -> Finding:
    """Measure the delay of `gtcrn live` between two virtual devices: no cable is needed."""
    loop = measure(engine, wanted)
    if loop.latency_ms is None:
        return Finding("live latency", "warning", "no click came through")
    return Finding(
        "live latency",
        "warning" if loop.gaps else "ok",
        f"{loop.latency_ms:.0f} ms from a click in the microphone to the click in the speaker, "
        f"all of gtcrn live in between; {loop.gaps} gaps",
    )


def round_trip(pair: Pair) -> Finding:
    """Play clicks, listen for them: the delay over a cable, or through the air.

    Sound is carried as `worker.Worker` does it but for the Enhancer, whose delay is added.
    """
    try:
        delay = _heard_after(pair)
    finally:
        pair.close()
    if delay is None:
        return Finding(
            "round trip",
            "warning",
            "no click came back: connect output and input, or turn the speaker up",
        )
    from ..enhancement.stft import STFT

    stft = STFT(pair.sample_rate)
    live_ms = 1000 * (delay + stft.hop) / pair.sample_rate
    return Finding(
        "round trip",
        "ok",
        f"{live_ms:.0f} ms from microphone to speaker as live does it, "
        f"{1000 * delay / pair.sample_rate:.0f} ms of them devices and buffers",
    )


def _heard_after(pair: Pair) -> int | None:
    """Samples from a click's writing to its arrival; None if none was heard."""
    rate = pair.sample_rate
    if pair.output_rate != rate:
        raise UserError("a round trip needs devices of one rate: give --rate")
    hop = round(0.016 * rate)
    click = click_sound(rate)
    played = np.zeros((round(LISTEN_S * rate) + hop, 1), np.float32)
    for start in (round(at_s * rate) for at_s in CLICKS_S):
        played[start : start + len(click), 0] = click
    heard: list[Samples] = []
    done, end_s = 0, pair.now() + 2 * LISTEN_S
    while done < len(played) - hop and pair.now() < end_s and pair.problem() is None:
        if pair.input.fill < hop:
            pair.wait(0.1)
            continue
        if pair.input.fill > pair.most_input:
            pair.input.trim(2 * hop)
        heard.append(pair.input.take(hop).mean(axis=1, keepdims=True))
        block = np.repeat(played[done : done + hop], pair.player.ring.channels, axis=1)
        pair.player.ring.write(block)
        pair.wake()
        done += hop
    return find_click(np.concatenate(heard)[:, 0], played[:done, 0]) if heard else None


def virtual_microphone_recipe(system: str = "") -> str:
    """How to get a microphone that other programs can choose on this system."""
    system = system or platform.system()
    if system == "Linux":
        return (
            'gtcrn live --virtual-mic, then choose "gtcrn microphone" in the other program. '
            "To have it there until you log out: gtcrn doctor --virtual-mic add (or by hand: pactl "
            "load-module module-null-sink sink_name=gtcrn; pactl load-module module-remap-source "
            "master=gtcrn.monitor source_name=gtcrn_microphone), then gtcrn live --virtual-mic"
        )
    if system == "Darwin":
        return (
            "brew install blackhole-2ch, then gtcrn live --output BlackHole, "
            'and choose "BlackHole 2ch" as the microphone in the other program'
        )
    return (
        "install VB-Cable (https://vb-audio.com/Cable), then gtcrn live --output "
        '"CABLE Input", and choose "CABLE Output" as the microphone in the other program'
    )
