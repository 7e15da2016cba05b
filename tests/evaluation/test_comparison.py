"""What is measured and drawn of sounds that are compared."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from support.sound import si_sdr_db

from gtcrn_cli.enhancement.engines import load_engine
from gtcrn_cli.enhancement.enhancer import Settings
from gtcrn_cli.enhancement.stft import STFT
from gtcrn_cli.errors import UserError
from gtcrn_cli.evaluation.analysis import ROWS, Analysis, analyze_sound, mel
from gtcrn_cli.evaluation.comparison import Comparison, Track, compare
from gtcrn_cli.evaluation.sounds import Enhancing, Section, Sound, distinct_names
from gtcrn_cli.network.checkpoint import Checkpoint


def sine(hz: float, sample_rate: int, seconds: float = 2, channels: int = 1) -> np.ndarray:
    wave = np.sin(2 * np.pi * hz * np.arange(round(seconds * sample_rate)) / sample_rate)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


def analyze(samples: np.ndarray, sample_rate: int = 16_000):
    return analyze_sound(Sound(Path("x"), "noisy", samples, sample_rate), sample_rate / 2)


def write(path: Path, samples: np.ndarray, sample_rate: int = 16_000, subtype="FLOAT") -> Path:
    soundfile.write(path, samples, sample_rate, subtype=subtype)
    return path


@pytest.mark.parametrize("sample_rate", [16_000, 44_100, 48_000, 96_000])
def test_loudness_is_that_of_the_standard(sample_rate: int):
    """BS.1770: 997 Hz at full scale in one channel is -3.01 LUFS."""
    assert analyze(sine(997, sample_rate, 5), sample_rate).loudness == pytest.approx(-3.01, abs=0.1)


def test_loudness_adds_channels_weighs_frequencies_and_skips_pauses():
    stereo = analyze(sine(997, 48_000, 5, channels=2), 48_000).loudness
    assert stereo == pytest.approx(0.0, abs=0.1)
    assert analyze(sine(50, 48_000, 5), 48_000).loudness < -6
    assert analyze(sine(4000, 48_000, 5), 48_000).loudness > -1
    with_pauses = np.concatenate([sine(997, 16_000), np.zeros((80_000, 1)), sine(997, 16_000)])
    assert analyze(with_pauses.astype(np.float32)).loudness == pytest.approx(-3.2, abs=0.3)


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 44_100, 48_000])
def test_a_sine_is_seen_where_and_as_loud_as_it_is(sample_rate: int):
    analysis = analyze(sine(1000, sample_rate), sample_rate)
    rows = analysis.rows_db[10:-10].mean(axis=0)
    expected = mel(np.array(1000)) / mel(np.array(sample_rate / 2)) * ROWS
    assert abs(np.argmax(rows) + 0.5 - expected) <= 1.5
    assert -3 < rows.max() < 1
    assert np.median(rows) < -60
    assert analysis.level_db[10:-10] == pytest.approx(-3.01, abs=0.1)


def test_the_time_axis_holds():
    """A click is seen at its instant, at any sample rate."""
    for sample_rate in (16_000, 44_100):
        samples = np.zeros((3 * sample_rate, 1), np.float32)
        samples[2 * sample_rate] = 1
        analysis = analyze(samples, sample_rate)
        seen_s = np.argmax(analysis.level_db) * analysis.hop_s
        assert seen_s == pytest.approx(2, abs=0.017)


def test_the_gain_of_files_is_estimated_from_their_spectra(tmp_path: Path, noisy):
    loud = write(tmp_path / "loud.wav", noisy)
    soft = write(tmp_path / "soft.wav", noisy / 10)
    comparison = compare(loud, [soft])
    track = comparison.tracks[1]
    assert track.gain_db.shape == track.analysis.rows_db.shape
    audible = comparison.tracks[0].analysis.rows_db > -90
    assert track.gain_db[audible] == pytest.approx(-20, abs=0.2)
    assert track.removed_db == pytest.approx(20, abs=0.2)
    assert track.figures["removed"] == pytest.approx(20, abs=0.1)
    assert not comparison.gain_is_mask


def test_files_of_other_rates_and_lengths_are_comparable(tmp_path: Path):
    noisy = write(tmp_path / "a.wav", sine(1000, 16_000, 3))
    enhanced = write(tmp_path / "b.wav", sine(1000, 44_100, 4, channels=2) / 2, 44_100)
    comparison = compare(noisy, [enhanced])
    track = comparison.tracks[1]
    assert track.removed_db[20:-20] == pytest.approx(6.02, abs=0.2)
    assert len(track.removed_db) * track.analysis.hop_s == pytest.approx(3, abs=0.05)
    assert comparison.highest_hz == 22_050
    assert comparison.duration_s == 4
    assert "not equally long" in comparison.notes[0]


def test_the_gain_of_the_network_is_its_mask(noisy_path: Path, noisy, shipped: Checkpoint):
    engine = load_engine(shipped)
    comparison = compare(noisy_path, Enhancing(engine, Settings(), "now"))
    assert comparison.gain_is_mask
    gain_db = comparison.tracks[1].gain_db
    spectrum, _ = STFT(16_000).analyze(noisy, None)
    mask, _ = engine.mask(spectrum, None)
    quiet = 20 * np.log10(np.abs(mask[0]).mean(axis=1))
    assert np.corrcoef(gain_db.mean(axis=1)[: len(quiet)], quiet)[0, 1] > 0.9
    # The highest row is a mean over the last bins: it lies between the least and the most of them.
    top_db = 20 * np.log10(np.abs(mask[0, :, 252:]))
    row_db = gain_db[: len(top_db), -1]
    assert (row_db >= top_db.min(axis=1) - 0.1).all() and (row_db <= top_db.max(axis=1) + 0.1).all()


def test_at_strength_0_the_gain_is_none(noisy_path: Path, shipped: Checkpoint):
    how = Enhancing(load_engine(shipped), Settings(strength=0), "off")
    track = compare(noisy_path, how).tracks[1]
    assert track.gain_db == pytest.approx(0, abs=0.01)
    assert track.removed_db == pytest.approx(0, abs=0.01)


def test_above_8_khz_the_gain_is_estimated(tmp_path: Path, shipped: Checkpoint):
    hiss = np.random.default_rng(0).normal(0, 0.05, (96_000, 1)).astype(np.float32)
    path = write(tmp_path / "hiss.wav", hiss, 48_000)
    for high_band, expected in (("keep", 0), ("mute", -60)):
        how = Enhancing(load_engine(shipped), Settings(high_band=high_band), "now")
        above = compare(path, how).tracks[1].gain_db[5:-5, -30:]
        assert np.median(above) == pytest.approx(expected, abs=0.5 if expected == 0 else 40)


def test_a_section_is_read_from_where_it_begins(tmp_path: Path, noisy):
    path = write(tmp_path / "x.wav", noisy)
    comparison = compare(path, [path], section=Section(1.5, 2))
    sound = comparison.tracks[0].sound
    assert np.array_equal(sound.samples, noisy[24_000:56_000])
    assert comparison.start_s == 1.5
    assert comparison.notes == []


def test_of_a_long_file_the_beginning_is_shown_and_said(tmp_path: Path):
    path = write(tmp_path / "long.flac", np.zeros((150 * 8000, 1)), 8000, "PCM_16")
    comparison = compare(path, [])
    assert comparison.duration_s == 120
    assert comparison.notes == [
        "long.flac: 120 of 150 s shown; --start and --duration choose another part or a longer one"
    ]
    assert compare(path, [], section=Section(0, 150)).duration_s == 150


def test_a_section_without_sound_is_refused(noisy_path: Path):
    with pytest.raises(UserError, match=r"6\.50 s long: there is nothing to show"):
        compare(noisy_path, [], section=Section(60))
    with pytest.raises(UserError, match="a page takes"):
        Section(0, 1e6)
    with pytest.raises(UserError, match="before the beginning"):
        Section(-1)


def test_what_came_of_a_file_that_is_cut_off_is_shown(tmp_path: Path, noisy):
    path = tmp_path / "cut.flac"
    soundfile.write(path, np.tile(noisy, (3, 1)), 16_000)
    path.write_bytes(path.read_bytes()[:-100_000])
    comparison = compare(path, [])
    assert 3 < comparison.duration_s < 19
    assert "cut.flac" in comparison.notes[0]


def test_many_channels_and_no_numbers_are_shown_somehow(tmp_path: Path):
    samples = np.ones((16_000, 6), np.float32) * np.arange(6) / 10
    samples[100] = np.nan
    comparison = compare(write(tmp_path / "six.wav", samples), [])
    assert comparison.tracks[0].sound.samples.shape == (16_000, 1)
    assert comparison.tracks[0].sound.peak == pytest.approx(0.25)
    assert "6 channels are mixed to one" in comparison.notes[0]


def test_files_of_the_same_name_keep_their_folders(tmp_path: Path, noisy_path: Path, noisy):
    other = write(tmp_path / "noisy.wav", noisy)
    names = [track.name for track in compare(noisy_path, [other]).tracks]
    assert [Path("/", name).name for name in names] == ["noisy.wav", "noisy.wav"]
    assert all(
        str(path).endswith(name) for path, name in zip((noisy_path, other), names, strict=True)
    )
    assert names[0] != names[1]


def test_a_name_that_is_no_text_becomes_text():
    odd = Path(os.fsdecode(b"caf\xe9.wav"))  # Latin-1, from an old archive
    assert distinct_names([odd, Path("b.wav")]) == ["caf\ufffd.wav", "b.wav"]
    alike = [Path("/home/me/case/raw/a.wav"), Path("/home/me/case/clean/a.wav"), Path("/x/b.wav")]
    assert distinct_names(alike) == ["raw/a.wav", "clean/a.wav", "b.wav"]
    assert distinct_names([alike[0], alike[0]]) == ["a.wav", "a.wav"]


def test_more_sounds_than_keys_are_refused(noisy_path: Path):
    with pytest.raises(UserError, match="10 sounds"):
        compare(noisy_path, [noisy_path] * 9, section=Section(0, 0.1))


def test_scores_against_the_clean_original(tmp_path: Path, noisy, clean, noisy_path: Path):
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    reference = write(tmp_path / "clean.wav", clean)
    better = write(tmp_path / "better.wav", 0.5 * clean + 0.1 * noisy)
    section = Section(0, 2.5)
    noisy_track, better_track, clean_track = compare(
        noisy_path, [better], reference, section
    ).tracks
    assert noisy_track.figures["si_sdr"] == pytest.approx(
        si_sdr_db(noisy[:40_000], clean[:40_000]), abs=0.01
    )
    for name in ("si_sdr", "pesq", "stoi"):
        assert better_track.figures[name] > noisy_track.figures[name]
        assert name not in clean_track.figures


def test_scores_do_not_depend_on_the_sample_rate(tmp_path: Path, noisy, clean):
    """The same sound at twice the rate, by a sum of its own sines."""

    def doubled(samples: np.ndarray) -> np.ndarray:
        return 2 * np.fft.irfft(np.fft.rfft(samples[:, 0]), 2 * len(samples))

    names = (("n.wav", noisy), ("c.wav", clean))
    slow = [write(tmp_path / name, x) for name, x in names]
    fast = [write(tmp_path / f"32{name}", doubled(x), 32_000) for name, x in names]
    at_16, at_32 = (compare(n, [], c).tracks[0].figures for n, c in (slow, fast))
    assert at_32["si_sdr"] == pytest.approx(at_16["si_sdr"], abs=0.05)
    assert at_32["loudness"] == pytest.approx(at_16["loudness"], abs=0.1)


def test_dnsmos_gets_what_it_wants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def run(samples: np.ndarray, sr: int) -> dict[str, float]:
        asked.append((len(samples), sr, float(np.abs(samples).max())))
        return {"ovrl_mos": 3.1, "sig_mos": 3.2, "bak_mos": 3.3, "p808_mos": 3.4}

    stand_in = SimpleNamespace(dnsmos=SimpleNamespace(run=run))
    monkeypatch.setitem(sys.modules, "speechmos", stand_in)
    path = write(tmp_path / "x.wav", 2 * sine(400, 48_000, 35, channels=2), 48_000)
    figures = compare(path, [], dnsmos=True).tracks[0].figures
    assert asked == [(30 * 16_000, 16_000, 1.0)]
    assert [figures[k] for k in ("dnsmos", "dnsmos_speech", "dnsmos_noise")] == [3.1, 3.2, 3.3]
    assert "dnsmos" not in compare(path, []).tracks[0].figures


def test_without_the_packages_of_scores_the_rest_is_there(
    tmp_path: Path, noisy_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for package in ("pesq", "pystoi", "speechmos"):
        monkeypatch.setitem(sys.modules, package, None)
    clean = noisy_path.with_name("clean.wav")
    figures = compare(noisy_path, [], clean, dnsmos=True).tracks[0].figures
    assert figures["si_sdr"] == pytest.approx(5, abs=0.1)
    assert not {"pesq", "stoi", "dnsmos"} & set(figures)


def test_silence_has_no_scores_and_no_warnings(tmp_path: Path, noisy_path: Path, recwarn):
    silent = write(tmp_path / "silent.wav", np.zeros((40_000, 1)))
    tracks = compare(silent, [noisy_path], silent).tracks
    assert "si_sdr" not in tracks[0].figures
    assert tracks[0].figures["level"] == tracks[0].analysis.loudness == -120
    assert list(recwarn) == []


loudness_and_crest = st.tuples(st.floats(-70, 10), st.floats(0, 30))


@given(st.lists(loudness_and_crest, min_size=1, max_size=5), st.booleans())
def test_matched_tracks_are_equally_loud_and_do_not_clip(sounds, silence: bool):
    def track(loudness: float, peak: float) -> Track:
        sound = Sound(Path("x"), "enhanced", np.full((1, 1), peak, np.float32), 16_000)
        nothing = np.zeros(0, np.float32)
        return Track("x", sound, Analysis(0.016, nothing, nothing, loudness), {})

    tracks = [track(loudness, 10 ** ((loudness + crest) / 20)) for loudness, crest in sounds]
    silent = [track(-120, 0.0)] if silence else []
    gains = Comparison(tracks + silent, 8000, 0, False).matching_gains()
    matched = [t.analysis.loudness + 20 * np.log10(g) for t, g in zip(tracks, gains, strict=False)]
    assert max(matched) - min(matched) < 1e-6
    peaks = [t.sound.peak * g for t, g in zip(tracks, gains, strict=False)]
    assert max(peaks) <= 1 + 1e-5
    loudest = max(loudness for loudness, _ in sounds)
    assert max(peaks) == pytest.approx(1, abs=1e-3) or matched[0] == pytest.approx(loudest)
