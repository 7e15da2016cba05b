"""Whole batches, as a user meets them: through the command line, worker processes and all."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future
from multiprocessing.context import SpawnProcess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.batches import killing_who_reads, sparse_recording
from support.places import PROJECT
from support.waiting import wait_for

from gtcrn_cli.batch.jobs import Job, LocalWorkers, Model, Outcome, Workers, prepare, process
from gtcrn_cli.batch.manifest import FILE_NAME, Manifest
from gtcrn_cli.batch.plan import Order
from gtcrn_cli.batch.run import BatchResult, Entry, run_batch
from gtcrn_cli.enhancement.enhancer import Settings
from gtcrn_cli.enhancement.pipeline import denoise
from gtcrn_cli.errors import UserError
from gtcrn_cli.network.checkpoint import Checkpoint
from gtcrn_cli.paths import PARTIAL

COMMAND = [sys.executable, "-m", "gtcrn_cli", "batch"]


def two_workers(model: Model) -> Workers:
    return LocalWorkers(model, 2)


class InThisProcess(Workers):
    """One worker, without a process of its own."""

    lost = ()
    count = 1

    def __init__(self, model: Model) -> None:
        self.model = model
        prepare(model)

    def submit(self, jobs: Sequence[Job]) -> Future[list[Outcome]]:
        future: Future[list[Outcome]] = Future()
        future.set_result(process(jobs))
        return future

    def renew(self) -> None:
        raise AssertionError("it cannot be lost")

    def close(self, at_once: bool) -> None:
        pass


def nobody(model: Model) -> Workers:
    raise AssertionError("there was nothing to do")


@pytest.fixture(scope="module")
def model(shipped: Checkpoint) -> Model:
    return Model(shipped)


@pytest.fixture
def source(tmp_path: Path, noisy: np.ndarray) -> Path:
    """A small archive: odd names, other rates, and one file that is none."""
    root = tmp_path / "in"
    (root / "folder" / "deep").mkdir(parents=True)
    soundfile.write(root / "one.wav", noisy[:32_000], 16_000)
    soundfile.write(root / "folder" / "two three.flac", noisy[32_000:64_000], 16_000)
    soundfile.write(root / "folder" / "deep" / "ü.ogg", noisy[:48_000], 48_000)
    (root / "notes.txt").write_text("not sound")
    return root


def gtcrn_batch(*arguments: str | Path, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )


def digests(root: Path) -> dict[str, str]:
    """Of all that is at final names."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file() and path.name != FILE_NAME and not PARTIAL.fullmatch(path.name)
    }


def statuses(result: BatchResult) -> dict[str, str]:
    return {Path(entry.input).name: entry.status for entry in result.entries}


def test_a_tree_is_enhanced_and_the_second_run_does_nothing(
    source: Path, model: Model, tmp_path: Path
):
    order = Order(str(source), str(tmp_path / "out"))
    seen = []
    first = run_batch(order, model, two_workers, progress=lambda *now: seen.append(now))
    assert statuses(first) == {
        "one.wav": "done",
        "two three.flac": "done",
        "ü.ogg": "done",
        "notes.txt": "skipped",
    }
    assert set(digests(tmp_path / "out")) == {
        "one.wav",
        "folder/two three.flac",
        "folder/deep/ü.ogg",
    }
    assert first.duration_s == pytest.approx(5)
    assert seen[-1] == pytest.approx((5, 5))
    assert soundfile.info(tmp_path / "out" / "folder" / "deep" / "ü.ogg").samplerate == 48_000
    before = digests(tmp_path / "out")
    second = run_batch(order, model, nobody)
    assert set(statuses(second).values()) == {"unchanged", "skipped"}
    assert [entry.summary["duration_s"] for entry in second.entries if entry.summary]
    assert digests(tmp_path / "out") == before


@pytest.mark.slow
def test_what_changed_is_done_again(source: Path, model: Model, tmp_path: Path, noisy):
    out = tmp_path / "out"
    order = Order(str(source), str(out))
    run_batch(order, model, two_workers)
    soundfile.write(source / "one.wav", noisy[:16_000], 16_000)
    (out / "folder" / "two three.flac").unlink()
    again = run_batch(order, model, two_workers)
    assert statuses(again) == {
        "one.wav": "done",
        "two three.flac": "done",
        "ü.ogg": "unchanged",
        "notes.txt": "skipped",
    }
    assert soundfile.info(out / "one.wav").frames == 16_000
    other = Order(str(source), str(out), settings=Settings(strength=0.5))
    assert run_batch(other, model, two_workers).count("done") == 3
    weights = dict(model.checkpoint.weights)
    name = min(weights)
    weights[name] = weights[name] * 1.01
    changed = Model(Checkpoint(weights, model.checkpoint.config))
    assert run_batch(other, changed, two_workers).count("done") == 3
    assert run_batch(other, changed, nobody).count("unchanged") == 3


