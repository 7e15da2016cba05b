"""The thread that carries the sound from one device through the enhancer to the other."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Protocol

import numpy as np

from ..enhancement.enhancer import Enhancer
from ..signals import Samples
from .drift import Resampler
from .fades import Mute, Splicer
from .recording import Note, Recording
from .regulator import Regulator
from .ring import Player, Ring
from .status import Controls, Counters, FrameTimes, Meter

SPLICE_S = 0.005  # cross-fade where input was dropped
METERED_HOPS = 4  # are looked at together by the meters
START_S = 3.0  # devices start in bursts and pauses: what that costs is not counted as a fault


def _nobody(text: str) -> None:
    """Takes a note that nobody reads."""


class Pair(Protocol):
    """An open input and output. `soundcard.SoundCardPair` is the real one."""

    input: Ring
    most_input: int
    player: Player
    sample_rate: int
    output_rate: int
    names: tuple[str, str]
    notes: list[str]

    @property
    def device_latency_s(self) -> list[float]:
        """Of the input and the output, as the driver tells."""
        ...

    @property
    def device_xruns(self) -> int:
        """Faults that the driver reports."""
        ...

    def now(self) -> float:
        """A clock in seconds; only differences mean something."""
        ...

    def wait(self, timeout_s: float) -> None:
        """Until input has come, or the time is up."""
        ...

    def wake(self) -> None:
        """Say that something waits for the output, if it does not look for itself."""
        ...

    def problem(self) -> str | None:
        """Why the pair can no longer be used; None while it can."""
        ...

    def close(self) -> None:
        """Let go of the devices."""
        ...


class RateConverter:
    """From one sample rate to another, for two devices that have none in common."""

    def __init__(self, input_rate: int, output_rate: int, channels: int) -> None:
        import soxr  # most devices have a rate in common

        self._stream = soxr.ResampleStream(input_rate, output_rate, channels, "float32")
        self._output_rate = output_rate

    @property
    def delay_s(self) -> float:
        """How much sound it holds."""
        return float(self._stream.delay()) / self._output_rate

    def push(self, block: Samples) -> Samples:
        """Take in ``[N, C]``, return what that completes."""
        return self._stream.resample_chunk(np.ascontiguousarray(block))


class Worker:
    """Carries sound from a pair's input to its output.

    Parameters
    ----------
    pair
        The devices.
    enhancer
        Of the input's rate, and as many channels as the player's ring.
    controls
        What the user can turn.
    note
        Told when the delay has to change.
    """

    def __init__(
        self, pair: Pair, enhancer: Enhancer, controls: Controls, note: Note = _nobody
    ) -> None:
        self.pair = pair
        self.recording: Recording | None = None
        self.meter_in, self.meter_out = Meter(), Meter()
        self._enhancer = enhancer
        self._controls = controls
        self._hop = enhancer.hop
        self._hop_s = enhancer.hop / pair.sample_rate
        self.regulator = Regulator(pair, self._hop_s, note)
        self._resampler = Resampler(enhancer.channels)
        self._converter = None
        if pair.output_rate != pair.sample_rate:
            self._converter = RateConverter(pair.sample_rate, pair.output_rate, enhancer.channels)
        self._unmeasured: list[tuple[Samples, Samples]] = []
        self._ahead = 0  # samples in the enhancer
        self._splicer = Splicer(int(SPLICE_S * pair.sample_rate), enhancer.channels)
        self._mute = Mute()
        self._overruns = self._dropped = self._late = 0
        self.times = FrameTimes()
        self._opened_s = pair.now()
        self._before: Counters | None = None  # what was counted while the devices started

    @property
    def latency_s(self) -> float:
        """From microphone to speaker, as far as the drivers tell."""
        return self.regulator.latency_s

    def step(self) -> bool:
        """Carry one hop, if so much has come: whether it had."""
        ring = self.pair.input
        kept, most = self._limits()
        spliced = ring.fill > most
        if spliced:
            self._dropped += ring.trim(kept)
            self._overruns += 1
        if ring.fill < self._hop:
            return False
        start = time.perf_counter()
        noisy = self._splicer.push(self._mixed(ring.take(self._hop)), spliced)
        self._enhancer.settings = self._controls.effective
        enhanced = self._mute.push(self._enhancer.push(noisy), self._controls.mute)
        ahead, self._ahead = self._ahead, self._ahead + len(noisy) - len(enhanced)
        paced = self._resampler.push(enhanced, self.regulator.correction)
        self.pair.player.ring.write(self._converter.push(paced) if self._converter else paced)
        self.pair.wake()  # before all that can wait
        self._measure(noisy, enhanced)
        self._record(noisy, enhanced, ahead)
        self.regulator.update(self._held_s(), self._overruns)
        self._count(time.perf_counter() - start)
        return True

    def _limits(self) -> tuple[int, int]:
        """Samples of input: how many are kept, the newest, when more wait than the second says.

        While nothing is played, what waits beyond what the output needs to start would only make
        the delay longer; with less it would not start, and lose what comes next as well.
        """
        pair, player = self.pair, self.pair.player
        if player.playing:
            lengthened = int(self.regulator.lengthened_s * pair.sample_rate)
            return self._hop, pair.most_input + lengthened
        missing = (player.start_at - player.ring.fill) * pair.sample_rate // pair.output_rate
        kept = max(1, math.ceil(missing / self._hop)) * self._hop
        return kept, kept + self._hop

    def _held_s(self) -> float:
        """How much sound is in here, between the two rings."""
        held_s = (self._ahead + self._resampler.pending) / self.pair.sample_rate
        return held_s + (self._converter.delay_s if self._converter is not None else 0.0)

    def end(self) -> None:
        """The pair is done with: give a recording the rest, and leave the Enhancer fresh."""
        rest = self._enhancer.flush()
        self._record(rest[:0], rest, self._ahead)
        self._ahead = 0

    @property
    def counters(self) -> Counters:
        """Of this pair, since its devices have started."""
        return self._counted() - self._before if self._before else Counters()

    def _counted(self) -> Counters:
        player = self.pair.player
        return Counters(
            self._overruns + player.overruns,
            player.underruns,
            self._dropped + player.dropped,
            self._late,
            self.pair.device_xruns,
            self.times.frames,
        )

    def _mixed(self, block: Samples) -> Samples:
        if block.shape[1] == self._enhancer.channels:
            return block
        return block.mean(axis=1, keepdims=True)

    def _measure(self, noisy: Samples, enhanced: Samples) -> None:
        self._unmeasured.append((noisy, enhanced))
        if len(self._unmeasured) == METERED_HOPS:
            for meter, blocks in zip(
                (self.meter_in, self.meter_out), zip(*self._unmeasured, strict=True), strict=True
            ):
                meter.add(np.concatenate(blocks), METERED_HOPS * self._hop_s)
            self._unmeasured.clear()

    def _record(self, noisy: Samples, enhanced: Samples, ahead: int) -> None:
        recording = self.recording
        if recording is not None and not recording.add(noisy, enhanced, ahead):
            self.recording = None
            recording.finish()

    def _count(self, seconds: float) -> None:
        self.times.add(seconds)
        self._late += seconds > self._hop_s
        if self._before is None and self.pair.now() - self._opened_s > START_S:
            self._before = replace(self._counted(), frames=0)
