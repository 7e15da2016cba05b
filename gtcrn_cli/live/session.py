"""The microphone, enhanced, for hours: what happens between a sound card's two callbacks.

    input callback -> Ring -> Worker: Enhancer -> Resampler -> Ring -> Player in the output callback

One thread carries the sound, hop by hop. If it falls behind, the oldest input is dropped, so that
the delay stays what it was; if the output runs dry meanwhile, it fades to silence. Nothing but the
Enhancer's output ever reaches the speaker. Nothing here knows about hardware: a `Pair` of devices
may as well be simulated, with clocks that run as fast as the test wants.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from typing import Protocol

import numpy as np

from ..audio.formats import encoding_for
from ..enhancement.engines import Engine
from ..enhancement.enhancer import Enhancer, Settings
from ..errors import DeviceError, UserError
from ..paths import require_free
from .recording import RECORDED_AS, Note, Recording
from .ring import make_realtime
from .status import Controls, Counters, Meter, Status, _db
from .worker import Pair, Worker

CHECK_S = 0.25  # how often we look whether the devices are still there
RETRY_S, SELDOM_S = 0.5, 5.0  # how often we look for those that are gone: at first, and later
DRAIN_S = 1.0  # at the end, beyond the delay, the longest wait for what is still to be played
SWITCH_S = 0.001  # a callback that needs the interpreter waits no longer than that


class SoundSystem(Protocol):
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
        """Remove what was set up for the session, such as a virtual microphone."""
        ...


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
        Told, in a line, what the user should know: by the thread that carries the sound, among
        others, so it must not wait for anything.
    recorded
        Paths of input and output to record to from the start on; either may be ``None``.
    overwrite
        Whether they may exist.
    """

    def __init__(
        self,
        sound: SoundSystem,
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
        try:
            if self._thread.ident is not None:
                self._thread.join()
            elif self._worker is not None:  # opened, but something else stood in the way
                self._worker.pair.close()
        finally:  # also if the user does not wait for it
            for recording in self._recordings:
                recording.finish()
            self._sound.close()
        for recording in self._recordings:
            recording.join()
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
        mean_ms, p99_ms = worker.times.mean_and_p99_ms()
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
            headroom_ms=1000 * worker.regulator.headroom_s,
            drift_ppm=1e6 * worker.regulator.correction,
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
        worker = Worker(pair, enhancer, self.controls, self._note)
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
                self._drain(worker)
        finally:
            pair.close()
        if problem is not None:
            self._past += worker.counters
            self._waiting = True
            self._note(f"{problem}: waiting for a device")
            self._reopen()

    def _drain(self, worker: Worker) -> None:
        """Let the output play what it has, and fade."""
        pair, player = worker.pair, worker.pair.player
        player.finish()
        end_s = pair.now() + worker.latency_s + DRAIN_S
        while player.playing and pair.now() < end_s and pair.problem() is None:
            pair.wake()
            pair.wait(0.01)
        end_s = min(end_s, pair.now() + player.queued / pair.output_rate)  # the fade is in there
        while pair.now() < end_s and pair.problem() is None:
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
