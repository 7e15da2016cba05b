"""The data of a page that compares sounds: whole, safe and not too large."""

from __future__ import annotations

import base64
import io
import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.pages import AWKWARD, Outline, data_of
from support.sound import agreement_db, tone

from gtcrn_cli.errors import UserError
from gtcrn_cli.evaluation.comparison import compare
from gtcrn_cli.evaluation.page import STEP_DB, comparison_page, write_page


def test_names_cannot_become_markup(tmp_path: Path, noisy_path: Path):
    shutil.copy(noisy_path, tmp_path / AWKWARD)
    comparison_page(tmp_path / AWKWARD, [], tmp_path / "page.html")
    outline = Outline((tmp_path / "page.html").read_text("utf-8"))
    assert outline.tags.count("script") == 2
    assert outline.references == ["data:,"]
    data = json.loads(outline.data)
    assert data["title"] == data["tracks"][0]["name"] == AWKWARD


def test_a_page_replaces_its_target_at_once_or_not_at_all(tmp_path: Path, noisy_path: Path):
    target = tmp_path / "page.html"
    target.write_text("old")
    comparison_page(noisy_path, [], target)
    assert target.read_text("utf-8").startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(UserError, match="does not exist: make it first"):
        comparison_page(noisy_path, [], tmp_path / "missing" / "page.html")


def test_a_page_that_no_browser_opens_is_refused(
    tmp_path: Path, noisy_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gtcrn_cli.evaluation.page.LARGEST_PAGE", 500_000)
    comparison_page(noisy_path, [], tmp_path / "one.html")
    with pytest.raises(UserError, match="use --sound opus, or --duration to show less"):
        comparison_page(noisy_path, [noisy_path], tmp_path / "two.html")
    assert [path.name for path in tmp_path.iterdir()] == ["one.html"]


def test_loud_sounds_are_embedded_without_clipping(tmp_path: Path):
    loud = tmp_path / "loud.wav"
    soundfile.write(loud, tone(500, 4.0, 1), 16_000, subtype="FLOAT")
    comparison_page(loud, [], tmp_path / "page.html")
    data = data_of(tmp_path / "page.html")
    assert "played 12.0 dB lower" in data["notes"][0]
    assert data["tracks"][0]["matchingGain"] == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 44_100, 96_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_page_with_opus_inside_plays_the_same_in_time(
    sample_rate: int, channels: int, tmp_path: Path
):
    path = tmp_path / "a.wav"
    time_s = np.arange(2 * sample_rate) / sample_rate
    sound = 0.3 * np.sin(2 * np.pi * (200 + 400 * time_s) * time_s) * (time_s > 0.5)
    soundfile.write(path, np.stack([sound] * channels, 1), sample_rate)
    write_page(compare(path, []), tmp_path / "page.html", "opus")
    track = data_of(tmp_path / "page.html")["tracks"][0]
    inside = soundfile.SoundFile(io.BytesIO(base64.b64decode(track["audio"])))
    assert (inside.format, inside.subtype, inside.channels) == ("OGG", "OPUS", channels)
    heard = inside.read()[: 2 * inside.samplerate].reshape(-1, channels)[:, 0]
    time_s = np.arange(len(heard)) / inside.samplerate
    expected = 0.3 * np.sin(2 * np.pi * (200 + 400 * time_s) * time_s) * (time_s > 0.5)
    assert abs(len(heard) / inside.samplerate - 2) < 0.001
    shifts = range(-200, 201)
    likeness = [np.dot(heard[300:-300], np.roll(expected, shift)[300:-300]) for shift in shifts]
    assert abs(shifts[int(np.argmax(likeness))]) <= 1
    assert agreement_db(heard, expected) > 10


def test_with_opus_two_minutes_of_stereo_at_48_khz_stay_below_5_mb(tmp_path: Path):
    """A tenth of that, of the sound that takes most: hiss, and the same quieter."""
    rng = np.random.default_rng(0)
    hiss = 0.1 * rng.standard_normal((12 * 48_000, 2))
    for name, gain in (("a", 1), ("b", 0.3)):
        soundfile.write(tmp_path / f"{name}.wav", gain * hiss, 48_000)
    comparison = compare(tmp_path / "a.wav", [tmp_path / "b.wav"])
    write_page(comparison, tmp_path / "page.html", "opus")
    assert (tmp_path / "page.html").stat().st_size < 0.5e6
    assert "Opus" in data_of(tmp_path / "page.html")["notes"][-1]
    write_page(comparison, tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size > 2e6


@pytest.mark.parametrize(("codec", "hops"), [("flac", 1), ("opus", 2)])
def test_pictures_are_packed_without_loss(codec, hops: int, tmp_path: Path, noisy_path: Path):
    comparison = compare(noisy_path, [noisy_path])
    write_page(comparison, tmp_path / "page.html", codec)
    data = data_of(tmp_path / "page.html")
    assert data["columnHops"] == hops
    rows_db = comparison.tracks[1].analysis.rows_db
    whole = len(rows_db) // hops
    expected = rows_db[: whole * hops].reshape(whole, hops, -1).mean(axis=1)
    packed = zlib.decompress(base64.b64decode(data["tracks"][1]["spectrum"]))
    steps = np.frombuffer(packed, np.uint8).reshape(-1, data["rows"])
    columns = data["floorDb"] + STEP_DB * np.cumsum(steps, axis=0, dtype=np.uint8)
    assert len(columns) == -(-len(rows_db) // hops)
    assert np.abs(columns[:whole] - expected).max() <= STEP_DB / 2 + 1e-3
