"""The picture that compares sounds."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from support.pages import AWKWARD, picture_size

from gtcrn_cli.errors import MissingExtraError
from gtcrn_cli.evaluation.comparison import compare
from gtcrn_cli.evaluation.picture import write_picture


def test_a_picture_grows_with_what_it_shows(tmp_path: Path, noisy_path: Path, recwarn):
    pytest.importorskip("matplotlib")
    awkward = tmp_path / AWKWARD
    shutil.copy(noisy_path, awkward)
    sizes = []
    for enhanced in ([], [awkward]):
        write_picture(compare(noisy_path, enhanced), tmp_path / "x.png")
        sizes.append(picture_size(tmp_path / "x.png"))
    assert sizes[0][0] == sizes[1][0]
    assert sizes[1][1] > sizes[0][1] + 300
    assert list(recwarn) == []


def test_a_picture_without_matplotlib_says_what_to_install(
    tmp_path: Path, noisy_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"gtcrn-cli\[report\]"):
        write_picture(compare(noisy_path, []), tmp_path / "x.png")
