"""Outputs are there whole or not at all, under any name and with the mode that they had."""

from __future__ import annotations

import doctest
import os
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtcrn_cli import paths
from gtcrn_cli.errors import UserError
from gtcrn_cli.paths import PARTIAL, Replacement, partial_path, partial_stem, replacing, write_whole

unix = pytest.mark.skipif(sys.platform == "win32", reason="modes and links are those of Unix")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(paths).failed == 0


def test_a_failure_leaves_all_as_it_was(tmp_path: Path):
    target = tmp_path / "a.txt"
    target.write_text("before")
    with pytest.raises(KeyError), replacing(target) as path:
        path.write_text("half")
        raise KeyError
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


def test_a_disk_that_fails_is_said_in_one_line(tmp_path: Path):
    with (
        pytest.raises(UserError, match=r"cannot write .*a\.txt: No space"),
        replacing(tmp_path / "a.txt"),
    ):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


@unix
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path):
    target = tmp_path / "a.txt"
    target.write_text("before")
    for kept in (0o600, 0o664, 0o444):
        target.chmod(kept)
        write_whole(target, b"after")
        assert (target.read_bytes(), mode(target)) == (b"after", kept)


@unix
@pytest.mark.parametrize(("umask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_follows_the_umask(umask: int, expected: int, tmp_path: Path):
    """Also where a library makes the file anew, in a mode of its own."""
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "a") as path:
            path.unlink()
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    finally:
        os.umask(before)
    assert mode(tmp_path / "a") == expected


@unix
def test_a_link_stays_one(tmp_path: Path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("before")
    link.symlink_to(target)
    write_whole(link, b"after")
    assert link.is_symlink()
    assert target.read_text() == "after"


def test_what_came_up_meanwhile_is_not_replaced(tmp_path: Path):
    target = tmp_path / "a"
    output = Replacement(target, overwrite=False)
    target.write_text("another's")
    with pytest.raises(UserError, match="exists"):
        output.commit()
    output.discard()
    assert target.read_text() == "another's"
    assert list(tmp_path.iterdir()) == [target]


def test_what_is_not_whole_is_kept_apart(tmp_path: Path):
    output = Replacement(tmp_path / "a.wav")
    output.path.write_text("some")
    assert output.keep_apart() == tmp_path / "a.partial.wav"
    output.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["a.partial.wav"]


@pytest.mark.parametrize("letter", ["a", "ü", "語"])
def test_the_longest_names(letter: str, tmp_path: Path):
    """255 bytes, also of letters of two and three."""
    room = 255 - len(".wav")
    stem = letter * (room // len(letter.encode()))
    target = tmp_path / f"{stem}.wav"
    write_whole(target, b"whole")
    assert target.read_bytes() == b"whole"
    output = Replacement(target)
    apart = output.keep_apart()
    assert apart.name.endswith(".partial.wav")
    assert len(os.fsencode(apart.name)) <= 255


def test_a_name_beyond_the_limit_is_said(tmp_path: Path):
    with pytest.raises(UserError, match="too long"):
        write_whole(tmp_path / ("a" * 256), b"")


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1))
def test_partial_names_lead_back_to_their_target(name: str):
    target = Path("folder", name)
    if target.name != name:  # "." and ".." are no files
        return
    partial = partial_path(target)
    found = PARTIAL.fullmatch(partial.name)
    assert partial.parent == target.parent
    assert found
    assert found["target"] == partial_stem(target)
    assert len(os.fsencode(partial.name)) <= 255