def test_one_bad_file_does_not_stop_the_rest(source: Path, model: Model, tmp_path: Path):
    (source / "bad.wav").write_bytes(b"RIFF" + bytes(100))
    (source / "empty.flac").touch()
    soundfile.write(source / "slow.wav", np.zeros(100), 4_000)
    result = run_batch(Order(str(source), str(tmp_path / "out")), model, two_workers)
    assert result.count("done") == 3
    reasons = {Path(entry.input).name: entry.reason for entry in result.failures}
    assert set(reasons) == {"bad.wav", "empty.flac", "slow.wav"}
    assert "sample rate" in reasons["slow.wav"]
    assert set(digests(tmp_path / "out")) == {
        "one.wav",
        "folder/two three.flac",
        "folder/deep/ü.ogg",
    }
    assert run_batch(result.order, model, two_workers).count("failed") == 3  # tried again


def test_names_that_are_no_text(model: Model, noisy, tmp_path: Path):
    name = os.fsdecode(b"caf\xe9.wav")
    (tmp_path / "in").mkdir()
    try:
        shutil.copy(Path(__file__), tmp_path / "in" / name)
    except OSError:
        pytest.skip("this file system takes only names that are text")
    soundfile.write(tmp_path / "a.wav", noisy[:1600], 16_000)
    (tmp_path / "a.wav").replace(tmp_path / "in" / name)
    planned = subprocess.run(
        [*COMMAND, tmp_path / "in", tmp_path / "out", "--dry-run"], capture_output=True
    )
    assert planned.stdout == os.fsencode(f"{tmp_path / 'in' / name}\t{tmp_path / 'out' / name}\n")
    done = gtcrn_batch(tmp_path / "in", tmp_path / "out", "--report", tmp_path / "r.csv")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / name).exists()
    assert "caf" in (tmp_path / "r.csv").read_text()


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "opus"])
def test_what_a_user_puts_at_a_claimed_place_stays(
    ending: str, model: Model, noisy: np.ndarray, tmp_path: Path
):
    """A batch claims its targets before it makes them, and may fail, or be killed."""
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    soundfile.write(source / "a.wav", noisy[:8000], 16_000)
    target = out / f"a.{ending}"
    order = Order(str(source), str(out), format=ending)
    with Manifest(out / FILE_NAME) as manifest:
        manifest.claim([(target.name, str(source / "a.wav"))])

    mine = denoise_to(target, source / "a.wav", Settings(strength=0.5))
    refused = run_batch(order, model, InThisProcess)
    assert [entry.status for entry in refused.entries] == ["failed"]
    assert f"{target} exists, and is not what is made now" in str(refused.failures[0].reason)
    assert target.read_bytes() == mine

    target.unlink()
    made_and_killed = denoise_to(target, source / "a.wav", Settings())
    assert run_batch(order, model, InThisProcess).count("done") == 1
    assert target.read_bytes() == made_and_killed
    assert run_batch(order, model, nobody).count("unchanged") == 1


def test_what_a_lost_worker_made_on_another_cpu_is_taken(
    model: Model, noisy: np.ndarray, tmp_path: Path
):
    """Its last bits may be others."""
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    soundfile.write(source / "a.wav", noisy[:8000], 16_000, subtype="PCM_16")
    with Manifest(out / FILE_NAME) as manifest:
        manifest.claim([("a.wav", str(source / "a.wav"))])
    denoise_to(out / "a.wav", source / "a.wav", Settings())
    made, _ = soundfile.read(out / "a.wav", dtype="int16")
    made[::7] += 1
    soundfile.write(out / "a.wav", made, 16_000, subtype="PCM_16")
    assert run_batch(Order(str(source), str(out)), model, InThisProcess).count("done") == 1
    assert np.array_equal(soundfile.read(out / "a.wav", dtype="int16")[0], made)


def test_of_many_edited_outputs_some_are_named(model: Model, capsys):
    from gtcrn_cli.cli.batch import SHOWN, _say

    edited = [Entry("a", f"b{n}", "unchanged", "has been changed") for n in range(SHOWN + 9)]
    _say(BatchResult(Order("in", "out"), model, edited), quiet=False)
    said = capsys.readouterr().err
    assert said.count("has been changed") == SHOWN
    assert "and 9 more outputs like these" in said


