"""Corpora: decoded once, as they are now, and drawn as often as they should be."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gtcrn_cli.errors import UserError
from gtcrn_cli.training import corpora
from gtcrn_cli.training.clips import Clip, list_clips, rehearsal
from gtcrn_cli.training.corpora import Corpus, load_corpus, load_joined, load_responses

RATE = 16_000


def test_folders_of_any_rate_and_channels(tmp_path: Path):
    time_s = np.arange(44_100) / 44_100
    tone = 0.3 * np.sin(2 * np.pi * 440 * time_s)
    for speaker in ("anna", "ben", "cara", "dora"):
        (tmp_path / speaker).mkdir()
    soundfile.write(tmp_path / "anna" / "a.flac", np.stack([tone, tone], 1), 44_100)
    slow = 0.3 * np.sin(2 * np.pi * 440 * np.arange(8_000) / 8_000)
    for speaker in ("ben", "cara", "dora"):
        soundfile.write(tmp_path / speaker / "b.wav", slow, 8_000)
    clips = list_clips(tmp_path, "speech")
    assert {c.group for c in clips} == {"anna", "ben", "cara", "dora"}
    assert sum(c.valid for c in clips) == 1  # no speaker on both sides, none of them empty
    corpus = load_corpus(clips, tmp_path / "cache")
    lengths = sorted(corpus.lengths)
    assert lengths == 4 * [16_000]
    for number in range(4):
        spectrum = np.abs(np.fft.rfft(corpus.clip(number)))
        assert np.argmax(spectrum) == 440


def test_an_index_that_holds_nothing_out_is_said(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE), RATE)
    index = tmp_path / "index.tsv"
    columns = ("file", "start", "samples", "source", "speaker", "split")
    index.write_text("\t".join(columns) + f"\na.wav\t0\t{RATE}\tmine\tann\ttrain\n")
    held_out = [clip for clip in list_clips(index, "speech") if clip.valid]
    with pytest.raises(UserError, match="'valid'"):
        load_corpus(held_out, tmp_path / "cache")


def test_decoding_happens_once(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", np.full(RATE, 0.25), RATE)
    said: list[str] = []
    for _ in range(2):
        corpus = load_corpus(list_clips(tmp_path, "noise"), tmp_path / "cache", said.append)
        assert corpus.clip(0)[0] == pytest.approx(0.25, abs=1e-4)
    assert len(said) == 1 and "decoding 1 files" in said[0]


def test_two_processes_may_decode_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    soundfile.write(tmp_path / "a.wav", np.full(RATE, 0.25), RATE)

    def load():
        return load_corpus(list_clips(tmp_path, "noise"), tmp_path / "cache", lambda line: None)

    def save_while_another_does_it_all(path: Path, samples: np.ndarray) -> None:
        save(path, samples)
        with pytest.MonkeyPatch.context() as other:
            other.setattr(np, "save", save)
            other.setattr(os, "getpid", lambda: 1)
            load()

    save = np.save
    monkeypatch.setattr(np, "save", save_while_another_does_it_all)
    assert load().clip(0)[0] == pytest.approx(0.25, abs=1e-4)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_unreadable_files_are_left_out_and_named(tmp_path: Path):
    soundfile.write(tmp_path / "good.wav", np.full(RATE, 0.25), RATE)
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    said: list[str] = []
    corpus = load_corpus(list_clips(tmp_path, "noise"), tmp_path / "cache", said.append)
    assert len(corpus) == 2 and any("bad.wav" in line for line in said)
    for name in ("bad.wav", "missing.wav", f"{400 * 'long'}.wav"):
        bad = Clip(tmp_path / name, 0, -1, "", "bad", valid=False)
        with pytest.raises(UserError, match="can be read as audio"):
            load_corpus([bad], tmp_path / "cache2", said.append)


def test_own_clips_are_drawn_as_often_as_asked(tmp_path: Path):
    soundfile.write(tmp_path / "own.wav", np.full(RATE, 0.25), RATE)
    own = list_clips(tmp_path, "noise")[:1]
    original = list_clips(rehearsal("noise"), "noise")
    corpus = load_joined(own, original, 0.5, print)
    random = np.random.default_rng(0)
    drawn = [corpus.names[corpus.sources[corpus.draw(random)]] for _ in range(1000)]
    assert 0.44 < np.mean([name.startswith("own/") for name in drawn]) < 0.56


def corpus_of(seconds: dict[str, dict[str, float]], cache: Path) -> Corpus:
    """A corpus of nothing to hear: sources, their speakers, and how much there is of each."""
    rows = [
        (f"{source}-{speaker}.wav", source, speaker, length)
        for source, speakers in seconds.items()
        for speaker, length in speakers.items()
    ]
    for name, _, _, length in rows:
        soundfile.write(cache / name, np.full(int(length * RATE), 0.1), RATE)
    clips = [
        Clip(cache / name, 0, -1, source, f"{source}/{speaker}", valid=False)
        for name, source, speaker, _ in rows
    ]
    return load_corpus(clips, cache / "cache", str)


def test_no_voice_and_so_no_small_collection_dominates(tmp_path: Path):
    many = {f"s{number}": 0.5 for number in range(40)}
    corpus = corpus_of({"one": {"her": 20.0}, "many": many}, tmp_path)
    levelled = corpus.levelled()
    random = np.random.default_rng(0)
    drawn = [levelled.names[levelled.sources[levelled.draw(random)]] for _ in range(2000)]
    fair = 4 / 41
    assert np.mean([name == "one" for name in drawn]) == pytest.approx(fair, abs=0.02)
    share = levelled.odds / levelled.odds.sum()
    assert share.max() == pytest.approx(fair) and corpus.odds.max() / corpus.odds.sum() > 0.4


def test_few_voices_are_drawn_as_before(tmp_path: Path):
    corpus = corpus_of({"one": {"her": 2.0, "him": 0.5}, "two": {"them": 0.5}}, tmp_path)
    np.testing.assert_allclose(corpus.levelled().odds, corpus.odds)


def clip_of(path: Path, samples: np.ndarray) -> Clip:
    soundfile.write(path, samples, RATE, "FLOAT")
    return Clip(path, 0, -1, "", path.stem, valid=False)


def test_what_is_left_out_is_said_every_time_and_tried_again(tmp_path: Path):
    good, bad = (clip_of(tmp_path / f"{n}.wav", np.full(RATE, 0.1)) for n in ("good", "bad"))
    sound, said = bad.path.read_bytes(), []
    bad.path.write_bytes(b"no sound")
    for _ in range(2):
        said.clear()
        assert len(load_corpus([good, bad], tmp_path / "cache", said.append)) == 1
        assert any("left out" in line and "bad.wav" in line for line in said)
    bad.path.write_bytes(sound)
    assert len(load_corpus([good, bad], tmp_path / "cache", said.append)) == 2


def test_a_recording_that_breaks_off_is_said_to_every_time(tmp_path: Path):
    clip = clip_of(tmp_path / "a.wav", np.full(RATE, 0.1))
    clip.path.write_bytes(clip.path.read_bytes()[:-100])
    for _ in range(2):
        said: list[str] = []
        assert len(load_corpus([clip], tmp_path / "cache", said.append)) == 1
        assert any("a.wav" in line and "is taken for all of it" in line for line in said)


def test_a_file_that_may_be_read_now_is_decoded_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    clip = clip_of(tmp_path / "a.wav", np.full(RATE, 0.1))
    for readable in (False, True):
        monkeypatch.setattr(corpora, "access", lambda path, mode, readable=readable: readable)
        load_corpus([clip], tmp_path / "cache", str)
    assert len(list((tmp_path / "cache").glob("*.npz"))) == 2


def test_what_is_no_number_is_silence_and_silence_is_not_drawn(tmp_path: Path):
    odd = np.full(RATE, 0.5)
    odd[100:110], odd[200] = np.nan, np.inf
    said: list[str] = []
    clips = [
        clip_of(tmp_path / "odd.wav", odd),
        clip_of(tmp_path / "silent.wav", np.zeros(RATE)),
        clip_of(tmp_path / "nothing.wav", np.full(RATE, np.nan)),
    ]
    corpus = load_corpus(clips, tmp_path / "cache", said.append)
    assert len(corpus) == 1 and sum("holds no sound" in line for line in said) == 2
    heard = corpus.clip(0)
    assert not heard[100:110].any() and heard[200] == 0
    assert heard[300] == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("peak", [1e-3, 0.01, 0.1, 0.9])
def test_faint_clips_are_kept_as_exactly_as_loud_ones(peak: float, tmp_path: Path):
    samples = peak * np.sin(np.arange(RATE) / 3)
    heard = load_corpus([clip_of(tmp_path / "a.wav", samples)], tmp_path / "c", str).clip(0)
    noise = np.mean((heard * (32768 / 32767) - samples) ** 2)
    assert 10 * np.log10(np.mean(samples**2) / noise) > 70


@pytest.mark.parametrize("ending", [".npz", ".npy"])
@pytest.mark.parametrize("left", [None, 0, 200])
def test_what_was_kept_and_is_damaged_is_decoded_again(
    ending: str, left: int | None, tmp_path: Path
):
    clip = clip_of(tmp_path / "a.wav", np.full(RATE, 0.1))
    load_corpus([clip], tmp_path / "cache", str)
    (kept,) = (tmp_path / "cache").glob(f"*{ending}")
    content = kept.read_bytes()
    kept.unlink()
    if left is not None:
        kept.write_bytes(content[:left])
    assert load_corpus([clip], tmp_path / "cache", str).clip(0)[-1] == pytest.approx(0.1, abs=1e-4)


def test_another_process_maps_the_samples(tmp_path: Path):
    corpus = load_corpus(
        [clip_of(tmp_path / "a.wav", np.full(10 * RATE, 0.1))], tmp_path / "cache", str
    )
    packed = pickle.dumps(corpus)
    assert len(packed) < 5_000
    again = pickle.loads(packed)
    assert isinstance(again.samples, np.memmap) and again.fingerprint == corpus.fingerprint
    np.testing.assert_array_equal(again.clip(0), corpus.clip(0))


def test_what_nobody_used_for_long_is_removed_and_nothing_else(tmp_path: Path):
    cache = tmp_path / "cache"
    clip = clip_of(tmp_path / "a.wav", np.full(RATE, 0.1))
    load_corpus([clip], cache, str)
    theirs = cache / "notes.npz"
    old = [cache / f"{0:016x}.npz", cache / f"{0:016x}.npy"]
    for path in (theirs, *old, *cache.iterdir()):
        path.touch()
        os.utime(path, (0, 0))
    said: list[str] = []
    load_corpus([clip], cache, said.append)  # too long ago: decoded again
    assert not any(path.exists() for path in old) and theirs.exists()
    assert any("removed 4 files" in line for line in said)
    for path in cache.iterdir():
        os.utime(path, (path.stat().st_mtime - 80 * 24 * 3600,) * 2)
    load_corpus([clip], cache, str)
    for path in set(cache.iterdir()) - {theirs}:  # used, and so young again
        assert path.stat().st_mtime > clip.path.stat().st_mtime - 60


def test_responses_that_cannot_be_read_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    response = np.zeros(100)
    response[3], response[50], response[60] = 0.5, 0.1, np.nan
    clip_of(tmp_path / "room.wav", response)
    (tmp_path / "._room.wav").write_bytes(b"no sound")
    (loaded,) = load_responses(tmp_path)
    assert np.isfinite(loaded).all() and loaded[3] == 1 and loaded[60] == 0
    assert caplog.text.count("._room.wav") == 1
    (tmp_path / "room.wav").unlink()
    with pytest.raises(UserError, match="none of the 1 files"):
        load_responses(tmp_path)
