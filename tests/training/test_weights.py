"""The weights that ship: what they must do to speech, noise and silence that they never heard."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.places import PROJECT
from support.sound import si_sdr_db

import gtcrn_cli
from gtcrn_cli.enhancement.engines import Engine, load_engine
from gtcrn_cli.evaluation.recordings import read_mono
from gtcrn_cli.network.checkpoint import Checkpoint
from gtcrn_cli.training.clips import list_clips, rehearsal
from gtcrn_cli.training.corpora import load_corpus
from gtcrn_cli.training.effects import active_level_db, at_level, db_to_gain

RATE = 16_000


@pytest.fixture(scope="module")
def engine(shipped: Checkpoint) -> Engine:
    """The default model."""
    return load_engine(shipped, "native")


@pytest.fixture(scope="module")
def studio() -> list[np.ndarray]:
    """Five recordings without any noise of their own, at -23 dBFS."""
    clips = [read_mono(path) for path in sorted((PROJECT / "tests" / "data").glob("*.flac"))]
    return [clip * db_to_gain(-23 - active_level_db(clip)) for clip in clips]


def held_out(kind: str, cache: Path) -> list[np.ndarray]:
    """The validation clips that come with the package, 4 to 5 s each."""
    corpus = load_corpus([c for c in list_clips(rehearsal(kind), kind) if c.valid], cache, str)
    return [corpus.clip(number) for number in range(len(corpus))]


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    """Six speakers, at -23 dBFS."""
    clips = held_out("speech", tmp_path_factory.mktemp("cache"))
    return [clip * db_to_gain(-23 - active_level_db(clip)) for clip in clips]


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    """Nine kinds of environment, at -30 dBFS."""
    return [at_level(clip, -30) for clip in held_out("noise", tmp_path_factory.mktemp("cache"))]


def enhance(engine: Engine, samples: np.ndarray) -> np.ndarray:
    """A whole signal at the network's rate."""
    return gtcrn_cli.enhance(samples, RATE, engine)


def level_db(samples: np.ndarray) -> float:
    """Root mean square."""
    return float(10 * np.log10(np.mean(samples.astype(float) ** 2) + 1e-20))


def test_clean_speech_passes(engine: Engine, studio: list[np.ndarray]):
    ratios = [si_sdr_db(enhance(engine, clip), clip) for clip in studio]
    assert len(ratios) == 5 and np.mean(ratios) >= 25 and min(ratios) >= 20


def test_clean_speech_sounds_unchanged(engine: Engine, studio: list[np.ndarray]):
    pesq = pytest.importorskip("pesq", reason="the extra 'evaluate' is not installed")
    scores = [pesq.pesq(RATE, clip, enhance(engine, clip), "wb") for clip in studio]
    assert np.mean(scores) >= 4.2


def test_quiet_speech_is_kept(engine: Engine, speech: list[np.ndarray]):
    """At -45 dBFS active speech loses at most 1 dB more than at -20 dBFS."""
    lost = {}
    for target_db in (-20, -45):
        gain = db_to_gain(target_db + 23)
        lost[target_db] = np.mean([
            active_level_db(clip * gain) - active_level_db(enhance(engine, clip * gain))
            for clip in speech
        ])  # fmt: skip
    assert lost[-45] - lost[-20] <= 1


def test_noise_alone_goes(engine: Engine, noise: list[np.ndarray]):
    """After half a second in which to recognise it."""
    half = RATE // 2
    drops = [level_db(clip[half:]) - level_db(enhance(engine, clip)[half:]) for clip in noise]
    assert np.mean(drops) >= 25


def test_silence_stays_silent(engine: Engine):
    assert np.abs(enhance(engine, np.zeros(RATE))).max() < 1e-5


def noisy_stream(
    speech: list[np.ndarray], noise: list[np.ndarray], seconds: int, snr_db: float
) -> tuple[np.ndarray, np.ndarray]:
    """Clean and noisy: one speaker, one noise, over and over."""
    clean = np.resize(speech[0], seconds * RATE)
    rain = np.resize(noise[0], seconds * RATE)
    return clean, clean + rain * db_to_gain(active_level_db(clean) - snr_db - level_db(rain))


