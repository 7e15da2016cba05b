"""What a user has put or edited where a batch writes stays."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import mutagen.flac
import numpy as np
import pytest
import soundfile
from support.batches import (
    InThisProcess,
    nobody,
    statuses,
)

from gtcrn_cli.batch.jobs import Model
from gtcrn_cli.batch.manifest import FILE_NAME, Manifest
from gtcrn_cli.batch.plan import Order
from gtcrn_cli.batch.run import BatchResult, Entry, run_batch
from gtcrn_cli.enhancement.enhancer import Settings
from gtcrn_cli.enhancement.pipeline import denoise


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


def test_tags_that_somebody_edited_stay_though_the_size_is_the_same(
    model: Model, noisy: np.ndarray, tmp_path: Path
):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in "ab":
        soundfile.write(source / f"{name}.flac", noisy[:8000], 16_000)
        tags = mutagen.flac.FLAC(source / f"{name}.flac")
        tags["title"] = "Take 1"
        tags.save()
    order = Order(str(source), str(out))
    assert run_batch(order, model, InThisProcess).count("done") == 2
    size = (out / "a.flac").stat().st_size
    tags = mutagen.flac.FLAC(out / "a.flac")
    tags["title"] = "Take 2"
    tags.save(padding=lambda info: info.padding)
    assert (out / "a.flac").stat().st_size == size
    mine = (out / "a.flac").read_bytes()
    other = replace(order, settings=Settings(strength=0.5))
    result = run_batch(other, model, InThisProcess)
    assert statuses(result) == {"a.flac": "failed", "b.flac": "done"}
    assert "is not what is made now: add --overwrite" in str(result.failures[0].reason)
    assert (out / "a.flac").read_bytes() == mine
    assert run_batch(replace(other, overwrite=True), model, InThisProcess).count("done") == 1
    assert (out / "a.flac").read_bytes() != mine


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
