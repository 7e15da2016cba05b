"""Reading, enhancing and writing at the same time: the same samples and errors, no more memory."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gtcrn_cli import Enhancer, Settings, UserError, denoise
from gtcrn_cli.audio.formats import RawFormat
from gtcrn_cli.audio.opening import Output, open_sink
from gtcrn_cli.audio.pipe import PipeSource
from gtcrn_cli.enhancement.engines import Engine, load_engine
from gtcrn_cli.enhancement.overlap import WAITING, Behind, ahead
from gtcrn_cli.enhancement.pipeline import run
from gtcrn_cli.errors import ReadError
from gtcrn_cli.network.checkpoint import Checkpoint
from gtcrn_cli.signals import Samples


@pytest.fixture(scope="module")
def engine(shipped: Checkpoint) -> Engine:
    return load_engine(shipped)


def blocks(count: int) -> Iterator[Samples]:
    for number in range(count):
        yield np.full((3, 1), number, np.float32)


def test_blocks_come_in_order():
    with ahead(blocks(100)) as coming:
        assert [block[0, 0] for block in coming] == list(range(100))


def test_what_goes_wrong_with_reading_is_raised_in_its_place():
    def broken() -> Iterator[Samples]:
        yield from blocks(3)
        raise ReadError("cut off")

    taken = []
    with pytest.raises(ReadError, match="cut off"), ahead(broken()) as coming:
        for block in coming:
            taken.append(block)
    assert len(taken) == 3


def test_reading_does_not_run_away():
    """No more blocks wait than may; whoever leaves early leaves no thread behind."""
    read = []

    def counted() -> Iterator[Samples]:
        for block in blocks(1000):
            read.append(block)
            yield block

    with ahead(counted()) as coming:
        next(coming)
    for thread in threading.enumerate():
        if thread.name == "gtcrn-read":
            thread.join(10)
            assert not thread.is_alive()
    assert len(read) <= WAITING + 3


def test_blocks_are_written_in_order_and_all():
    written: list[float] = []
    with Behind(lambda block: written.append(float(block[0, 0]))) as writer:
        for block in blocks(100):
            writer.put(block)
        writer.drain()
        assert written == list(range(100))


def test_what_goes_wrong_with_writing_is_raised():
    def full(block: Samples) -> None:
        raise UserError("the disk is full")

    with pytest.raises(UserError, match="full"), Behind(full) as writer:
        for block in blocks(100):
            writer.put(block)
        writer.drain()


def test_after_an_error_nothing_more_is_written():
    written = []
    with pytest.raises(KeyError), Behind(written.append) as writer:
        writer.put(np.zeros((1, 1), np.float32))
        writer.drain()
        raise KeyError
    assert len(written) == 1


@pytest.mark.parametrize("waiting", [0, 1, WAITING])
def test_after_an_error_nobody_waits_for_a_write_that_has_stalled(waiting: int):
    goes_on, written = threading.Event(), []

    def stall(block: Samples) -> None:
        written.append(block)
        goes_on.wait()

    with pytest.raises(KeyError), Behind(stall, may_stall=True) as writer:
        for block in blocks(1 + waiting):
            writer.put(block)
        raise KeyError
    goes_on.set()
    writer._thread.join(10)
    assert not writer._thread.is_alive()
    assert len(written) <= 1


@pytest.mark.parametrize("waiting", [0, 1, WAITING])
def test_after_an_error_a_file_is_not_closed_in_the_middle_of_a_write(waiting: int):
    begun, written = threading.Event(), []

    def write(block: Samples) -> None:
        begun.set()
        time.sleep(0.1)
        written.append(block)

    with pytest.raises(KeyError), Behind(write) as writer:
        for block in blocks(1 + waiting):
            writer.put(block)
        begun.wait()
        raise KeyError
    assert not writer._thread.is_alive()
    assert len(written) == 1


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer sends signals here")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("at_once", [256, 100_000])
def test_a_signal_ends_it_though_nobody_reads_the_output(
    threads: int, at_once: int, engine: Engine, tmp_path: Path
):
    """A microphone hands over a little at a time, a file much."""
    raw = RawFormat("PCM_16", "LITTLE", 16_000, 1)
    (tmp_path / "in").write_bytes(bytes(2_000_000))
    read_end, write_end = os.pipe()
    stdout = os.dup(1)

    class Slowly:
        def __init__(self, file) -> None:
            self.file = file

        def read(self, size: int) -> bytes:
            return self.file.read(min(size, at_once))

    def stop(number: int, frame: object) -> None:
        raise KeyError

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with (tmp_path / "in").open("rb", 0) as file, pytest.raises(KeyError):
            source = PipeSource(Slowly(file), raw)
            os.dup2(write_end, 1)
            sink = open_sink("-", source, Output())
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            run(source, Enhancer(engine, 16_000), sink, threads=threads)
        begun = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 5)  # ends what waits for ever
        del sink
        assert time.monotonic() - begun < 4
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        os.close(read_end)
        for thread in threading.enumerate():
            if thread.name == "gtcrn-write":
                thread.join(10)
        os.dup2(stdout, 1)
        os.close(stdout)
        os.close(write_end)


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("linked", [False, True])
def test_the_output_is_the_same(
    channels: int, linked: bool, noisy: Samples, tmp_path: Path, engine: Engine
):
    samples = np.stack([np.roll(noisy[:48_000, 0], 999 * n) for n in range(channels)], axis=1)
    soundfile.write(tmp_path / "in.wav", samples, 48_000)
    for threads in (1, 2, 3):
        denoise(
            str(tmp_path / "in.wav"),
            str(tmp_path / f"{threads}.wav"),
            engine,
            Settings(linked=linked),
            threads=threads,
        )
    assert (tmp_path / "1.wav").read_bytes() == (tmp_path / "2.wav").read_bytes()
    assert (tmp_path / "1.wav").read_bytes() == (tmp_path / "3.wav").read_bytes()


def test_channels_in_threads_are_channels_by_themselves(noisy: Samples, engine: Engine):
    samples = np.concatenate([noisy, noisy[::-1]], axis=1)
    samples[5] = np.nan
    together, apart = Enhancer(engine, 16_000, 2, threads=2), Enhancer(engine, 16_000, 2)
    for _ in range(2):  # the second stream begins anew
        for enhancer in (together, apart):
            enhancer.replaced = 0
        one, other = (
            np.concatenate([e.push(samples[:999]), e.push(samples[999:]), e.flush()])
            for e in (together, apart)
        )
        np.testing.assert_array_equal(one, other)
        assert together.replaced == apart.replaced == 2


def test_an_input_that_breaks_off_is_kept_as_far_as_it_goes(
    noisy_path: Path, tmp_path: Path, engine: Engine
):
    data = noisy_path.read_bytes()
    (tmp_path / "in.wav").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"out\.partial\.wav"):
        denoise(str(tmp_path / "in.wav"), str(tmp_path / "out.wav"), engine, threads=2)
    kept = soundfile.info(tmp_path / "out.partial.wav")
    assert abs(kept.frames - 52_000) < 50
