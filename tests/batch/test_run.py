"""Whole batches, as a user meets them: through the command line, worker processes and all."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.batches import (
    COMMAND,
    digests,
    gtcrn_batch,
    nobody,
    statuses,
    two_workers,
)
from support.places import PROJECT

from gtcrn_cli.batch.jobs import Model
from gtcrn_cli.batch.plan import Order
from gtcrn_cli.batch.run import run_batch
from gtcrn_cli.enhancement.enhancer import Settings
from gtcrn_cli.network.checkpoint import Checkpoint


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
