"""Batches that are stopped or killed, lose workers, room or permission: nothing else is lost."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.context import SpawnProcess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.batches import (
    COMMAND,
    digests,
    gtcrn_batch,
    killing_who_reads,
    nobody,
    sparse_recording,
    statuses,
    two_workers,
)
from support.waiting import wait_for

from gtcrn_cli.batch.jobs import Job, LocalWorkers, Model
from gtcrn_cli.batch.manifest import FILE_NAME
from gtcrn_cli.batch.plan import Order
from gtcrn_cli.batch.run import run_batch
from gtcrn_cli.errors import UserError
from gtcrn_cli.paths import PARTIAL


@pytest.mark.slow
def test_fail_fast_stops(model: Model, noisy, tmp_path: Path):
    source = tmp_path / "in"
    source.mkdir()
    (source / "bad.wav").write_bytes(bytes(10_000_000))  # the largest, so the first
    for index in range(30):
        soundfile.write(source / f"{index}.wav", noisy, 16_000)
    order = Order(str(source), str(tmp_path / "out"))
    result = run_batch(order, model, lambda model: LocalWorkers(model, 1), fail_fast=True)
    assert len(result.failures) == 1
    assert result.count("done") < 30
    assert not [path for path in (tmp_path / "out").iterdir() if PARTIAL.fullmatch(path.name)]
    (source / "bad.wav").unlink()
    assert not run_batch(order, model, two_workers, fail_fast=True).failures


@pytest.mark.slow
def test_a_file_that_kills_its_worker_fails_alone(model: Model, source: Path, tmp_path: Path):
    sparse_recording(source / "deadly.wav", 3600)
    order = Order(str(source), str(tmp_path / "out"))
    with killing_who_reads(source / "deadly.wav", os.getpid()) as killed:
        result = run_batch(order, model, two_workers)
    assert len(killed) == 2
    assert statuses(result) == {
        "one.wav": "done",
        "two three.flac": "done",
        "ü.ogg": "done",
        "notes.txt": "skipped",
        "deadly.wav": "failed",
    }
    assert "worker died" in result.failures[0].reason
    assert "deadly.wav" not in digests(tmp_path / "out")


@pytest.mark.slow
def test_a_file_that_kills_its_worker_fails_alone_among_many(model: Model, noisy, tmp_path: Path):
    """Short files share a worker's time, and a death for a while, but not the blame."""
    source = tmp_path / "in"
    source.mkdir()
    soundfile.write(source / "0.wav", noisy[:1600], 16_000)
    for index in range(1, 60):
        os.link(source / "0.wav", source / f"{index}.wav")
    soundfile.write(source / "deadly.flac", np.zeros(1200 * 16_000, np.int16), 16_000)
    order = Order(str(source), str(tmp_path / "out"))
    with killing_who_reads(source / "deadly.flac", os.getpid()):
        result = run_batch(order, model, two_workers)
    assert result.count("done") == 60
    assert [Path(entry.input).name for entry in result.failures] == ["deadly.flac"]


@pytest.mark.slow
def test_a_worker_may_die_while_another_starts(
    model: Model, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sparse_recording(source / "deadly.wav", 3600)  # the largest, so the first
    started: list[SpawnProcess] = []

    def start(process: SpawnProcess) -> None:
        if len(started) == 1:  # the executor does not know the second one yet
            wait_for(lambda: bool(killed))
            started[0].join()
            time.sleep(1)
        started.append(process)
        plain_start(process)

    plain_start = SpawnProcess.start
    monkeypatch.setattr(SpawnProcess, "start", start)
    with killing_who_reads(source / "deadly.wav", os.getpid()) as killed:
        result = run_batch(Order(str(source), str(tmp_path / "out")), model, two_workers)
    assert statuses(result)["one.wav"] == "done"
    assert statuses(result)["deadly.wav"] == "failed"
    assert not [process for process in started if process.is_alive()]


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_leaves_nothing_half_done_and_goes_on(sent: int, source: Path, tmp_path: Path):
    for index in range(2):
        sparse_recording(source / f"long{index}.wav", 7200)
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*COMMAND, source, out, "--jobs", "2"], stderr=subprocess.PIPE, start_new_session=True
    )
    wait_for(lambda: len(list(out.glob(".*.part"))) == 2)
    os.killpg(process.pid, sent) if sent == signal.SIGINT else process.send_signal(sent)
    _, err = process.communicate(timeout=20)
    assert process.returncode == (130 if sent == signal.SIGINT else 143)
    assert b"Traceback" not in err
    assert [path.name for path in out.iterdir()] == [FILE_NAME]
    for index in range(2):
        sparse_recording(source / f"long{index}.wav", 10)
    assert gtcrn_batch(source, out).returncode == 0
    assert len(digests(out)) == 5


