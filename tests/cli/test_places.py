"""What is given for files and folders: the other kind, nothing, or a URL, each in its own words."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner

from gtcrn_cli.cli import app
from gtcrn_cli.errors import UserError


@pytest.fixture
def folder(tmp_path: Path, noisy_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "empty").mkdir()
    shutil.copy(noisy_path, tmp_path / "in" / "a.wav")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), input="")
    assert isinstance(result.exception, UserError), result.output
    return str(result.exception)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["denoise", "in", "out.wav"], "in is a folder: .*gtcrn batch"),
        (["denoise", "in/a.wav", "empty"], "empty is a folder: give the name of a file"),
        (["batch", "in/a.wav", "out"], "is a file: .*gtcrn denoise"),
        (["batch", "in", "in/a.wav"], "is a file: give a folder"),
        (["compare", "in"], "in is a folder"),
        (["batch", "empty", "out"], "nothing to do: .* in empty .*--allow-empty"),
        (["batch", "empty", "out", "--dry-run"], "nothing to do"),
        (["batch", "-", "out"], "nothing to do: .*list on stdin"),
        (["batch", "in", "out", "--exclude", "*.wav"], r"no sound file but \*\.wav in in"),
        (["batch", "in", "out", "--include", "*.wma"], r"no sound file like \*\.wma in in"),
    ],
)
def test_the_other_kind_of_place_and_none_at_all(words: list[str], said: str, folder: Path):
    assert re.search(said, refused(*words))


@pytest.mark.parametrize("command", ["train", "finetune", "ablate"])
def test_a_run_needs_a_folder_before_its_work(command: str, folder: Path):
    pytest.importorskip("torch", reason="the extra 'train' is not installed")
    words = [command, "in/a.wav", "--speech", "in", "--noise", "in"]
    assert "in/a.wav is no folder" in refused(*words)
    words[1] = "in/a.wav/run"
    assert "in/a.wav is no folder" in refused(*words)
    assert soundfile.info("in/a.wav").duration == 6.5


def test_a_device_that_is_not_there_is_said_before_the_work(folder: Path):
    pytest.importorskip("torch", reason="the extra 'train' is not installed")
    words = ["--speech", "nowhere", "--noise", "nowhere", "--device", "cuda:97"]
    said = refused("train", "run", *words)
    assert "torch cannot use the device 'cuda:97'" in said and "\n" not in said
    assert not Path("run").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["denoise", "https://host/a.wav", "out.wav"],
        ["denoise", "in/a.wav", "https://host/a.wav"],
        ["denoise", "in/a.wav", "out.wav", "--model", "https://host/a.wav"],
        ["compare", "https://host/a.wav"],
        ["compare", "in/a.wav", "--clean", "https://host/a.wav", "--no-dnsmos"],
        ["batch", "unknown://host/a.wav", "out"],
    ],
)
def test_urls_keep_both_slashes(words: list[str], folder: Path):
    said = refused(*words)
    assert ("://host/a.wav" in said and "URL" in said) or "cannot use unknown://host/a.wav" in said


def test_nothing_to_do_can_be_fine_and_so_is_having_done_it(folder: Path):
    def code(*words: str) -> int:
        return CliRunner().invoke(app, ["batch", *words, "-j", "1"]).exit_code

    assert code("empty", "out", "--allow-empty") == 0
    assert code("in", "out") == 0
    assert code("in", "out") == 0  # unchanged


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["denoise", "in/a.wav", "a.flacc"], r"tells no format: .*\.flac.*with ffmpeg also \.m4a"),
        (["compare", "in/a.wav", "-o", "a.pdf"], r"a page is an \.html, a picture a \.png"),
        (["evaluate", "in/a.wav", "-o", "a.xlsx"], r"\.md, \.csv or \.json"),
        (["batch", "in", "out", "--report", "a.xls"], r"\.json, \.csv or \.html"),
        (["export", "a.onx"], r"an \.onnx"),
        (["bench", "--plot", "a.gif"], r"\.png.*\.svg.*\.pdf"),
    ],
)
def test_endings_that_nobody_knows_are_refused(words: list[str], said: str, folder: Path):
    result = CliRunner().invoke(app, words)
    assert result.exit_code in (1, 2)
    assert re.search(said, f"{result.exception} {result.output}", re.DOTALL)
    assert sorted(path.name for path in folder.iterdir()) == ["empty", "in"]


@pytest.mark.parametrize("ending", [".flac", "flac", ".FLAC"])
def test_a_format_may_have_its_dot(ending: str, folder: Path):
    result = CliRunner().invoke(app, ["denoise", "in/a.wav", "named", "--format", ending])
    assert result.exit_code == 0, result.exception
    assert soundfile.info("named").format == "FLAC"
    result = CliRunner().invoke(app, ["batch", "in", "out", "--format", ending, "--dry-run"])
    assert result.stdout.endswith(f"out/a.{ending.strip('.').lower()}\n")
