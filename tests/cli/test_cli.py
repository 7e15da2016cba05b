"""The command line as a user meets it: what it writes, what it says, how it ends."""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
import torch
from support.places import REFERENCE
from support.sound import agreement_db, si_sdr_db
from support.waiting import wait_for

from gtcrn_cli import __version__
from gtcrn_cli.cli import main
from gtcrn_cli.network.checkpoint import available_models

COMMAND = [sys.executable, "-m", "gtcrn_cli"]
MEBIBYTE = 2**20


@pytest.fixture
def gtcrn(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs a command in this process and returns its exit code."""

    def run(*arguments: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["gtcrn", *map(str, arguments)])
        previous = signal.getsignal(signal.SIGTERM)
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
        finally:
            signal.signal(signal.SIGTERM, previous)
        return 0

    return run


def gtcrn_process(*arguments: str | Path, **options) -> subprocess.CompletedProcess:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, **options)


def test_denoise_enhances_a_recording(gtcrn, noisy_path: Path, clean, tmp_path: Path, capsys):
    target = tmp_path / "enhanced.wav"
    assert gtcrn("denoise", noisy_path, target) == 0
    noisy, _ = soundfile.read(noisy_path)
    enhanced, rate = soundfile.read(target)
    assert rate == 16_000
    assert enhanced.shape == noisy.shape
    assert si_sdr_db(enhanced, clean) > si_sdr_db(noisy, clean) + 5
    assert soundfile.info(target).subtype == "PCM_16"
    assert capsys.readouterr() == ("", "")  # silent when nobody watches


def test_json_says_what_was_done(gtcrn, noisy_path: Path, tmp_path: Path, capsys):
    assert gtcrn("denoise", noisy_path, tmp_path / "a.wav", "--json") == 0
    out, err = capsys.readouterr()
    summary = json.loads(out)
    assert err == ""
    assert summary["duration_s"] == 6.5
    assert summary["speed"] > 1
    assert summary["removed_db"] == pytest.approx(
        summary["level_in_db"] - summary["level_out_db"], abs=0.01
    )
    assert summary["removed_db"] > 0.5
    assert summary["clipped"] == 0


def test_options_reach_the_sound(gtcrn, noisy_path: Path, tmp_path: Path):
    noisy, _ = soundfile.read(noisy_path)
    assert gtcrn("denoise", noisy_path, tmp_path / "none.wav", "--strength", "0") == 0
    assert agreement_db(soundfile.read(tmp_path / "none.wav")[0], noisy) > 60
    assert gtcrn("denoise", noisy_path, tmp_path / "0.wav", "--atten-limit", "0") == 0
    assert agreement_db(soundfile.read(tmp_path / "0.wav")[0], noisy) > 60
    target = tmp_path / "a.flac"
    assert gtcrn("denoise", noisy_path, target, "--subtype", "pcm_24", "--strength", "0.9") == 0
    assert soundfile.info(target).subtype == "PCM_24"
    assert gtcrn("denoise", noisy_path, tmp_path / "named", "--format", "opus") == 0
    assert soundfile.info(tmp_path / "named").subtype == "OPUS"


def test_stereo_at_48_khz_keeps_its_shape(gtcrn, tmp_path: Path):
    noise = 0.05 * np.random.default_rng(0).standard_normal((48_000, 2))
    soundfile.write(tmp_path / "in.wav", noise, 48_000, "PCM_24")
    for channels in ("independent", "linked"):
        target = tmp_path / f"{channels}.wav"
        assert gtcrn("denoise", tmp_path / "in.wav", target, "--channels", channels) == 0
        info = soundfile.info(target)
        assert (info.frames, info.channels, info.samplerate) == (48_000, 2, 48_000)
        assert info.subtype == "PCM_24"


def test_clipping_is_counted_and_said(gtcrn, tmp_path: Path, capsys):
    loud = np.full(16_000, 1.5, np.float32)
    soundfile.write(tmp_path / "loud.wav", loud, 16_000, "FLOAT")
    arguments = ("denoise", tmp_path / "loud.wav", tmp_path / "a.wav", "--strength", "0")
    assert gtcrn(*arguments, "--subtype", "PCM_16", "--json") == 0
    out, _ = capsys.readouterr()
    assert json.loads(out)["clipped"] == 16_000
    assert gtcrn(*arguments, "--overwrite") == 0
    assert capsys.readouterr().err == ""  # float holds it


def test_damaged_samples_are_counted_and_said(gtcrn, tmp_path: Path, capsys):
    samples = np.zeros(16_000, np.float32)
    samples[100:103] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, 16_000, "FLOAT")
    assert gtcrn("denoise", tmp_path / "nan.wav", tmp_path / "a.wav") == 0
    assert "3 samples were no sound" in capsys.readouterr().err
    assert np.all(np.isfinite(soundfile.read(tmp_path / "a.wav")[0]))


def test_an_empty_recording_gives_an_empty_recording(gtcrn, tmp_path: Path):
    soundfile.write(tmp_path / "in.wav", np.zeros((0, 2)), 44_100)
    assert gtcrn("denoise", tmp_path / "in.wav", tmp_path / "out.wav") == 0
    info = soundfile.info(tmp_path / "out.wav")
    assert (info.frames, info.channels, info.samplerate) == (0, 2, 44_100)


def test_a_format_without_empty_recordings_is_told(gtcrn, tmp_path: Path, capsys):
    soundfile.write(tmp_path / "in.wav", np.zeros((0, 2)), 44_100)
    assert gtcrn("denoise", tmp_path / "in.wav", tmp_path / "out.mp3") == 1
    assert "without samples" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


@pytest.fixture
def bad(tmp_path: Path, noisy_path: Path) -> Path:
    """A folder with what can be wrong."""
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "zero.wav").write_bytes(b"")
    (folder / "text.wav").write_text("This is not a recording.\n" * 100)
    (folder / "header.wav").write_bytes(noisy_path.read_bytes()[:30])
    soundfile.write(folder / "slow.wav", np.zeros(10), 4_000)
    soundfile.write(folder / "wide.wav", np.zeros((10, 65)), 16_000)
    soundfile.write(folder / "exists.wav", np.zeros(10), 16_000)
    shutil.copy(noisy_path, folder / "good.wav")
    return folder


@pytest.mark.parametrize(
    ("source", "target", "options", "message"),
    [
        ("missing.wav", "a.wav", [], "No such file"),
        (".", "a.wav", [], "folder"),
        ("zero.wav", "a.wav", [], "empty"),
        ("text.wav", "a.wav", [], "cannot read"),
        ("header.wav", "a.wav", [], "cannot read"),
        ("slow.wav", "a.wav", [], "sample rate"),
        ("wide.wav", "a.wav", [], "channels"),
        ("good.wav", "exists.wav", [], "--overwrite"),
        ("good.wav", "good.wav", ["--overwrite"], "same file"),
        ("good.wav", "no/where.wav", [], "does not exist"),
        ("good.wav", ".", [], "folder"),
        ("good.wav", "a.unknown", [], "--format"),
        ("good.wav", "a.flac", ["--subtype", "FLOAT"], "subtype"),
        ("good.wav", "a.wav", ["--raw", "s99:1"], "raw format"),
        ("good.wav", "a.wav", ["--model", "nobody"], "no model"),
        ("good.wav", "a.wav", ["--model", "text.wav"], "not a readable model"),
        ("good.wav", "a.wav", ["--engine", "steam"], "no engine"),
    ],
)
def test_bad_input_is_one_line_and_nothing_written(
    gtcrn, bad: Path, monkeypatch, capsys, source, target, options, message
):
    monkeypatch.chdir(bad)
    before = {path: path.read_bytes() for path in bad.iterdir()}
    assert gtcrn("denoise", source, target, *options) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("gtcrn: ")
    assert err.count("\n") == 1
    assert message in err
    assert {path: path.read_bytes() for path in bad.iterdir()} == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["denoise"],
        ["denoise", "a.wav"],
        ["denoise", "a.wav", "b.wav", "--strength", "2"],
        ["denoise", "a.wav", "b.wav", "--strength", "0.5", "--atten-limit", "6"],
        ["denoise", "a.wav", "b.wav", "--high-band", "lift"],
        ["undo"],
    ],
)
def test_usage_errors_exit_with_2(gtcrn, arguments: list[str], capsys):
    assert gtcrn(*arguments) == 2
    assert capsys.readouterr().out == ""


def test_a_source_that_breaks_off_leaves_what_was_finished(
    gtcrn, noisy_path: Path, tmp_path: Path, capsys
):
    samples, rate = soundfile.read(noisy_path)
    soundfile.write(tmp_path / "in.flac", samples, rate)
    whole = (tmp_path / "in.flac").read_bytes()
    (tmp_path / "in.flac").write_bytes(whole[: len(whole) * 2 // 3])
    assert gtcrn("denoise", tmp_path / "in.flac", tmp_path / "out.flac") == 1
    assert "out.partial.flac" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.flac", "out.partial.flac"]
    assert soundfile.info(tmp_path / "out.partial.flac").frames > rate


@pytest.mark.parametrize("name", ["in.wav", "in.aiff", "in.caf", "in.ogg", "in.mp3"])
def test_what_broke_off_is_kept_apart_or_taken_as_it_is(gtcrn, tmp_path: Path, name: str, capsys):
    source, target = tmp_path / "in" / name, tmp_path / name.replace("in", "out")
    source.parent.mkdir()
    soundfile.write(source, 0.1 * np.random.default_rng(0).standard_normal(120_000), 16_000)
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    assert gtcrn("denoise", source, target) == 1
    message = capsys.readouterr().err
    assert "cut off" in message
    assert "--allow-truncated" in message
    partial = target.with_name(f"{target.stem}.partial{target.suffix}")
    assert str(partial) in message
    assert not target.exists()
    samples = soundfile.info(partial).frames
    assert samples > 10_000
    assert gtcrn("denoise", "--allow-truncated", source, target) == 0
    assert "cut off" in capsys.readouterr().err
    assert soundfile.info(target).frames == samples
    report = tmp_path / "report.json"
    batch = ("batch", source.parent, tmp_path / "clean", "--report", report, "--jobs", "1")
    if name == "in.wav":  # a batch does the same to each
        assert gtcrn(*batch) == 1
        assert "cut off" in capsys.readouterr().err
        (entry,) = json.loads(report.read_text())["files"]
        assert entry["status"] == "failed"
        assert "cut off" in entry["reason"]
        assert gtcrn(*batch, "--allow-truncated") == 0
        assert soundfile.info(tmp_path / "clean" / name).frames == samples


@pytest.mark.parametrize("ending", [".wav", ".flac"])
def test_an_input_that_broke_off_is_not_replaced_by_its_part(gtcrn, tmp_path, ending: str, capsys):
    """Where it is called as its part will be, and where another recording is."""
    source = tmp_path / f"talk.partial{ending}"
    soundfile.write(source, 0.1 * np.random.default_rng(0).standard_normal(60_000), 16_000)
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    before = source.read_bytes()
    for overwrite in ([], ["--overwrite"]):
        assert gtcrn("denoise", source, tmp_path / f"talk{ending}", *overwrite) == 1
        assert f"talk.partial-2{ending}" in capsys.readouterr().err
        assert source.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2  # the second part is the same, and not there twice


def test_version_and_help(gtcrn, capsys):
    assert gtcrn("--version") == 0
    assert capsys.readouterr().out == f"gtcrn {__version__}\n"
    assert gtcrn("denoise", "--help") == 0
    assert "Examples" in capsys.readouterr().out


def test_help_is_quick_to_import():
    script = (
        "import sys, gtcrn_cli.cli; "
        "sys.exit(', '.join({'torch', 'numba', 'numpy', 'soundfile', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr.strip() == ""


def test_what_the_library_logs_is_shown(gtcrn, capsys):
    gtcrn("--version")
    logging.getLogger("gtcrn_cli.native.machine_code").info("compiled in %.1f s", 1)
    assert capsys.readouterr().err == "gtcrn: compiled in 1.0 s\n"


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="no published checkpoint beside the project")
def test_a_published_checkpoint_can_be_added_and_used(gtcrn, noisy_path, tmp_path, capsys):
    file = REFERENCE / "model_trained_on_vctk.tar"
    assert gtcrn("models", "add", file, "--name", "vctk") == 0
    assert gtcrn("models") == 0
    out, _ = capsys.readouterr()
    assert "* gtcrn" in out
    assert "  vctk" in out
    assert gtcrn("models", "show", "vctk") == 0
    assert json.loads(capsys.readouterr().out)["config"]["fusion"] == "add"
    assert gtcrn("models", "add", file, "--name", "vctk") == 1
    assert "exists" in capsys.readouterr().err
    assert gtcrn("denoise", noisy_path, tmp_path / "a.wav", "--model", "vctk") == 0
    assert gtcrn("denoise", noisy_path, tmp_path / "b.wav") == 0
    assert (tmp_path / "a.wav").read_bytes() != (tmp_path / "b.wav").read_bytes()


def test_another_network_cannot_be_added(gtcrn, tmp_path: Path, capsys):
    torch.save({"model": {"weight": torch.zeros(3)}}, tmp_path / "other.tar")
    assert gtcrn("models", "add", tmp_path / "other.tar") == 1
    assert "not those of a GTCRN" in capsys.readouterr().err
    assert "other" not in available_models()


def test_raw_flows_through_pipes(noisy_path: Path, tmp_path: Path):
    samples, _ = soundfile.read(noisy_path, dtype="int16")
    raw = gtcrn_process("denoise", "--raw", "s16le:16000:1", "-", "-", input=samples.tobytes())
    assert raw.returncode == 0
    assert raw.stderr == b""
    assert len(raw.stdout) == 2 * len(samples)
    wav = gtcrn_process("denoise", "-", "-", "--json", input=noisy_path.read_bytes())
    assert wav.returncode == 0
    assert wav.stdout.endswith(raw.stdout)
    assert json.loads(wav.stderr)["duration_s"] == 6.5


def test_a_broken_pipe_ends_quietly(noisy_path: Path):
    producer = subprocess.Popen(
        [*COMMAND, "denoise", noisy_path, "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert producer.stdout is not None and producer.stderr is not None
    producer.stdout.read(100)
    producer.stdout.close()
    assert producer.stderr.read() == b""
    assert producer.wait(30) != 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(noisy_path: Path, tmp_path: Path, how: int):
    """The input is a pipe that nobody closes, so the run cannot end by itself."""
    (tmp_path / "out").mkdir()
    process = subprocess.Popen(
        [*COMMAND, "denoise", "-", tmp_path / "out" / "a.wav"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None and process.stderr is not None
    process.stdin.write(noisy_path.read_bytes()[:-100])
    process.stdin.flush()
    wait_for(lambda: any(p.stat().st_size > 1000 for p in (tmp_path / "out").iterdir()), 60)
    process.send_signal(how)
    assert process.wait(30) == 128 + how
    assert b"Traceback" not in process.stderr.read()
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_is_told_and_leaves_nothing(noisy_path: Path, tmp_path: Path):
    """The limit on a file's size fails writes just as a full disk does."""
    (tmp_path / "out").mkdir()
    done = gtcrn_process(
        "denoise",
        noisy_path,
        tmp_path / "out" / "a.wav",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 1
    assert done.stderr.decode().startswith("gtcrn: cannot write")
    assert done.stderr.count(b"\n") == 1
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.slow
def test_a_quarter_of_an_hour_takes_no_more_memory_than_a_minute(tmp_path: Path):
    """Its samples are 29 MB as they are in the file, 58 MB as floats."""
    peaks = []
    for minutes in (1, 15):
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", 16_000, 1) as file:
            noise = (1000 * np.random.default_rng(0).standard_normal(16_000 * 60)).astype(np.int16)
            for _ in range(minutes):
                file.write(noise)
        process = psutil.Popen(
            [*COMMAND, "denoise", path, tmp_path / f"{minutes}-out.wav"], stderr=subprocess.PIPE
        )
        peak = 0
        while process.poll() is None:
            try:
                peak = max(peak, process.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.02)
        assert process.wait() == 0
        peaks.append(peak / MEBIBYTE)
    assert soundfile.info(tmp_path / "15-out.wav").frames == 900 * 16_000
    assert peaks[1] < peaks[0] + 15
    assert peaks[1] < 400