def test_the_first_second_is_as_good_as_the_tenth(
    engine: Engine, speech: list[np.ndarray], noise: list[np.ndarray]
):
    """The same second of speech and noise, at the start of a stream and ten periods later."""
    early, late = [], []
    for clip, other in zip(speech, noise, strict=False):
        period = len(clip)
        clean, noisy = noisy_stream([clip], [np.resize(other, period)], 11 * period // RATE, 5)
        enhanced = enhance(engine, noisy)
        middle = slice(RATE // 10, RATE)  # what PESQ and ears forgive: the first 100 ms
        early.append(si_sdr_db(enhanced[middle], clean[middle]))
        start = 10 * period
        there = slice(start + middle.start, start + middle.stop)
        late.append(si_sdr_db(enhanced[there], clean[there]))
    assert np.mean(early) >= np.mean(late) - 2


@pytest.mark.slow
def test_half_an_hour_ends_as_it_began(
    engine: Engine, speech: list[np.ndarray], noise: list[np.ndarray]
):
    clean, noisy = noisy_stream(speech, noise, 30 * 60, 5)
    enhanced = enhance(engine, noisy)
    minute = 60 * RATE
    start, end = (
        si_sdr_db(enhanced[part], clean[part])
        for part in (slice(minute), slice(len(clean) - minute, None))
    )
    assert end >= start - 0.5


def test_two_voices_both_stay(engine: Engine, speech: list[np.ndarray]):
    """Neither is taken for noise, and the mixture's level does not pump."""
    both = speech[0][: 4 * RATE] + speech[1][: 4 * RATE]
    enhanced = enhance(engine, both)
    assert si_sdr_db(enhanced, both) >= 15
    blocks = slice(0, len(both) // 1600 * 1600)
    before, after = (np.square(x[blocks]).reshape(-1, 1600).mean(1) for x in (both, enhanced))
    loud = before > before.max() * 1e-2
    change_db = 10 * np.log10(after[loud] / before[loud])
    assert np.std(change_db) <= 1.5


def chords(seconds: int) -> np.ndarray:
    """Music at -26 dBFS: four chords in turn, each struck and dying away."""
    time_s = np.arange(seconds * RATE) / RATE
    notes_hz = ((220, 277, 330), (247, 294, 370), (196, 247, 294), (175, 220, 262))
    music = np.zeros(len(time_s))
    for number in range(int(seconds / 1.25) + 1):
        since_s = time_s - 1.25 * number
        loudness = np.where(since_s > 0, np.minimum(since_s / 0.02, 1) * np.exp(-since_s / 1.2), 0)
        for note_hz in notes_hz[number % 4]:
            for order in range(1, 9):
                music += loudness * np.sin(2 * np.pi * note_hz * order * time_s) / order**1.3
    return at_level(music, -26)


@pytest.mark.slow
def test_music_does_not_come_and_go(engine: Engine):
    """It is removed as a whole, not let through with every chord."""
    music = chords(20)
    before, after = (
        10 * np.log10(np.square(x[RATE:]).reshape(-1, RATE // 10).mean(axis=1) + 1e-9)
        for x in (music, enhance(engine, music))
    )
    change_db = np.clip(after - before, -30, None)
    assert np.quantile(change_db, 0.9) <= -6
    assert np.abs(np.diff(change_db)).mean() <= 4


def test_noise_is_removed_from_the_example(engine: Engine, noisy: np.ndarray, clean: np.ndarray):
    gain = si_sdr_db(enhance(engine, noisy[:, 0]), clean) - si_sdr_db(noisy, clean)
    assert gain >= 5


@pytest.mark.parametrize("sample_rate", [8_000, 44_100, 48_000])
def test_other_rates_gain_as_well(
    engine: Engine, noisy_path: Path, clean: np.ndarray, sample_rate: int
):
    signal = pytest.importorskip("scipy.signal", reason="the extra 'train' is not installed")
    noisy, _ = soundfile.read(noisy_path, dtype="float32")
    converted = [signal.resample_poly(x, sample_rate, RATE) for x in (noisy, clean[:, 0])]
    enhanced = gtcrn_cli.enhance(converted[0], sample_rate, engine)
    assert si_sdr_db(enhanced, converted[1]) - si_sdr_db(*converted) >= 5


SITUATIONS = PROJECT / "tools" / "situations.py"
LEAST = {  # SI-SDR in dB and STOI of the weights of 601 h, less 0.5 dB and 0.01
    "5 dB SNR": (11.4, 0.940),
    "0 dB SNR": (7.8, 0.887),
    "-5 dB SNR": (3.8, 0.804),
    "5 dB SNR, speech at -61 dBFS": (10.4, 0.933),
    "5 dB SNR, speech at -66 dBFS": (9.8, 0.930),
    "a reply 25 dB softer than the first voice": (8.9, 0.942),
    "a reply 30 dB softer than the first voice": (7.0, 0.929),
    "whispered": (7.7, 0.889),
    "clipped at 0.15 of the peak": (8.7, 0.894),
}


@pytest.mark.skipif(not SITUATIONS.exists(), reason="the tools are not here")
@pytest.mark.slow
def test_hard_situations_get_no_worse(engine: Engine):
    """The first noise of each recording in `tools/situations.py`, which says what they are."""
    pytest.importorskip("pystoi", reason="the extra 'evaluate' is not installed")
    tool = runpy.run_path(str(SITUATIONS))
    speech, noises = tool["recordings"](None, None)
    assert set(LEAST) == set(tool["SITUATIONS"])
    found = {
        name: tool["scores"](engine, list(tool["examples"](situation, speech, noises, turns=1)))
        for name, situation in tool["SITUATIONS"].items()
    }
    worse = {
        name: (scores, LEAST[name])
        for name, scores in found.items()
        if scores[0] < LEAST[name][0] or scores[1] < LEAST[name][1]
    }
    assert not worse
