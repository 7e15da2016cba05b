"""`gtcrn compare`: what it writes, and what it refuses."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import soundfile
from support.pages import data_of, picture_size
from typer.testing import CliRunner

from gtcrn_cli.cli import app
from gtcrn_cli.errors import UserError


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`gtcrn compare` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Any:
        words = ["compare", "--no-dnsmos", *map(str, arguments)]
        result = CliRunner().invoke(app, words)
        error = result.exception if isinstance(result.exception, UserError) else ""
        return SimpleNamespace(code=result.exit_code, text=result.output + str(error))

    return run


def test_compare_enhances_what_nobody_has_enhanced(run, noisy_path: Path, tmp_path: Path):
    result = run(noisy_path, "--atten-limit", "12")
    assert result.code == 0
    assert "wrote noisy.compare.html" in result.text
    data = data_of(Path("noisy.compare.html"))
    assert [track["name"] for track in data["tracks"]] == ["noisy.wav", "enhanced by gtcrn"]
    assert 1 < data["tracks"][1]["figures"]["removed"] < 12
    assert data["gainIsMask"]


def test_compare_shows_what_it_is_given(run, noisy_path: Path):
    clean = noisy_path.with_name("clean.wav")
    part = ("--start", "1", "--duration", "2", "-q")
    assert run(noisy_path, clean, "--clean", clean, "-o", "x.html", *part).text == ""
    data = data_of(Path("x.html"))
    assert [track["role"] for track in data["tracks"]] == ["noisy", "enhanced", "clean"]
    assert (data["startS"], data["durationS"]) == (1, 2)
    assert not data["gainIsMask"]


def test_compare_takes_opus_inside_on_demand(run, noisy_path: Path):
    sizes = []
    for sound in ("flac", "opus"):
        assert run(noisy_path, noisy_path, "--sound", sound, "-o", f"{sound}.html").code == 0
        sizes.append(Path(f"{sound}.html").stat().st_size)
    assert sizes[1] < 0.6 * sizes[0]  # the script is as long in both


@pytest.mark.slow
def test_compare_makes_a_picture_on_demand(run, noisy_path: Path):
    pytest.importorskip("matplotlib")
    assert run(noisy_path, noisy_path, "--png").code == 0
    assert run(noisy_path, noisy_path, "-o", "y.PNG").code == 0
    assert picture_size(Path("noisy.compare.png")) == picture_size(Path("y.PNG"))


def test_compare_replaces_nothing_unasked_and_no_input_ever(run, noisy_path: Path, tmp_path: Path):
    shutil.copy(noisy_path, "a.wav")
    Path("a.compare.html").write_text("mine")
    assert "add --overwrite" in run("a.wav", "a.wav").text
    assert Path("a.compare.html").read_text() == "mine"
    assert run("a.wav", "a.wav", "--overwrite").code == 0
    assert "same file" in run("a.wav", "a.wav", "-o", "a.wav", "--overwrite").text
    assert "same file" in run("a.wav", "--clean", noisy_path, "-o", noisy_path, "--overwrite").text
    assert soundfile.info("a.wav").duration == 6.5


def test_compare_refuses_options_that_would_do_nothing(run, noisy_path: Path):
    result = run(noisy_path, noisy_path, "--strength", "0.5")
    assert result.code == 2
    assert "--strength is for enhancing" in result.text
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--png", "-o", "page.html"), "a picture is a .png"),
        (("--png", "-o", "page.HTM"), "a picture is a .png"),
        (("--png", "--sound", "opus"), "--sound is for pages"),
        (("-o", "a.png", "--sound", "flac"), "--sound is for pages"),
        (("-o", "a.txt"), "a page is an .html"),
    ],
)
def test_a_page_is_no_picture(run, noisy_path: Path, options: tuple[str, ...], said: str):
    result = run(noisy_path, noisy_path, *options)
    assert result.code in (1, 2)
    assert said in result.text
    assert list(Path.cwd().iterdir()) == []


def test_compare_says_what_cannot_be_read(run, noisy_path: Path):
    assert "cannot read missing.wav" in run("missing.wav").text
    assert "a page takes" in run(noisy_path, "--duration", "4000").text
    assert "there is nothing to show" in run(noisy_path, "--start", "100").text
    assert "behind the end" in run(noisy_path, "--start", "1e300").text
    assert list(Path.cwd().iterdir()) == []