def denoise_to(target: Path, source: Path, settings: Settings) -> bytes:
    denoise(str(source), str(target), settings=settings)
    return target.read_bytes()


@pytest.mark.parametrize("left", [b"", b"\0" * 3000, b"RIFF"])
def test_what_a_power_cut_has_left_is_made_anew(
    left: bytes, model: Model, noisy: np.ndarray, tmp_path: Path
):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    soundfile.write(source / "a.wav", noisy[:8000], 16_000)
    with Manifest(out / FILE_NAME) as manifest:
        manifest.claim([("a.wav", str(source / "a.wav"))])
    (out / "a.wav").write_bytes(left)
    assert run_batch(Order(str(source), str(out)), model, InThisProcess).count("done") == 1
    assert soundfile.info(out / "a.wav").frames == 8000


def test_a_file_that_comes_up_during_the_run_is_not_replaced(
    model: Model, noisy: np.ndarray, tmp_path: Path
):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in "ab":
        soundfile.write(source / f"{name}.wav", noisy[:8000], 16_000)
    mine = noisy[:999]

    def put(*now: float) -> None:
        if not (out / "b.wav").exists():
            soundfile.write(out / "b.wav", mine, 16_000)

    result = run_batch(Order(str(source), str(out)), model, InThisProcess, progress=put)
    assert statuses(result) == {"a.wav": "done", "b.wav": "failed"}
    assert soundfile.info(out / "b.wav").frames == 999


def test_what_somebody_edited_is_left_and_what_was_damaged_is_made_again(
    model: Model, noisy: np.ndarray, tmp_path: Path, monkeypatch, capsys
):
    from gtcrn_cli.batch import jobs
    from gtcrn_cli.cli import main

    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("edited", "damaged", "whole"):
        soundfile.write(source / f"{name}.wav", noisy[:8000], 16_000)
    monkeypatch.setattr(jobs, "LocalWorkers", lambda model, count: InThisProcess(model))
    monkeypatch.setattr(sys, "argv", ["gtcrn", "batch", str(source), str(out)])
    whole = run_batch(Order(str(source), str(out)), model, InThisProcess)
    assert whole.count("done") == 3
    soundfile.write(out / "edited.wav", noisy[:4000], 16_000)
    damaged = (out / "damaged.wav").read_bytes()
    (out / "damaged.wav").write_bytes(damaged[:9000])
    for edited in (noisy[:4000], noisy[:9000]):
        soundfile.write(out / "edited.wav", edited, 16_000)
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 0
        assert soundfile.info(out / "edited.wav").frames == len(edited)
        assert (out / "damaged.wav").read_bytes() == damaged
    said = capsys.readouterr().err
    assert said.count(f"gtcrn: {out / 'edited.wav'}: it has been changed since it was made") == 2
    assert said.count(f"gtcrn: {out / 'damaged.wav'}: what was there was damaged") == 1
    assert "1 enhanced" in said and "2 unchanged" in said and "3 unchanged" in said


@pytest.mark.slow
def test_the_command_line(source: Path, tmp_path: Path):
    out, report = tmp_path / "out", tmp_path / "report.json"
    (source / "bad.wav").write_bytes(b"RIFF" + bytes(100))
    arguments = (source, out, "--format", "wav", "--jobs", "2", "--suffix", "_clean")

    plan = gtcrn_batch(*arguments, "--dry-run")
    assert plan.returncode == 0
    assert not out.exists()
    pairs = dict(line.split("\t") for line in plan.stdout.splitlines())
    assert pairs[str(source / "folder" / "two three.flac")] == str(
        out / "folder" / "two three_clean.wav"
    )
    assert "notes.txt" in plan.stderr

    done = gtcrn_batch(*arguments, "--report", report, "--report", tmp_path / "report.csv")
    assert done.returncode == 1
    assert done.stdout == ""
    again = gtcrn_batch(*arguments, "--json", "-q")
    told = [json.loads(line) for line in again.stdout.splitlines()]
    states = sorted(entry["status"] for entry in told)
    assert states == ["failed", "skipped", "unchanged", "unchanged", "unchanged"]
    assert all(Path(e["output"]).exists() and e["duration_s"] for e in told if e["output"])
    whole = gtcrn_batch(*arguments, "--report", "-")
    assert json.loads(whole.stdout)["counts"] == {
        **dict.fromkeys(("done", "failed", "skipped", "unchanged"), 0),
        **{state: states.count(state) for state in states},
    }
    assert gtcrn_batch(*arguments, "--report", "-", "--json").returncode == 2
    lines = done.stderr.splitlines()
    assert "3 enhanced" in lines[0]
    assert "1 failed" in lines[0]
    assert "1 skipped" in lines[0]
    assert lines[1].startswith(f"gtcrn: failed: cannot read {source / 'bad.wav'}")
    assert soundfile.info(out / "folder" / "deep" / "ü_clean.wav").format == "WAV"
    facts = json.loads(report.read_text())
    assert facts["counts"] == {"done": 3, "unchanged": 0, "failed": 1, "skipped": 1}
    with (tmp_path / "report.csv").open(newline="") as file:
        assert {row["status"] for row in csv.DictReader(file)} == {"done", "failed", "skipped"}


