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
from gtcrn_cli.paths import (
    PARTIAL,
    Replacement,
    kept_partial_path,
    partial_path,
    partial_stem,
    replacing,
    require_distinct,
    write_whole,
)

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


def test_what_is_kept_apart_replaces_nothing(tmp_path: Path):
    """Not even the input, where that is called so; and the same is not kept twice."""

    def kept(content: str) -> str:
        output = Replacement(tmp_path / "a.wav", overwrite=True)
        output.path.write_text(content)
        name = output.keep_apart().name
        output.discard()
        return name

    (tmp_path / "a.partial.wav").write_text("the input")
    (tmp_path / "a.partial-2.wav").mkdir()
    assert kept("some") == "a.partial-3.wav"
    assert kept("some") == "a.partial-3.wav"
    assert kept("more") == "a.partial-4.wav"
    assert kept_partial_path(tmp_path / "a.wav").name == "a.partial-5.wav"
    assert kept_partial_path(tmp_path / "b.wav").name == "b.partial.wav"
    assert (tmp_path / "a.partial.wav").read_text() == "the input"
    assert (tmp_path / "a.partial-3.wav").read_text() == "some"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *(f"a.partial-{number}.wav" for number in (2, 3, 4)),
        "a.partial.wav",
    ]


@unix
def test_a_link_that_leads_to_itself_is_said(tmp_path: Path):
    (tmp_path / "a.wav").symlink_to("a.wav")
    (tmp_path / "b.wav").symlink_to("c.wav")
    (tmp_path / "c.wav").symlink_to("b.wav")
    for name in ("a.wav", "b.wav"):
        for overwrite in (True, False):
            with pytest.raises(UserError, match="leads to itself"):
                Replacement(tmp_path / name, overwrite=overwrite)
    assert len(list(tmp_path.iterdir())) == 3


@unix
def test_an_output_that_is_a_pipe_is_said(tmp_path: Path):
    """Also by the names of /proc that a shell's >(...) has, which lead nowhere."""
    os.mkfifo(tmp_path / "fifo")
    reading, writing = os.pipe()
    try:
        for target in (tmp_path / "fifo", f"/dev/fd/{writing}"):
            with pytest.raises(UserError, match="use - to write to a pipe"):
                Replacement(target)
    finally:
        os.close(reading)
        os.close(writing)


@unix
def test_what_stdin_comes_from_is_not_replaced(tmp_path: Path):
    path, other = tmp_path / "a.wav", tmp_path / "b.wav"
    path.write_text("mine")
    other.write_text("other")
    kept = [os.dup(0), os.dup(1)]
    try:
        for number, source, target in ((0, "-", path), (1, path, "-")):
            with path.open("r+") as file:
                os.dup2(file.fileno(), number)
            with pytest.raises(UserError, match=r"are the same file: .*a\.wav"):
                require_distinct(source, target)
            require_distinct(*("-" if name == "-" else other for name in (source, target)))
            os.dup2(kept[number], number)
    finally:
        for number, file in enumerate(kept):
            os.dup2(file, number)
            os.close(file)


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
