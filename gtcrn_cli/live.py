"""The microphone, enhanced, for hours: what happens between a sound card's two callbacks.

    input callback -> Ring -> Worker: Enhancer -> Resampler -> Ring -> Player in the output callback

One thread carries the sound, hop by hop. If it falls behind, the oldest input is dropped, so that
the delay stays what it was; if the output runs dry meanwhile, it fades to silence. Nothing but the
Enhancer's output ever reaches the speaker. Nothing here knows about hardware: a `Pair` of devices
may as well be simulated, with clocks that run as fast as the test wants.
"""

from __future__ import annotations

import gc
import math
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np

from .audio.files import FileSink
from .audio.formats import Encoding, encoding_for
from .drift import DEAD_ZONE_S, DriftControl, Resampler
from .enhancement.engines import Engine
from .enhancement.enhancer import Enhancer, Settings
from .errors import DeviceError, MissingExtraError, UserError
from .paths import require_free
from .ring import Player, Ring, make_realtime
from .signals import SILENCE_DB, Samples

Note = Callable[[str], None]

RECORDED_AS = Encoding("WAV", "PCM_24")  # unless the file's name says otherwise
SPLICE_S = 0.005  # cross-fade where input was dropped
TIMED_FRAMES = 4096  # of which the 99th percentile is told: the last minute
METER_S = 0.3  # time constant of the level meters
REMOVED_S = 1.0  # and of "dB removed", which is about noise, not about syllables
HOLD_S = 1.5  # how long a peak is held
FALL_DB_S = 20.0  # and how fast it falls then
HEADROOM_S = 1.0  # how often the least that waited for the output is noted
MOST_LENGTHENED = 3  # times the headroom that was planned: that much delay a jittery system may add
CHECK_S = 0.25  # how often we look whether the devices are still there
RETRY_S, SELDOM_S = 0.5, 5.0  # how often we look for those that are gone: at first, and later
DRAIN_S = 1.0  # at the end, the longest wait for what is still to be played
QUEUED_BLOCKS = 4096  # over a minute of recording that waits for the disk
SAVE_S = 1.0  # how much of a recording a kill or a power cut may cost
START_S = 3.0  # devices start in bursts and pauses: what that costs is not counted as a fault
SWITCH_S = 0.001  # a callback that needs the interpreter waits no longer than that


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


class Sound(Protocol):
    """Opens pairs. `soundcard.SoundCard` is the real one."""

    def open(self) -> Pair:
        """Open the devices, as they are now.

        Raises
        ------
        DeviceError
            They are not there.
        """
        ...

    def moved(self) -> bool:
        """Whether other devices than the open ones are to be used now."""
        ...

    def close(self) -> None:
        """Undo what was set up."""
        ...


@dataclass
class Controls:
    """What the user can turn while it runs. Written by one thread, read by the worker."""

    settings: Settings
    bypass: bool = False
    mute: bool = False

    @property
    def effective(self) -> Settings:
        """Bypass is strength 0: the same path, so it stays aligned and cross-fades over a hop."""
        return replace(self.settings, strength=0.0) if self.bypass else self.settings

    def change_strength(self, by: float) -> None:
        """Turn the strength up or down, within 0-1."""
        strength = min(1.0, max(0.0, round(self.settings.strength + by, 2)))
        self.settings = replace(self.settings, strength=strength)


@dataclass
class Counters:
    """What went wrong so far.

    Attributes
    ----------
    overruns
        How often more input or output was waiting than may wait.
    underruns
        How often the output had nothing to play.
    dropped
        Samples lost that way.
    late_frames
        Frames that took longer than a hop lasts.
    device_xruns
        Faults that a device's driver reported.
    frames
        Frames in all.
    """

    overruns: int = 0
    underruns: int = 0
    dropped: int = 0
    late_frames: int = 0
    device_xruns: int = 0
    frames: int = 0

    def __add__(self, other: Counters) -> Counters:
        mine, theirs = asdict(self), asdict(other)
        return Counters(**{name: mine[name] + theirs[name] for name in mine})

    def __sub__(self, other: Counters) -> Counters:
        mine, theirs = asdict(self), asdict(other)
        return Counters(**{name: mine[name] - theirs[name] for name in mine})


