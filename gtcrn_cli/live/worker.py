"""The thread that carries the sound from one device through the enhancer to the other."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Protocol

import numpy as np

from ..enhancement.enhancer import Enhancer
from ..signals import Samples
from .drift import DEAD_ZONE_S, DriftControl, Resampler
from .recording import Recording
from .ring import Player, Ring
from .status import Controls, Counters, Meter

SPLICE_S = 0.005  # cross-fade where input was dropped
TIMED_FRAMES = 4096  # of which the 99th percentile is told: the last minute
HEADROOM_S = 1.0  # how often the least that waited for the output is noted
MOST_LENGTHENED = 3  # times the headroom that was planned: that much delay a jittery system may add
START_S = 3.0  # devices start in bursts and pauses: what that costs is not counted as a fault


class Pair(Protocol):
    """An open input and output. `soundcard.Pair` is the real one."""

    input: Ring
    most_input: int
    player: Player
    sample_rate: int
    output_rate: int
    names: tuple[str, str]
    notes: list[str]
    device_latency_s: list[float]
    device_xruns: int

    def now(self) -> float:
        """Seconds, of any origin."""
        ...

    def wait(self, timeout_s: float) -> None:
        """Until input has come, or the time is up."""
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
    """

    def __init__(self, pair: Pair, enhancer: Enhancer, controls: Controls) -> None:
        self.pair = pair
        self.drift = DriftControl()
        self.recording: Recording | None = None
        self.meter_in, self.meter_out = Meter(), Meter()
        self.latency_s = 0.0
        self._enhancer = enhancer
        self._controls = controls
        self._hop = enhancer.hop
        self._hop_s = enhancer.hop / pair.sample_rate
        self._resampler = Resampler(enhancer.channels)
        self._converter = None
        if pair.output_rate != pair.sample_rate:
            self._converter = RateConverter(pair.sample_rate, pair.output_rate, enhancer.channels)
        self._ahead = 0  # samples in the enhancer
        self._gain = np.float32(1)
        splice = int(SPLICE_S * pair.sample_rate)
        self._splice = np.linspace(0, 1, splice, dtype=np.float32)[:, None]
        self._recent = np.zeros((len(self._splice), enhancer.channels), np.float32)
        self._overruns = self._dropped = self._late = self._frames = 0
        self._times_s = np.zeros(TIMED_FRAMES)
        self._regulated_s = self._opened_s = pair.now()
        self._faults = 0
        self.headroom_s = 0.0
        self._looked_s = pair.now()
        self._least_s = math.inf  # of the headroom, since the control began to settle
        self._lengthened_s = 0.0
        self._before: Counters | None = None  # what was counted while the devices started

    def step(self) -> bool:
        """Carry one hop, if so much has come: whether it had."""
        ring, player = self.pair.input, self.pair.player
        spliced = False
        if ring.fill > self.pair.most_input:
            dropped = ring.trim(2 * self._hop)
            spliced = True
            self._overruns += 1
            self._dropped += dropped
        if ring.fill < self._hop:
            return False
        start = time.perf_counter()
        noisy = self._mixed(ring.take(self._hop))
        if spliced:
            # Mirrored, the end of the old goes on with the value that it ended on.
            length = len(self._splice)
            noisy[:length] *= self._splice
            noisy[:length] += self._recent[::-1] * (1 - self._splice)
        self._recent = noisy[-len(self._splice) :]

        self._enhancer.settings = self._controls.effective
        enhanced = self._enhancer.push(noisy)
        enhanced = self._faded(enhanced)
        self.meter_in.add(noisy, self._hop_s)
        self.meter_out.add(enhanced, self._hop_s)
        self._record(noisy, enhanced)
        self._ahead += len(noisy) - len(enhanced)
        paced = self._resampler.push(enhanced, self.drift.correction)
        player.ring.write(self._converter.push(paced) if self._converter else paced)
        self._regulate()
        self._count(time.perf_counter() - start)
        return True

    def end(self) -> None:
        """The pair is done with: give a recording the rest, and leave the Enhancer fresh."""
        rest = self._enhancer.flush()
        self._record(rest[:0], rest)
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
            self._frames,
        )

    def frame_times_ms(self) -> tuple[float, float]:
        """The mean and the 99th percentile of the last frames, through all of `step`."""
        times = self._times_s[: min(self._frames, TIMED_FRAMES)]
        if not len(times):
            return 0.0, 0.0
        return 1000 * float(times.mean()), 1000 * float(np.percentile(times, 99))

    def _mixed(self, block: Samples) -> Samples:
        if block.shape[1] == self._enhancer.channels:
            return block
        return block.mean(axis=1, keepdims=True)

    def _faded(self, block: Samples) -> Samples:
        """Mute, or unmute, over the length of the block."""
        wanted = np.float32(0 if self._controls.mute else 1)
        if self._gain == wanted:
            return block if wanted else np.zeros_like(block)
        ramp = np.linspace(self._gain, wanted, len(block), dtype=np.float32)[:, None]
        self._gain = wanted if len(block) else self._gain
        return block * ramp

    def _record(self, noisy: Samples, enhanced: Samples) -> None:
        recording = self.recording
        if recording is not None and not recording.add(noisy, enhanced, self._ahead):
            self.recording = None
            recording.finish()

    def _regulate(self) -> None:
        """Measure how much sound is on its way, and have it stay so much."""
        pair = self.pair
        now = pair.now()
        rate, output_rate = pair.sample_rate, pair.output_rate
        elapsed, self._regulated_s = now - self._regulated_s, now
        player = pair.player
        faults = player.underruns + player.overruns + self._overruns
        if faults != self._faults or not player.playing:
            self._faults = faults
            self._least_s = math.inf
            self.drift.restart()
            return
        self._look_at_headroom(now)
        # Between two callbacks the devices go on: what they have recorded and played meanwhile.
        recorded_s = min(now - pair.input.touched_s, 2 * self._hop_s)
        played_s = min(now - player.ring.touched_s, 2 * self._hop_s)
        held_s = (pair.input.fill + self._ahead + self._resampler.pending) / rate
        waiting_s = held_s + player.ring.fill / output_rate + recorded_s - played_s
        if self._converter is not None:
            waiting_s += self._converter.delay_s
        settled = self.drift.settled
        self.drift.update(waiting_s, elapsed)
        if self.drift.settled and not settled:
            self._secure()
        self.latency_s = self.drift.waiting_s + sum(pair.device_latency_s)

    def _secure(self) -> None:
        """If less is left in the worst case than should be, have more wait; but not ever more."""
        spare_s = self.pair.player.spare / self.pair.output_rate
        missing_s = min(spare_s - self._least_s, MOST_LENGTHENED * spare_s - self._lengthened_s)
        if missing_s > DEAD_ZONE_S:
            self._lengthened_s += missing_s
            self.drift.lengthen(missing_s)

    def _look_at_headroom(self, now: float) -> None:
        player = self.pair.player
        if now - self._looked_s > HEADROOM_S and player.lowest is not None:
            self.headroom_s = player.lowest / self.pair.output_rate
            lengthening = self.drift.lengthening
            self._least_s = math.inf if lengthening else min(self._least_s, self.headroom_s)
            self._looked_s, player.lowest = now, None

    def _count(self, seconds: float) -> None:
        self._times_s[self._frames % TIMED_FRAMES] = seconds
        self._frames += 1
        self._late += seconds > self._hop_s
        if self._before is None and self.pair.now() - self._opened_s > START_S:
            self._before = replace(self._counted(), frames=0)