def test_a_list_on_stdin(source: Path, tmp_path: Path):
    listed = b"one.wav\0./folder/two three.flac\0missing.wav\0"
    done = subprocess.run(
        [*COMMAND, "-", str(tmp_path / "out")],
        input=listed,
        cwd=source,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert b"failed: missing.wav: no such file" in done.stderr
    assert set(digests(tmp_path / "out")) == {"one.wav", "folder/two three.flac"}


@pytest.mark.parametrize(
    ("source_name", "options", "expected"),
    [
        ("in", ("--exclude", "in/folder/"), {"one.wav"}),
        ("in/", ("--exclude", "in/folder/deep/"), {"one.wav", "two three.flac"}),
        ("./in", ("--exclude", "./in/folder"), {"one.wav"}),
        ("in", ("--exclude", "./in/folder/"), {"one.wav"}),
        ("./in", ("--exclude", "in/folder"), {"one.wav"}),
        ("in/.", ("--exclude", "./folder"), {"one.wav"}),
        ("in", ("--include", "in/folder/"), {"two three.flac", "ü.ogg"}),
        ("in", ("--include", "in/*.wav"), {"one.wav"}),
        ("in", ("--exclude", "deep/", "--exclude", "*.wav"), {"two three.flac"}),
    ],
)
def test_globs_as_shells_complete_them(
    source: Path,
    source_name: str,
    options: tuple[str, ...],
    expected: set[str],
    monkeypatch,
    capsys,
):
    from gtcrn_cli.cli import main

    monkeypatch.chdir(source.parent)
    monkeypatch.setattr(sys, "argv", ["gtcrn", "batch", source_name, "out", "--dry-run", *options])
    with pytest.raises(SystemExit) as end:
        main()
    planned = capsys.readouterr().out.splitlines()
    assert end.value.code == 0
    assert {Path(line.partition("\t")[0]).name for line in planned} == expected


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["missing", "out"], 1, "no such folder"),
        (["in", "in"], 1, "the output folder is the input folder"),
        (["in", "in/one.wav"], 1, "is a file: give a folder"),
        (["in", "out", "--format", "steam"], 1, "no format"),
        (["in", "out", "--report", "report.pdf"], 1, ".json, .csv or .html"),
        (["in", "out", "--report", "no/report.csv"], 1, "does not exist"),
        (["in", "out", "--engine", "steam"], 1, "no engine"),
        (["in", "out", "--model", "nobody"], 1, "no model"),
        (["in", "out", "--manifest", "in/one.wav"], 1, "is no manifest"),
        (["in", "out", "--manifest", "in/notes.txt", "--dry-run"], 1, "is no manifest"),
        (["in", "out", "--manifest", "s3://bucket/m"], 1, "s3://bucket/m is a URL"),
        (["in", "out", "--manifest", "r.json", "--report", "r.json"], 2, "same file"),
        (["in", "out", "--manifest", "r.json", "--report", "in/../r.json"], 2, "same file"),
        (["in", "out", "--dry-run", "--json"], 2, "leave it out"),
        (["in", "out", "--dry-run", "--report", "r.json"], 2, "leave it out"),
        (["-", "out", "--hidden"], 2, "--hidden is for folders"),
        (["in", "out", "--atten-limit", "nan"], 2, "--atten-limit"),
        (["in", "out", "--jobs", "0"], 2, "--jobs"),
        (["in", "out", "--jobs", "2", "--cluster", "tcp://127.0.0.1:1"], 2, "--jobs"),
    ],
)
def test_bad_arguments_are_said_before_any_work(
    source: Path, tmp_path: Path, arguments, code, message, monkeypatch, capsys
):
    from gtcrn_cli.cli import main

    monkeypatch.chdir(tmp_path)
    before = digests(source)
    monkeypatch.setattr(sys, "argv", ["gtcrn", "batch", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == code
    err = capsys.readouterr().err
    assert message in err
    if code == 1:
        assert err.count("\n") == 1
    assert not digests(tmp_path / "out")
    assert digests(source) == before
    assert {path.name for path in tmp_path.iterdir()} <= {"in", "out"}


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