class Meter:
    """Level and held peak of a signal."""

    def __init__(self) -> None:
        self.level = 0.0  # mean square
        self.slow = 0.0  # the same over a longer time
        self.peak = 0.0
        self._held_s = 0.0

    def add(self, block: Samples, seconds: float) -> None:
        """Count in a block that lasts `seconds`."""
        power = float(np.vdot(block, block)) / max(1, block.size)
        if not math.isfinite(power):  # no sound: the Enhancer takes silence for it, too
            return
        self.level += (1 - math.exp(-seconds / METER_S)) * (power - self.level)
        self.slow += (1 - math.exp(-seconds / REMOVED_S)) * (power - self.slow)
        self._held_s += seconds
        if self._held_s > HOLD_S:
            self.peak *= 10 ** (-FALL_DB_S * seconds / 20)
        peak = float(np.abs(block).max(initial=0))
        if peak >= self.peak:
            self.peak, self._held_s = peak, 0.0


@dataclass(frozen=True)
class Status:
    """All there is to show about a running session. Times in ms unless the name says otherwise."""

    state: str  # "running" or "waiting" for a device
    uptime_s: float
    input: str
    output: str
    sample_rate: int
    level_in_db: float
    peak_in_db: float
    level_out_db: float
    peak_out_db: float
    removed_db: float
    frame_ms: float  # the mean time that a frame takes
    p99_ms: float  # and the time that 99 of 100 stay below
    hop_ms: float  # the time there is
    latency_ms: float  # from microphone to speaker, as far as the drivers tell
    headroom_ms: float  # the least that waited for the output in the last second
    drift_ppm: float
    strength: float
    bypass: bool
    mute: bool
    recording: bool
    reopened: int
    counters: Counters

    def to_dict(self) -> dict[str, Any]:
        """Plain data, rounded to what means something."""
        facts = asdict(self)
        facts |= facts.pop("counters")
        return {k: round(v, 3) if isinstance(v, float) else v for k, v in facts.items()}


class Recording:
    """Writes both sides of a stream to files, sample by sample aligned, from a thread of its own.

    Every second the files are brought to a state in which any program can open them, so a kill
    costs no more than that.

    Parameters
    ----------
    input_path, output_path
        Where to; ``None`` for a side that is not wanted.
    sample_rate, channels
        Of the stream.
    note
        Told when the disk fails.
    overwrite
        Replace existing files.

    Raises
    ------
    UserError
        A file cannot be written, or is not to be replaced.
    """

    def __init__(
        self,
        input_path: str | None,
        output_path: str | None,
        sample_rate: int,
        channels: int,
        note: Note,
        overwrite: bool = False,
    ) -> None:
        self.shape = (sample_rate, channels)
        self.ending = False
        self._skip: int | None = None  # output samples to come of a time before the start
        self._owed = 0  # output samples to come of input that is recorded
        self._note = note
        self._finished = False
        self._blocks: queue.Queue[tuple[Samples, Samples]] = queue.Queue(QUEUED_BLOCKS)
        self._sinks: list[FileSink | None] = []
        with ExitStack() as opened:
            for path in (input_path, output_path):
                sink = None
                if path is not None:
                    encoding = encoding_for(path, RECORDED_AS)
                    sink = FileSink(path, sample_rate, channels, encoding, overwrite=overwrite)
                    opened.push(sink)
                self._sinks.append(sink)
            opened.pop_all()
        self._thread = threading.Thread(target=self._write, name="recording")
        self._thread.start()

    def add(self, noisy: Samples, enhanced: Samples, ahead: int) -> bool:
        """Take a block of both sides.

        Parameters
        ----------
        noisy, enhanced
            What was pushed into the Enhancer and what it returned.
        ahead
            Samples that it held before.

        Returns
        -------
        Whether it wants more; False once it is to end and the output has caught up.
        """
        if self._skip is None:
            self._skip = ahead
        if self.ending:
            noisy = noisy[:0]
        first = min(self._skip, len(enhanced))
        self._skip -= first
        self._owed += len(noisy)
        enhanced = enhanced[first:][: self._owed]
        self._owed -= len(enhanced)
        try:
            self._blocks.put_nowait((noisy, enhanced))
        except queue.Full:
            self._note("the disk is too slow: the recording ends here")
            return False
        return not (self.ending and self._owed == 0)

    def finish(self) -> None:
        """No more is to come. Does not wait."""
        self._finished = True

    def join(self) -> None:
        """Wait until everything is written and the files have their names."""
        self._thread.join()

    def _write(self) -> None:
        sinks = [sink for sink in self._sinks if sink is not None]
        saved_s = time.monotonic()
        try:
            for blocks in self._incoming():
                for sink, block in zip(self._sinks, blocks, strict=True):
                    if sink is not None:
                        sink.write(block)
                if time.monotonic() - saved_s > SAVE_S:
                    saved_s = time.monotonic()
                    for sink in sinks:
                        sink.make_playable()
            for sink in sinks:
                with sink:
                    pass
        except UserError as error:
            kept = ", ".join(sink.keep_partial() for sink in sinks)
            self._note(f"{error}; recorded until here: {kept}")
            for _ in self._incoming():
                pass

    def _incoming(self) -> Iterator[tuple[Samples, Samples]]:
        while not (self._finished and self._blocks.empty()):
            with suppress(queue.Empty):
                yield self._blocks.get(timeout=0.1)


