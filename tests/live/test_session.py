"""Live sound over simulated devices: it stays in time, loses nothing unseen, leaks nothing raw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.simulated import SimulatedPair, SimulatedSound
from support.waiting import wait_for

from gtcrn_cli.enhancement.engines import load_engine
from gtcrn_cli.enhancement.enhancer import Enhancer, Settings, enhance
from gtcrn_cli.errors import UserError
from gtcrn_cli.live import recording
from gtcrn_cli.live import session as live
from gtcrn_cli.live.drift import DEAD_ZONE_S
from gtcrn_cli.live.session import Session
from gtcrn_cli.live.status import Controls
from gtcrn_cli.live.worker import START_S, RateConverter, Worker
from gtcrn_cli.network.checkpoint import Checkpoint
from gtcrn_cli.signals import Spectrum

RATE = 16_000
TONE_HZ = 200
RISE = 2 * np.pi * TONE_HZ / RATE  # the most that the tone rises in a sample


class FixedEngine:
    """Stands for the network: the same gain for every bin."""

    name = "fixed"
    checkpoint: Checkpoint

    def __init__(self, gain: float) -> None:
        self.gain = gain

    def mask(self, spectrum: Spectrum, state: object) -> tuple[Spectrum, object]:
        return np.full_like(spectrum, self.gain), state


class Delay:
    """Stands for the Enhancer where hours go by: holds a hop."""

    def __init__(self, sample_rate: int, hop: int) -> None:
        self.sample_rate, self.hop, self.channels = sample_rate, hop, 1
        self.settings = Settings()
        self._held = np.zeros((0, 1), np.float32)

    def push(self, block: np.ndarray) -> np.ndarray:
        returned, self._held = self._held, block
        return returned


def tone(at: np.ndarray) -> np.ndarray:
    return 0.5 * np.cos(2 * np.pi * TONE_HZ * at / RATE)


def worker_of(pair: SimulatedPair, gain: float = 1.0, controls: Controls | None = None) -> Worker:
    enhancer = Enhancer(FixedEngine(gain), pair.sample_rate, pair.player.ring.channels)
    return Worker(pair, enhancer, controls or Controls(Settings()))


def run(worker: Worker, seconds: float) -> None:
    pair = worker.pair
    end_s = pair.now() + seconds
    while pair.now() < end_s:
        if not worker.step():
            pair.wait(0.1)


def steepest(samples: np.ndarray) -> float:
    return float(np.abs(np.diff(samples[:, 0])).max())


@pytest.mark.slow
def test_eight_hours_between_clocks_200_ppm_apart():
    """At a low rate and with long hops, so that it takes seconds; the control counts in seconds."""
    hop_s, rate = 0.64, 250
    pair = SimulatedPair(drift=200e-6, sample_rate=rate, hop_s=hop_s, block_s=0.4, keep=False)
    worker = Worker(pair, Delay(rate, round(hop_s * rate)), Controls(Settings()))
    run(worker, 60)
    before_s, before = worker.latency_s, worker.counters
    least_s, most_s = np.inf, 0.0
    for _ in range(8 * 60):
        run(worker, 60)
        least_s, most_s = min(least_s, worker.latency_s), max(most_s, worker.latency_s)
    assert pair.now() > 8 * 3600
    assert worker.regulator.correction == pytest.approx(200e-6, rel=0.1)
    assert before_s - 0.015 < least_s <= most_s < before_s + 0.015
    counters = worker.counters - before
    assert (counters.underruns, counters.overruns, counters.dropped) == (0, 0, 0)
    assert pair.input.written - pair.player.ring.taken > 5.0 * rate  # what the drift amounts to


@pytest.mark.slow
@pytest.mark.parametrize("drift", [200e-6, -200e-6])
def test_drift_is_corrected_without_a_click(drift: float):
    pair = SimulatedPair(tone, drift=drift)
    worker = worker_of(pair)
    run(worker, 120)
    played = pair.output()
    assert worker.regulator.correction == pytest.approx(drift, rel=0.3)
    assert worker.counters.underruns + worker.counters.overruns == 0
    steady = played[2 * RATE :]
    assert steepest(steady) < 0.5 * RISE * 1.05
    seconds = steady[: len(steady) // RATE * RATE].reshape(-1, RATE)
    np.testing.assert_allclose(np.sqrt(np.mean(seconds**2, axis=1)), 0.5 / np.sqrt(2), rtol=0.01)


def test_a_stalled_worker_costs_a_gap_and_no_delay():
    pair = SimulatedPair(tone, stalls=[(30.0, 2.0)])
    worker = worker_of(pair)
    run(worker, 28)
    before_s = worker.latency_s
    run(worker, 30)
    counters = worker.counters
    assert counters.underruns == 1
    assert counters.overruns == 1
    lost_s = counters.dropped / RATE
    assert 1.8 < lost_s < 2.2
    assert abs(worker.latency_s - before_s) < 0.02
    played = pair.output()
    assert steepest(played) < 0.5 * RISE * 2.5  # no click, neither at the gap nor at the splice
    silent = played[30 * RATE : 33 * RATE, 0] == 0
    assert 1.7 * RATE < silent.sum() < 2.2 * RATE
    assert np.abs(played[-RATE:]).max() == pytest.approx(0.5, rel=0.01)


def test_a_piece_that_is_longer_than_what_may_wait_is_enough_to_start_again():
    pair = SimulatedPair(tone)
    worker = worker_of(pair)
    hop = round(0.016 * RATE)
    for _ in range(4):
        pair.input.write(np.zeros((hop, 1), np.float32))
        worker.step()
    pair.player.ring.trim(0)
    pair.player.start_at = 5 * hop
    pair.input.write(np.zeros((40 * hop, 1), np.float32))
    while worker.step():
        pass
    assert pair.player.ring.fill == 5 * hop  # enough, and no more, which would be delay


def test_nothing_raw_is_ever_played():
    rng = np.random.default_rng(0)
    pair = SimulatedPair(
        lambda at: rng.uniform(-1, 1, len(at)),
        drift=300e-6,
        stalls=[(5.0, 2.0), (9.0, 0.06), (12.0, 5.0), (20.0, 0.3)],
    )
    worker = worker_of(pair, gain=0.0)
    run(worker, 30)
    assert worker.counters.underruns >= 3
    assert not pair.output().any()


def test_a_machine_too_slow_drops_but_does_not_fall_behind():
    pair = SimulatedPair(tone)
    worker = worker_of(pair)
    while pair.now() < 60:
        if worker.step():
            pair.advance(pair.now() + 0.02)  # 20 ms for what comes every 16
        else:
            pair.wait(0.1)
    assert worker.counters.dropped / RATE > 5
    assert worker.counters.overruns > 10
    assert pair.input.fill <= pair.most_input + RATE // 10
    assert worker.latency_s < 0.6
    assert steepest(pair.output()) < 0.5 * RISE * 2.5


def test_a_jittery_worker_gets_more_headroom_but_not_ever_more():
    """Held up for 30 ms every second, which costs more of the headroom than is safe."""
    pair = SimulatedPair(tone, stalls=[(start, 0.03) for start in range(4, 90)])
    worker = worker_of(pair)

    def least_headroom_s(seconds: int) -> float:
        least_s = np.inf
        for _ in range(seconds):
            run(worker, 1)
            least_s = min(least_s, worker.regulator.headroom_s)
        return least_s

    run(worker, 5)
    latency_s = worker.latency_s
    spare_s = pair.player.spare / RATE
    assert least_headroom_s(5) < spare_s - DEAD_ZONE_S
    run(worker, 50)
    assert least_headroom_s(20) > spare_s - 1.5 * DEAD_ZONE_S
    assert 0 < worker.latency_s - latency_s < 3 * spare_s
    assert worker.counters.underruns == 0
    assert steepest(pair.output()) < 0.5 * RISE * 1.05


@pytest.mark.slow
def test_a_delay_that_was_added_goes_again_when_all_is_calm():
    """Held up for a minute, then no more; the sound is neither cut nor stretched audibly."""
    pair = SimulatedPair(tone, stalls=[(start, 0.03) for start in range(4, 60)])
    notes: list[str] = []
    enhancer = Enhancer(FixedEngine(1.0), RATE)
    worker = Worker(pair, enhancer, Controls(Settings()), notes.append)
    run(worker, 8)
    planned_s = worker.latency_s
    run(worker, 52)
    assert worker.latency_s > planned_s + 0.005
    run(worker, 180)
    assert abs(worker.latency_s - planned_s) < 0.006
    assert ["more delay" in note for note in notes] == [True] * (len(notes) - 1) + [False]
    assert worker.counters.underruns == 0
    assert steepest(pair.output()) < 0.5 * RISE * 1.05


def test_a_gap_leaves_no_delay_behind():
    """Shorter than what makes input drop: what has piled up is squeezed out or left unplayed."""
    pair = SimulatedPair(tone, stalls=[(20.0, 0.12), (22.0, 0.12), (24.0, 0.12)])
    worker = worker_of(pair)
    run(worker, 19)
    before_s = worker.latency_s
    run(worker, 160)
    assert worker.counters.underruns == 3
    assert abs(worker.latency_s - before_s) < 0.006


def test_gaps_that_come_again_and_again_end():
    """Held up every second for longer than waits: more waits, until that is no longer heard."""
    pair = SimulatedPair(tone, stalls=[(start, 0.08) for start in range(4, 90)])
    worker = worker_of(pair)
    run(worker, 30)
    gaps = worker.counters.underruns
    assert 0 < gaps < 10
    run(worker, 40)
    assert worker.counters.underruns == gaps


def test_what_goes_wrong_while_devices_start_is_not_counted():
    pair = SimulatedPair(tone, stalls=[(0.5, 1.0)])
    worker = worker_of(pair)
    run(worker, START_S + 5)
    counters = worker.counters
    assert (counters.underruns, counters.overruns, counters.dropped) == (0, 0, 0)
    assert counters.frames > 0


def test_bypass_is_aligned_and_cross_faded():
    pair = SimulatedPair(tone)
    controls = Controls(Settings())
    worker = worker_of(pair, 0.5, controls)
    run(worker, 2)
    controls.bypass = True
    run(worker, 2)
    controls.bypass = False
    run(worker, 2)
    played = pair.output()[RATE:]
    levels = np.abs(played[: len(played) // 800 * 800]).reshape(-1, 800).max(axis=1)
    assert levels.min() == pytest.approx(0.25, rel=0.02)
    assert levels.max() == pytest.approx(0.5, rel=0.02)
    assert steepest(played) < 0.5 * RISE * 1.05
    # Enhanced or not, the tone keeps its phase: one and the same cosine, of changing height.
    phases = np.array([np.angle(np.vdot(np.exp(1j * RISE * np.arange(800)), played[i : i + 800, 0]))
                       for i in range(0, len(played) - 800, 800)])  # fmt: skip
    assert np.ptp(np.unwrap(phases)) < 0.05


def test_mute_fades():
    pair = SimulatedPair(tone)
    controls = Controls(Settings())
    worker = worker_of(pair, controls=controls)
    run(worker, 1)
    controls.mute = True
    run(worker, 1)
    assert not pair.output()[-RATE // 2 :].any()
    controls.mute = False
    run(worker, 1)
    assert np.abs(pair.output()[-RATE // 2 :]).max() == pytest.approx(0.5, rel=0.01)
    assert steepest(pair.output()) < 0.5 * RISE * 1.5


@pytest.mark.parametrize("channels", [(1, 2), (2, 1), (2, 2)])
def test_mono_and_stereo_go_together(channels: tuple[int, int]):
    pair = SimulatedPair(tone, channels=channels)
    run(worker_of(pair), 2)
    played = pair.output()[-RATE // 2 :]
    assert played.shape[1] == channels[1]
    np.testing.assert_allclose(np.abs(played).max(axis=0), 0.5, rtol=0.01)


def test_levels_and_the_noise_removed_are_measured():
    pair = SimulatedPair(lambda at: 0.1 * np.sign(tone(at)))
    worker = worker_of(pair, gain=0.1)
    run(worker, 8)
    assert 10 * np.log10(worker.meter_in.level) == pytest.approx(-20, abs=0.5)
    assert 10 * np.log10(worker.meter_out.slow) == pytest.approx(-40, abs=0.5)
    assert worker.meter_in.peak == pytest.approx(0.1, rel=0.02)


def test_devices_of_different_rates_are_converted():
    converter = RateConverter(44_100, 48_000, 1)
    samples = np.sin(2 * np.pi * 1000 * np.arange(44_100) / 44_100).astype(np.float32)[:, None]
    parts = [converter.push(samples[i : i + 705]) for i in range(0, 44_100, 705)]
    converted = np.concatenate(parts)[:, 0]
    assert len(converted) / 48_000 + converter.delay_s == pytest.approx(1, abs=0.002)
    spectrum = np.abs(np.fft.rfft(converted[4800:43_200] * np.hanning(38_400)))
    assert np.argmax(spectrum) == 1000 * 38_400 // 48_000


def test_pairs_of_different_rates_work_and_count_the_converter():
    pair = SimulatedPair(tone, output_rate=3 * RATE)
    worker = worker_of(pair)
    run(worker, 20)
    assert worker.counters.underruns + worker.counters.overruns == 0
    assert np.abs(pair.output()[-RATE:]).max() == pytest.approx(0.5, rel=0.02)
    spectrum = np.abs(np.fft.rfft(pair.output()[-3 * RATE :, 0]))
    assert np.argmax(spectrum) == TONE_HZ


@pytest.fixture
def session_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Session]]:
    """Makes sessions over simulated pairs, and ends them; `notes` is what they told."""
    # Simulated time runs as fast as it can: with priority nothing else would run.
    monkeypatch.setattr(live, "make_realtime", lambda: None)
    sessions = []

    def make(*pairs: SimulatedPair | None, **options) -> Session:
        notes: list[str] = []
        engine = FixedEngine(0.5)
        session = Session(SimulatedSound(*pairs), engine, Settings(), notes.append, **options)
        session.notes = notes
        sessions.append(session)
        return session

    yield make
    for session in sessions:
        with suppress(Exception):
            session.stop()


def test_a_session_survives_the_loss_of_its_devices(session_of, tmp_path: Path):
    first, second = SimulatedPair(tone, ends_s=10.0), SimulatedPair(tone, ends_s=5.0)
    paths = (str(tmp_path / "in.wav"), str(tmp_path / "out.wav"))
    session = session_of(first, None, second, recorded=paths)
    session.start()
    wait_for(lambda: second.closed)
    assert session.status().state == "waiting"
    session.stop()
    assert [note.split(":")[0] for note in session.notes] == [
        "the simulated microphone is gone",
        "going on with simulated microphone -> simulated speaker",
        "the simulated microphone is gone",
    ]
    assert first.closed
    status = session.status()
    assert status.reopened == 1
    assert status.counters.frames > 14 / 0.016
    noisy, rate = soundfile.read(paths[0])
    enhanced, _ = soundfile.read(paths[1])
    assert rate == RATE
    assert len(noisy) == len(enhanced) > 14 * RATE
    steady = slice(RATE, 9 * RATE)  # aligned to the sample, and of half the height
    np.testing.assert_allclose(enhanced[steady], 0.5 * noisy[steady], atol=1e-4)


def test_recordings_begin_and_end_on_a_key(
    session_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    pair = SimulatedPair(lambda at: np.sin(at * at / 1e7), ends_s=300.0)
    session = session_of(pair)
    session.start()
    wait_for(lambda: pair.now() > 5)
    session.toggle_recording()
    assert session.status().recording
    wait_for(lambda: pair.now() > 60)
    session.toggle_recording()
    wait_for(lambda: not session.status().recording)
    session.stop()
    noisy, enhanced = sorted(tmp_path.iterdir())
    assert noisy.name.endswith("-input.wav")
    assert enhanced.name.endswith("-output.wav")
    noisy, enhanced = (soundfile.read(path)[0] for path in (noisy, enhanced))
    assert len(noisy) == len(enhanced) > RATE
    np.testing.assert_allclose(enhanced, 0.5 * noisy, atol=1e-4)


def test_a_recording_that_exists_is_not_replaced(session_of, tmp_path: Path):
    path = tmp_path / "in.wav"
    path.write_bytes(b"precious")
    with pytest.raises(UserError, match="--overwrite"):
        session_of(SimulatedPair(), recorded=(str(path), None))
    assert path.read_bytes() == b"precious"


def test_a_full_disk_ends_the_recording_and_not_the_sound(session_of, tmp_path: Path, monkeypatch):
    class FullSink(recording.FileSink):
        def write(self, block: np.ndarray) -> None:
            super().write(block)
            self.written = getattr(self, "written", 0) + len(block)
            if self.written > RATE:
                raise UserError("cannot write: no space left")

    monkeypatch.setattr(recording, "FileSink", FullSink)
    session = session_of(SimulatedPair(tone), recorded=(str(tmp_path / "in.wav"), None))
    session.start()
    wait_for(lambda: not session.status().recording)
    frames = session.status().counters.frames
    wait_for(lambda: session.status().counters.frames > frames + 100)
    session.stop()
    assert any("no space left" in note and "in.partial.wav" in note for note in session.notes)
    assert len(soundfile.read(tmp_path / "in.partial.wav")[0]) > RATE


def test_a_bug_in_the_worker_is_not_swallowed(session_of):
    session = session_of(SimulatedPair(tone))
    session.start()
    session.controls.settings = None
    wait_for(lambda: not session.running)
    with pytest.raises(AttributeError):
        session.stop()


def test_devices_missing_at_the_start_end_it(session_of):
    session = session_of(None)
    with pytest.raises(UserError, match="no device"):
        session.start()
    session.stop()


def test_live_is_denoise(shipped: Checkpoint, noisy: np.ndarray):
    """With the network itself: what is played is what the file command makes of it."""
    engine = load_engine(shipped)
    samples = noisy[:, 0]
    pair = SimulatedPair(lambda at: np.where(at < len(samples), samples[at % len(samples)], 0))
    worker = Worker(pair, Enhancer(engine, RATE), Controls(Settings()))
    run(worker, len(samples) / RATE + 1)
    expected = enhance(noisy, RATE, engine)
    played = pair.output()[:, 0]
    first = round(worker.latency_s * RATE)
    lags = range(max(0, first - 800), first + 800)
    window = slice(RATE, 3 * RATE)
    lag = max(lags, key=lambda lag: np.dot(played[lag:][window], expected[window, 0]))
    length = len(expected) - 2 * RATE
    np.testing.assert_allclose(
        played[lag + RATE :][:length], expected[RATE:, 0][:length], atol=1e-4
    )
    assert lag / RATE == pytest.approx(worker.latency_s, abs=0.01)
