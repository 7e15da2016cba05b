"""Mixtures: reproducible, in range, and with in them what the recipe says."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from gtcrn_cli.errors import UserError
from gtcrn_cli.training.corpora import (
    Clip,
    Corpora,
    Corpus,
    list_all_clips,
    list_clips,
    load_corpus,
    load_joined,
    rehearsal,
)
from gtcrn_cli.training.effects import (
    active_level_db,
    coded,
    early_part,
    made_room,
    reverberate,
    whispered,
)
from gtcrn_cli.training.mixtures import SPEEDS, at_speed, made_noise, mixture
from gtcrn_cli.training.recipe import Recipe

RATE = 16_000
SECOND = RATE


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Corpora:
    """What comes with the package, decoded."""
    cache = tmp_path_factory.mktemp("cache")
    speech, noise = (
        load_corpus([c for c in list_clips(rehearsal(kind), kind) if not c.valid], cache, print)
        for kind in ("speech", "noise")
    )
    return Corpora(speech, noise)


NOTHING = Recipe().only()


@given(seed=st.integers(0, 10_000), index=st.integers(0, 10_000))
@settings(max_examples=20)
def test_an_example_depends_on_its_seed_alone(corpora: Corpora, seed: int, index: int):
    first = mixture(corpora, Recipe(), SECOND, (seed, index))
    again = mixture(corpora, Recipe(), SECOND, (seed, index))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == np.float32 and one.shape == (SECOND,)
        assert np.isfinite(one).all() and np.abs(one).max() <= 1.01
    assert not np.array_equal(first[0], mixture(corpora, Recipe(), SECOND, (seed, index + 1))[0])


@pytest.mark.parametrize("snr_db", [-5.0, 10.0])
def test_the_noise_is_as_loud_as_asked(corpora: Corpora, snr_db: float):
    recipe = replace(NOTHING, snr_db=(snr_db, snr_db), level_db=(-30, -30))
    for index in range(5):
        noisy, clean = mixture(corpora, recipe, 2 * SECOND, (1, index))
        noise_db = 10 * np.log10(np.mean((noisy - clean) ** 2))
        assert active_level_db(clean) - noise_db == pytest.approx(snr_db, abs=0.1)


@pytest.mark.parametrize("level_db", [-50.0, -20.0])
def test_speech_is_at_the_level_asked(corpora: Corpora, level_db: float):
    recipe = replace(NOTHING, level_db=(level_db, level_db), snr_db=(20, 20))
    _, clean = mixture(corpora, recipe, 2 * SECOND, (1, 0))
    assert active_level_db(clean) == pytest.approx(level_db, abs=0.1)


def test_noise_only_has_a_silent_target(corpora: Corpora):
    noisy, clean = mixture(corpora, replace(NOTHING, noise_only=1.0), SECOND, (1, 0))
    assert not clean.any() and noisy.any()


def test_what_is_nearly_clean_is_its_own_target(corpora: Corpora):
    recipe = replace(NOTHING, nearly_clean=1.0, nearly_clean_db=(40, 40))
    for index in range(6):
        noisy, clean = mixture(corpora, recipe, SECOND, (1, index))
        assert np.sum((noisy - clean) ** 2) <= 1e-3 * np.sum(clean**2)


@pytest.mark.parametrize("speed", SPEEDS)
def test_another_speed_is_another_voice(speed: tuple[int, int]):
    tone = np.sin(2 * np.pi * 600 * np.arange(RATE) / RATE).astype(np.float32)
    other = at_speed(tone, speed)
    length = speed[0] / speed[1]
    assert len(other) == pytest.approx(RATE * length, abs=1)
    peak_hz = np.abs(np.fft.rfft(other)).argmax() * RATE / len(other)
    assert peak_hz == pytest.approx(600 / length, abs=2)
    assert at_speed(tone, (1, 1)) is tone


def test_plain_examples_are_among_the_others(corpora: Corpora):
    recipe = replace(Recipe(), noise_only=1.0, plain=0.5)
    clean = [mixture(corpora, recipe, SECOND, (1, i))[1] for i in range(40)]
    assert 8 < sum(bool(c.any()) for c in clean) < 32


def test_a_whisper_is_sound_also_where_speech_has_no_high_tones():
    """And where it pauses: rounding there gave what has no root."""
    time_s = np.arange(16_000) / 16_000
    hum = np.sin(2 * np.pi * 125 * time_s) * (time_s < 0.5)
    for seed in range(3):
        whisper = whispered(hum.astype(np.float32), np.random.default_rng(seed))
        assert np.isfinite(whisper).all() and np.abs(whisper).max() > 0.9
        assert np.abs(whisper[10_000:]).max() < 1e-3


def test_every_kind_of_made_noise_sounds():
    for seed in range(30):
        noise = made_noise(SECOND, np.random.default_rng(seed))
        assert noise.shape == (SECOND,) and noise.dtype == np.float32
        assert np.isfinite(noise).all() and np.abs(noise).max() > 1e-4


def test_the_early_part_of_a_room_is_in_time_with_the_whole():
    random = np.random.default_rng(3)
    response = made_room(0.5, random)
    click = np.zeros(SECOND, np.float32)
    click[1000] = 1
    whole, early = reverberate(click, response), reverberate(click, early_part(response))
    assert np.argmax(np.abs(whole)) == np.argmax(np.abs(early)) == 1000
    late = 1000 + RATE * 60 // 1000
    assert np.abs(early[late:]).max() < 1e-6 < np.abs(whole[late:]).max()


@pytest.mark.parametrize("codec", [("OGG", "OPUS"), ("OGG", "VORBIS"), ("WAV", "ULAW")])
def test_codecs_keep_time(corpora: Corpora, codec: tuple[str, str]):
    speech = corpora.speech.clip(0)[: 2 * SECOND] * 0.5
    decoded = coded(speech, *codec)
    lag = np.argmax(np.correlate(decoded, speech[500:-500], "valid")) - 500
    assert decoded.shape == speech.shape and lag == 0


def test_recorded_noise_shorter_than_the_example_fills_it(tmp_path: Path):
    rng = np.random.default_rng(0)
    for kind, seconds in (("speech", 3), ("noise", 0.1)):
        (tmp_path / kind).mkdir()
        for number in range(3):
            samples = 0.5 * rng.uniform(-1, 1, int(seconds * RATE))
            soundfile.write(tmp_path / kind / f"{number}.wav", samples, RATE)
    corpora = Corpora(
        *(load_corpus(list_clips(tmp_path / k, k), tmp_path / "c") for k in ("speech", "noise"))
    )
    heard = 0
    for index in range(10):
        noisy, _ = mixture(corpora, replace(NOTHING, noise_only=1.0), SECOND, (0, index))
        heard += bool(np.abs(noisy).max() > 1e-3)
    assert heard >= 9  # a click may fall beside the example


def test_folders_of_any_rate_and_channels(tmp_path: Path):
    time_s = np.arange(44_100) / 44_100
    tone = 0.3 * np.sin(2 * np.pi * 440 * time_s)
    (tmp_path / "anna").mkdir()
    (tmp_path / "ben").mkdir()
    soundfile.write(tmp_path / "anna" / "a.flac", np.stack([tone, tone], 1), 44_100)
    slow = 0.3 * np.sin(2 * np.pi * 440 * np.arange(8_000) / 8_000)
    soundfile.write(tmp_path / "ben" / "b.wav", slow, 8_000)
    clips = list_clips(tmp_path, "speech")
    assert {c.group for c in clips} == {"anna", "ben"}
    assert sum(c.valid for c in clips) == 1  # no speaker on both sides, none of them empty
    corpus = load_corpus(clips, tmp_path / "cache")
    lengths = sorted(corpus.lengths)
    assert lengths == [16_000, 16_000]
    for number in range(2):
        spectrum = np.abs(np.fft.rfft(corpus.clip(number)))
        assert np.argmax(spectrum) == 440


@pytest.mark.parametrize("kind", ["speech", "noise"])
def test_names_that_are_no_text_are_names_all_the_same(kind: str, tmp_path: Path):
    for number in range(2):
        folder = tmp_path / os.fsdecode(b"caf\xe9%d" % number)
        try:
            folder.mkdir()
        except OSError:
            pytest.skip("this file system takes only names that are text")
        written = tmp_path / "a.wav"
        soundfile.write(written, np.full(RATE, 0.1), RATE)
        written.rename(folder / os.fsdecode(b"\xff.wav"))
    clips = list_clips(tmp_path, kind)
    assert sorted(clip.valid for clip in clips) == [False, True]
    assert load_corpus(clips, tmp_path / "cache").lengths.tolist() == [RATE, RATE]


def test_a_single_recording_is_split_by_time(tmp_path: Path):
    soundfile.write(tmp_path / "hum.wav", np.zeros(10 * RATE), RATE)
    train, valid = list_clips(tmp_path, "noise")
    assert (train.start, train.length, train.valid) == (0, 9 * RATE, False)
    assert (valid.start, valid.length, valid.valid) == (9 * RATE, -1, True)


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
    assert len(corpus) == 1 and any("bad.wav" in line for line in said)
    (tmp_path / "good.wav").unlink()
    with pytest.raises(UserError, match="can be read as audio"):
        load_corpus(list_clips_of_bad(tmp_path), tmp_path / "cache2", said.append)


def list_clips_of_bad(folder: Path):
    """Two unreadable files, so that no single one is split by time."""
    (folder / "worse.wav").write_bytes(b"")
    return list_clips(folder, "noise")


def test_no_speech_is_said(tmp_path: Path):
    with pytest.raises(UserError, match=r"no speech found: there is no .*nowhere"):
        list_clips(tmp_path / "nowhere", "speech")
    with pytest.raises(UserError, match="no speech found: there are no audio files"):
        list_clips(tmp_path, "speech")
    (tmp_path / "index.tsv").write_text("file\tstart\nx\t1\n")
    with pytest.raises(UserError, match="not an index of clips"):
        list_clips(tmp_path / "index.tsv", "speech")


def test_own_clips_are_drawn_as_often_as_asked(tmp_path: Path):
    soundfile.write(tmp_path / "own.wav", np.full(RATE, 0.25), RATE)
    own = list_clips(tmp_path, "noise")[:1]
    original = list_clips(rehearsal("noise"), "noise")
    corpus = load_joined(own, original, 0.5, print)
    random = np.random.default_rng(0)
    drawn = [corpus.names[corpus.sources[corpus.draw(random)]] for _ in range(1000)]
    assert 0.44 < np.mean([name.startswith("own/") for name in drawn]) < 0.56


def corpus_of(seconds: dict[str, dict[str, float]], cache: Path) -> Corpus:
    """A corpus of silence: sources, their speakers, and how much there is of each."""
    rows = [
        (f"{source}-{speaker}.wav", source, speaker, length)
        for source, speakers in seconds.items()
        for speaker, length in speakers.items()
    ]
    for name, _, _, length in rows:
        soundfile.write(cache / name, np.zeros(int(length * RATE)), RATE)
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


def test_several_folders_are_one_corpus(tmp_path: Path):
    """Voices of the same name in two folders stay two; indexes name theirs fully."""
    for folder in ("a", "b"):
        for speaker in ("anna", "ben"):
            (tmp_path / folder / speaker).mkdir(parents=True)
            soundfile.write(tmp_path / folder / speaker / "x.wav", np.full(RATE, 0.1), RATE)
    clips = list_all_clips([tmp_path / "a", tmp_path / "b"], "speech")
    assert len({clip.group for clip in clips}) == 4
    assert sum(clip.valid for clip in clips) == 2
    assert list_all_clips([rehearsal("speech")], "speech") == list_clips(
        rehearsal("speech"), "speech"
    )


def test_one_file_will_do_and_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    noise = np.random.default_rng(0).standard_normal(2 * RATE) * 0.1
    soundfile.write(tmp_path / "fan.wav", noise, RATE)
    train, valid = list_clips(tmp_path / "fan.wav", "noise")
    assert (train.valid, valid.valid) == (False, True)
    assert train.length == valid.start == pytest.approx(0.9 * 2 * RATE, abs=1)
    assert "one file" in caplog.text
    with pytest.raises(UserError, match="no noise found: there is no"):
        list_clips(tmp_path / "missing", "noise")
    with pytest.raises(UserError, match="https://host/noise is a URL"):
        list_clips(Path("https://host/noise"), "noise")


def test_what_is_held_out_can_be_read_and_holds_sound(tmp_path: Path):
    """Whatever the names: of files that cannot validate anything, none is chosen for it."""
    for number in range(8):
        (tmp_path / f"text-{number}.wav").write_bytes(b"This is no sound.")
        soundfile.write(tmp_path / f"silent-{number}.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "fan.wav", np.full(RATE, 0.1), RATE)
    soundfile.write(tmp_path / "rain.wav", np.full(RATE, 0.1), RATE)
    held_out = {clip.path.name for clip in list_clips(tmp_path, "noise") if clip.valid}
    assert held_out == {"fan.wav", "rain.wav"}
