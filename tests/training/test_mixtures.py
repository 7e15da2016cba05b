"""Mixtures: reproducible, in range, and with in them what the recipe says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from gtcrn_cli.training.clips import list_clips, rehearsal
from gtcrn_cli.training.corpora import Corpora, load_corpus
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