@pytest.mark.slow
def test_killed_at_any_moment_it_loses_and_breaks_nothing(noisy, tmp_path: Path):
    """8 times SIGKILL; every final name holds a whole file, and the end is as if undisturbed."""
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for index in range(16):
        sound = np.roll(noisy, 1000 * index)
        soundfile.write(source / f"{index}.flac", np.tile(sound, (1 + index % 4, 1)), 16_000)
    assert gtcrn_batch(source, tmp_path / "undisturbed", "--jobs", "2").returncode == 0
    undisturbed = digests(tmp_path / "undisturbed")
    assert len(undisturbed) == 16

    chance = random.Random(0)
    interrupted, there = 0, {}
    for _ in range(8):
        left = 16 - len(there)
        enough = len(there) + chance.randrange(left - 2)
        process = subprocess.Popen(
            [*COMMAND, source, out, "--jobs", "2"],
            stderr=subprocess.DEVNULL,
            env=os.environ | {"TMPDIR": str(tmp_path)},  # nobody clears up after a kill
        )
        wait_for(lambda enough=enough: out.exists() and len(digests(out)) >= enough)
        time.sleep(chance.uniform(0, 0.1))  # into the midst of the next ones
        process.send_signal(signal.SIGKILL)
        interrupted += process.wait() == -signal.SIGKILL
        there = digests(out)
        assert there.items() <= undisturbed.items()
        for name in chance.sample(sorted(there), len(there) // 2):  # so that there is work left
            (out / name).unlink()
            del there[name]
    assert interrupted >= 4
    assert gtcrn_batch(source, out).returncode == 0
    assert digests(out) == undisturbed
    assert not [path for path in out.iterdir() if PARTIAL.fullmatch(path.name)]
    assert gtcrn_batch(source, out).stderr == "gtcrn: 0 enhanced; 16 unchanged\n"


def test_only_one_batch_writes_to_a_folder(source: Path, model: Model, tmp_path: Path):
    sparse_recording(source / "long.wav", 7200)
    out = tmp_path / "out"
    process = subprocess.Popen([*COMMAND, source, out], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: (out / FILE_NAME).exists())
        with pytest.raises(UserError, match="another batch"):
            run_batch(Order(str(source), str(out)), model, nobody)
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits a process's files as Linux does")
def test_a_full_disk_fails_what_does_not_fit(source: Path, tmp_path: Path):
    """RLIMIT_FSIZE stops a file at 1 MB, as a full disk would."""
    import resource

    sparse_recording(source / "big.wav", 60)
    out = tmp_path / "out"

    def limited(size: int) -> subprocess.CompletedProcess:
        return gtcrn_batch(
            source, out, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        )

    none_done = limited(100_000)
    assert none_done.returncode == 1
    assert none_done.stderr.count("\n") == 1 and "set TMPDIR" in none_done.stderr
    done = limited(1_000_000)
    assert done.returncode == 1
    assert "3 enhanced" in done.stderr
    assert "is the disk full?" in done.stderr
    assert "big.wav" not in digests(out)
    assert not [path for path in out.iterdir() if PARTIAL.fullmatch(path.name)]
    assert gtcrn_batch(source, out).returncode == 0


@pytest.fixture
def unprivileged() -> list[str]:
    """Arguments before a command that take root's right to read and write everything away."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may do everything, and setpriv is not installed")
    rights = "-dac_override,-dac_read_search"
    return ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"]


def test_no_permission_is_told_for_each_file(source: Path, tmp_path: Path, unprivileged: list[str]):
    out = tmp_path / "out"
    closed = source / "closed"
    closed.mkdir()
    (source / "folder" / "two three.flac").chmod(0)
    (out / "folder" / "deep").mkdir(parents=True)
    (out / "folder" / "deep").chmod(0o500)
    closed.chmod(0)
    try:
        done = subprocess.run(
            [*unprivileged, *COMMAND, source, out], capture_output=True, text=True, check=False
        )
    finally:
        closed.chmod(0o700)
        (out / "folder" / "deep").chmod(0o700)
    assert done.returncode == 1
    assert "1 enhanced" in done.stderr
    failures = done.stderr.splitlines()[1:]
    assert len(failures) == 3
    assert any("closed: cannot look into it: Permission denied" in line for line in failures)
    assert any("two three.flac: Permission denied" in line for line in failures)
    assert any("cannot be written to" in line for line in failures)


def test_memory_is_bounded_by_the_workers_not_by_the_files(
    model: Model, noisy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """However many files there are, only a few are handed out at a time."""
    source = tmp_path / "in"
    source.mkdir()
    soundfile.write(source / "0.wav", noisy[:1600], 16_000)
    for index in range(1, 100):
        os.link(source / "0.wav", source / f"{index}.wav")
    submitted = 0
    most = 0
    workers = two_workers(model)
    submit = workers.submit

    def counting(jobs: Sequence[Job]):
        nonlocal submitted, most
        submitted += len(jobs)
        future = submit(jobs)
        pending.add(future)
        most = max(most, sum(not future.done() for future in pending))
        return future

    pending: set = set()
    monkeypatch.setattr(workers, "submit", counting)
    result = run_batch(Order(str(source), str(tmp_path / "out")), model, lambda model: workers)
    assert result.count("done") == submitted == 100
    assert len(pending) < 60 and most <= 6
