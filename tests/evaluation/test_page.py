"""The data of a page that compares sounds: whole, safe and not too large."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import soundfile
from support.pages import AWKWARD, Outline, data_of
from support.sound import tone

from gtcrn_cli.errors import UserError
from gtcrn_cli.evaluation.page import comparison_page


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
    with pytest.raises(UserError, match="use --duration to show less"):
        comparison_page(noisy_path, [noisy_path], tmp_path / "two.html")
    assert [path.name for path in tmp_path.iterdir()] == ["one.html"]


def test_loud_sounds_are_embedded_without_clipping(tmp_path: Path):
    loud = tmp_path / "loud.wav"
    soundfile.write(loud, tone(500, 4.0, 1), 16_000, subtype="FLOAT")
    comparison_page(loud, [], tmp_path / "page.html")
    data = data_of(tmp_path / "page.html")
    assert "played 12.0 dB lower" in data["notes"][0]
    assert data["tracks"][0]["matchingGain"] == pytest.approx(1, abs=0.01)