class RateConverter:
    """From one sample rate to another, for two devices that have none in common."""

    def __init__(self, input_rate: int, output_rate: int, channels: int) -> None:
        try:
            import soxr
        except ImportError:
            raise MissingExtraError(
                f"devices of different rates ({input_rate} and {output_rate} Hz)", "live"
            ) from None
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


class Session:
    """Live sound from start to end, over devices that come and go.

    Parameters
    ----------
    sound
        Opens the devices.
    engine
        Runs the network.
    settings
        How to enhance at first.
    note
        Told, in a line, what the user should know.
    recorded
        Paths of input and output to record to from the start on; either may be ``None``.
    overwrite
        Whether they may exist.
    """

    def __init__(
        self,
        sound: Sound,
        engine: Engine,
        settings: Settings,
        note: Note,
        recorded: tuple[str | None, str | None] = (None, None),
        overwrite: bool = False,
    ) -> None:
        self.controls = Controls(settings)
        self._sound = sound
        self._engine = engine
        self._note = note
        self._recorded = recorded
        self._overwrite = overwrite
        self._recordings: list[Recording] = []
        self._enhancer: Enhancer | None = None
        self._worker: Worker | None = None
        self._waiting = False
        self._reopened = 0
        self._past = Counters()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self._failure: BaseException | None = None
        self._started_s = time.monotonic()
        for path in filter(None, recorded):
            require_free(path, overwrite)
            encoding_for(path, RECORDED_AS)

    def start(self) -> None:
        """Open the devices and let the sound flow.

        Raises
        ------
        UserError
            A device is not there or does not open, or a recording cannot be made.
        """
        make_realtime()
        warm = Enhancer(self._engine, 48_000)
        warm.push(np.zeros((4 * warm.hop, 1), np.float32))  # what compiles or loads does so now
        self._worker = self._connect(self._sound.open())
        if any(self._recorded):
            self._record(*self._recorded, overwrite=self._overwrite)
        self._thread.start()

    def stop(self) -> None:
        """Fade out, close the devices and finish the recordings.

        Raises
        ------
        Exception
            Whatever ended the session before.
        """
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        elif self._worker is not None:  # opened, but something else stood in the way
            self._worker.pair.close()
        for recording in self._recordings:
            recording.finish()
            recording.join()
        self._sound.close()
        if self._failure is not None:
            raise self._failure

    @property
    def running(self) -> bool:
        """Whether the sound flows, or waits for a device."""
        return self._thread.is_alive()

    def toggle_recording(self) -> None:
        """Start to record both sides to new files named by the time, or end the recording."""
        worker = self._worker
        if worker is None:
            return
        if worker.recording is not None:
            worker.recording.ending = True
            return
        name = time.strftime("gtcrn-%Y%m%d-%H%M%S")
        try:
            self._record(f"{name}-input.wav", f"{name}-output.wav", overwrite=False)
        except UserError as error:
            self._note(str(error))
        else:
            self._note(f"recording {name}-input.wav and -output.wav")

    def status(self) -> Status:
        """How it goes."""
        worker = self._worker
        assert worker is not None and self._enhancer is not None
        mean_ms, p99_ms = worker.frame_times_ms()
        silent = Meter()
        meter_in = silent if self._waiting else worker.meter_in
        meter_out = silent if self._waiting else worker.meter_out
        pair = worker.pair
        return Status(
            state="waiting" if self._waiting else "running",
            uptime_s=time.monotonic() - self._started_s,
            input=pair.names[0],
            output=pair.names[1],
            sample_rate=pair.sample_rate,
            level_in_db=_db(meter_in.level),
            peak_in_db=_db(meter_in.peak**2),
            level_out_db=_db(meter_out.level),
            peak_out_db=_db(meter_out.peak**2),
            removed_db=max(0.0, _db(meter_in.slow) - _db(meter_out.slow)),
            frame_ms=mean_ms,
            p99_ms=p99_ms,
            hop_ms=1000 * self._enhancer.hop / pair.sample_rate,
            latency_ms=1000 * worker.latency_s,
            headroom_ms=1000 * worker.headroom_s,
            drift_ppm=1e6 * worker.drift.correction,
            strength=self.controls.settings.strength,
            bypass=self.controls.bypass,
            mute=self.controls.mute,
            recording=worker.recording is not None,
            reopened=self._reopened,
            counters=self._past if self._waiting else self._past + worker.counters,
        )

    def _record(self, input_path: str | None, output_path: str | None, overwrite: bool) -> None:
        worker, enhancer = self._worker, self._enhancer
        assert worker is not None and enhancer is not None
        recording = Recording(
            input_path,
            output_path,
            enhancer.sample_rate,
            enhancer.channels,
            self._note,
            overwrite,
        )
        self._recordings.append(recording)
        worker.recording = recording

    def _connect(self, pair: Pair) -> Worker:
        """A worker for this pair; with the Enhancer and the recording there are, if they fit."""
        for note in pair.notes:
            self._note(note)
        shape = (pair.sample_rate, pair.player.ring.channels)
        enhancer = self._enhancer
        if enhancer is None or (enhancer.sample_rate, enhancer.channels) != shape:
            enhancer = Enhancer(self._engine, *shape, self.controls.settings)
        self._enhancer = enhancer
        worker = Worker(pair, enhancer, self.controls)
        if self._worker is not None and self._worker.recording is not None:
            recording = self._worker.recording
            if recording.shape == shape:
                worker.recording = recording
            else:
                recording.finish()
                self._note("the recording ends: the new devices run at another rate")
        return worker

    def _run(self) -> None:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_S)
        gc.collect()
        gc.freeze()  # what is loaded now stays: a collection need not look at it, and is short
        try:
            while not self._stopping.is_set():
                self._carry()
        except BaseException as error:
            self._failure = error
        finally:
            gc.unfreeze()
            sys.setswitchinterval(interval)

    def _carry(self) -> None:
        """Carry sound over one pair of devices for as long as it lasts, then find the next."""
        worker = self._worker
        assert worker is not None
        pair = worker.pair
        problem = None
        try:
            checked_s = pair.now()
            while not self._stopping.is_set() and problem is None:
                if not worker.step():
                    pair.wait(CHECK_S)
                if pair.now() - checked_s > CHECK_S:
                    checked_s = pair.now()
                    problem = pair.problem()
                    if problem is None and self._sound.moved():
                        problem = "the default device is another now"
            worker.end()
            if problem is None:
                self._drain(pair)
        finally:
            pair.close()
        if problem is not None:
            self._past += worker.counters
            self._waiting = True
            self._note(f"{problem}: waiting for a device")
            self._reopen()

    def _drain(self, pair: Pair) -> None:
        """Let the output play what it has, and fade."""
        pair.player.finish()
        end_s = pair.now() + DRAIN_S
        while pair.player.playing and pair.now() < end_s and pair.problem() is None:
            pair.wait(0.01)

    def _reopen(self) -> None:
        delay_s = RETRY_S
        while not self._stopping.wait(delay_s):
            delay_s = min(1.3 * delay_s, SELDOM_S)
            try:
                pair = self._sound.open()
            except DeviceError:
                continue
            self._worker = self._connect(pair)
            self._waiting = False
            self._reopened += 1
            self._note(f"going on with {' -> '.join(pair.names)}")
            return


def _db(power: float) -> float:
    return max(SILENCE_DB, 10 * math.log10(max(power, 1e-30)))
