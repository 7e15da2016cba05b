"""`--preset`: names for settings, the same in every command, and several on one page."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.pages import data_of
from typer.testing import CliRunner

from gtcrn_cli import enhance
from gtcrn_cli.cli import app
from gtcrn_cli.cli.options import PRESETS_HELP, PresetChoice
from gtcrn_cli.enhancement.presets import PRESETS

NAMES = [choice.value for choice in PresetChoice]


def run(*words: str | Path, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == code, result.output
    return result.output


def test_every_preset_can_be_chosen_and_is_described():
    assert list(PRESETS) == NAMES
    for name, preset in PRESETS.items():
        assert f"{name}: " in PRESETS_HELP
        assert name == "full" or f"{name}: {preset.options}" in PRESETS_HELP


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_the_options_that_it_stands_for(name: str, noisy_path: Path, tmp_path: Path):
    run("denoise", noisy_path, tmp_path / "a.wav", "--preset", name)
    run("denoise", noisy_path, tmp_path / "b.wav", *shlex.split(PRESETS[name].options))
    a, b = (soundfile.read(tmp_path / f"{which}.wav")[0] for which in "ab")
    assert np.array_equal(a, b)


@pytest.mark.parametrize("name, least, most", [("gentle", 9, 12.5), ("asr", 5, 6.5)])
def test_a_part_of_the_noise_stays(name: str, least: float, most: float, tmp_path: Path):
    hiss = 0.05 * np.random.default_rng(0).standard_normal(48_000)
    soundfile.write(tmp_path / "hiss.wav", hiss, 16_000, "FLOAT")
    run("denoise", tmp_path / "hiss.wav", tmp_path / "a.wav", "--preset", name)
    removed_db = 20 * np.log10(hiss.std() / soundfile.read(tmp_path / "a.wav")[0].std())
    assert least < removed_db < most


def test_what_the_readme_says_of_speech_and_of_music(clean: np.ndarray):
    """Clean speech stays within 0.2 dB; a held chord is noise to a network for speech."""
    time_s = np.arange(5 * 16_000)[:, None] / 16_000
    tones = [np.sin(2 * np.pi * hz * n * time_s) / n for hz in (262, 330, 392) for n in range(1, 9)]
    chord = 0.05 * np.sum(tones, axis=0, dtype=np.float32)

    def removed_db(samples: np.ndarray, preset: str) -> float:
        enhanced = enhance(samples, 16_000, settings=PRESETS[preset].settings)
        loud = slice(16_000, None)
        return 20 * np.log10(samples[loud].std() / enhanced[loud].std())

    for preset in PRESETS:
        assert abs(removed_db(clean, preset)) < 0.2
    assert removed_db(chord, "full") > 30
    assert removed_db(chord, "gentle") == pytest.approx(12, abs=0.5)


@pytest.mark.parametrize("option", ["--strength", "--atten-limit"])
@pytest.mark.parametrize("command", ["denoise", "batch", "compare", "live", "evaluate"])
def test_a_preset_and_a_strength_contradict(command: str, option: str, tmp_path: Path):
    places = {"denoise": ["a", "b"], "batch": ["a", "b"], "live": []}.get(command, ["a"])
    said = run(command, *places, "--preset", "full", option, "1", code=2)
    assert "--preset tells the strength" in re.sub(r"[\s│]+", " ", said)


def test_several_presets_are_tracks_of_one_page(noisy_path: Path, tmp_path: Path):
    target = tmp_path / "page.html"
    run("compare", noisy_path, "-o", target, "--no-dnsmos", "--duration", "2",
        "--preset", "gentle", "--preset", "full", "--preset", "gentle")  # fmt: skip
    data = data_of(target)
    assert [track["name"] for track in data["tracks"]][1:] == [
        "enhanced by gtcrn, gentle",
        "enhanced by gtcrn, full",
    ]
    gentle, full = (track["figures"]["removed"] for track in data["tracks"][1:])
    assert gentle < full
    assert "--atten-limit 12" in data["made"][1] and "strength 1," in data["made"][2]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_the_page_takes_what_denoise_takes(noisy_path: Path, tmp_path: Path):
    """A section of an m4a is that of the recording, to the sample."""
    import subprocess

    coded = tmp_path / "talk.m4a"
    words = ["ffmpeg", "-v", "error", "-i", str(noisy_path), "-c:a", "alac", str(coded)]
    subprocess.run(words, check=True)
    pages = []
    for path in (coded, noisy_path):
        pages.append(tmp_path / f"{path.stem}.html")
        run("compare", path, "-o", pages[-1], "--no-dnsmos", "--start", "1.5", "--duration", "2")
    one, other = (data_of(page)["tracks"] for page in pages)
    assert [track["audio"] for track in one] == [track["audio"] for track in other]
