"""Local paths and URLs: listing, fetching, delivering."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile

from gtcrn_cli.batch.storage import (
    Found,
    Skipped,
    absolute,
    delivered,
    fetched,
    is_folder,
    join,
    list_files,
    look_up,
    remove,
)
from gtcrn_cli.errors import UserError
from gtcrn_cli.paths import PARTIAL


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """A store in this process, empty."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


def names(root: str, **options) -> set[str]:
    return {file.path for file in list_files(root, **options) if isinstance(file, Found)}


def test_a_local_tree_is_listed(tmp_path: Path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "x.wav").write_bytes(b"123")
    (tmp_path / "a" / "b" / "y").touch()
    found = {file.path: file for file in list_files(str(tmp_path))}
    assert set(found) == {"x.wav", "a/b/y"}
    assert found["x.wav"].size == 3
    assert names(str(tmp_path), enter=lambda folder: folder != "a") == {"x.wav"}


def test_links_to_files_count_and_links_to_folders_do_not(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x.wav").touch()
    (tmp_path / "folder" / "up").symlink_to(tmp_path)
    (tmp_path / "link.wav").symlink_to("folder/x.wav")
    (tmp_path / "dead.wav").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.wav")
    assert names(str(tmp_path)) == {"folder/x.wav", "link.wav"}
    passed = {f.path: f.reason for f in list_files(str(tmp_path)) if isinstance(f, Skipped)}
    assert passed == {
        "folder/up": "a link to a folder",
        "dead.wav": "a link to nothing",
        "pipe.wav": "no ordinary file",
    }


def test_the_stamp_changes_with_the_content(tmp_path: Path, memory):
    path = tmp_path / "x"
    for location in (str(path), "memory://root/x"):
        files = fsspec.open(location, "wb", auto_mkdir=True)
        with files as file:
            file.write(b"1")
        first = look_up(location)
        with files as file:
            file.write(b"2")
        if location == str(path):
            os.utime(path, ns=(1, 1))
        second = look_up(location)
        assert isinstance(first, Found)
        assert first.size == second.size == 1
        assert first.stamp != second.stamp


def test_a_remote_tree_is_listed_alike(memory):
    memory.pipe({"/root/x.wav": b"123", "/root/a/b/y": b"", "/root/.hidden/z": b""})
    assert names("memory://root") == {"x.wav", "a/b/y", ".hidden/z"}
    assert names("memory://root", enter=lambda f: not f.startswith(".")) == {"x.wav", "a/b/y"}
    assert is_folder("memory://root")
    assert not is_folder("memory://other")


@pytest.mark.parametrize("root", ["/no/such/folder", "memory://no/such"])
def test_a_missing_root_is_one_line(root: str):
    with pytest.raises(UserError, match="no such folder"):
        list(list_files(root))


def test_what_cannot_be_looked_up_has_a_reason(tmp_path: Path, memory):
    for location in (str(tmp_path / "missing"), str(tmp_path), "memory://no"):
        passed = look_up(location)
        assert isinstance(passed, Skipped)
        assert passed.trouble


def test_local_files_are_used_where_they_are(tmp_path: Path):
    with fetched(str(tmp_path / "x")) as path:
        assert path == tmp_path / "x"
    with delivered(str(tmp_path / "new" / "folder" / "x")) as path:
        path.write_text("whole")
    assert (tmp_path / "new" / "folder" / "x").read_text() == "whole"


def test_remote_files_come_and_go(memory):
    memory.pipe("/in/x.wav", b"noisy")
    with fetched("memory://in/x.wav") as path:
        assert path.name == "x.wav"
        assert path.read_bytes() == b"noisy"
    assert not path.exists()
    for content in (b"first", b"second"):
        with delivered("memory://out/deep/x.wav") as path:
            path.write_bytes(content)
        assert memory.cat("/out/deep/x.wav") == content
    assert memory.find("/out") == ["/out/deep/x.wav"]
    remove("memory://out/deep/x.wav")
    assert memory.find("/out") == []


def test_a_final_name_never_holds_half_a_file(memory, monkeypatch: pytest.MonkeyPatch):
    """The upload breaks off: only a temporary name was touched, and that is gone."""
    touched = []

    def put_file(local: str, remote: str) -> None:
        touched.append(remote)
        memory.pipe(remote, b"ha")
        raise OSError("the network is down")

    monkeypatch.setattr(memory, "put_file", put_file)
    with pytest.raises(OSError, match="network"), delivered("memory://out/x.wav") as path:
        path.write_bytes(b"half or whole")
    (partial,) = touched
    assert PARTIAL.fullmatch(partial.rpartition("/")[2])["target"] == "x.wav"
    assert memory.find("/out") == []


def test_what_comes_up_meanwhile_is_not_replaced(memory):
    with (
        pytest.raises(UserError, match=r"x\.wav exists: add --overwrite"),
        delivered("memory://out/x.wav", overwrite=False) as path,
    ):
        memory.pipe("/out/x.wav", b"somebody's")
        path.write_bytes(b"ours")
    assert memory.cat("/out/x.wav") == b"somebody's"
    assert names("memory://out") == {"x.wav"}
    with delivered("memory://out/x.wav") as path:
        path.write_bytes(b"ours")
    assert memory.cat("/out/x.wav") == b"ours"


def test_the_finished_part_is_delivered_too(memory):
    with pytest.raises(UserError), delivered("memory://out/x.wav") as path:
        path.with_name("x.partial.wav").write_bytes(b"part")
        raise UserError("the input broke off")
    assert memory.find("/out") == ["/out/x.partial.wav"]


def test_the_finished_part_replaces_nothing(memory):
    """Not what is called so already; and the same is not there twice."""

    def break_off(content: bytes) -> str:
        with pytest.raises(UserError) as told, delivered("memory://out/x.wav") as path:
            path.with_name("x.partial.wav").write_bytes(content)
            raise UserError("the input broke off: see out/x.partial.wav")
        return str(told.value)

    memory.pipe("/out/x.partial.wav", b"another")
    for content, number in ((b"part", 2), (b"part", 2), (b"trap", 3)):
        assert break_off(content).endswith(f"see out/x.partial-{number}.wav")
    assert memory.cat("/out/x.partial.wav") == b"another"
    assert memory.cat("/out/x.partial-2.wav") == b"part"
    assert len(memory.find("/out")) == 3


def test_locations():
    assert join("/a", "b/c") == "/a/b/c"
    assert join("s3://bucket/a", "b/c") == "s3://bucket/a/b/c"
    assert absolute("s3://bucket/a/") == "s3://bucket/a"
    assert absolute("file:///a/b") == "/a/b"
    assert absolute("a/") == str(Path.cwd() / "a")


def test_an_unknown_scheme_is_one_line():
    with pytest.raises(UserError, match="cannot use nobody://x"):
        look_up("nobody://x")


def test_an_error_of_any_store_is_a_line(memory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Stores have errors of their own kinds, such as that there are no credentials."""

    class OfStoreError(Exception):
        pass

    def fail(*arguments: object, **options: object) -> None:
        raise OfStoreError("who are you?")

    for name in ("isdir", "find", "info", "get_file", "put_file", "rm_file"):
        monkeypatch.setattr(type(memory), name, fail)
    for ask in (is_folder, lambda location: [*list_files(location)]):
        with pytest.raises(UserError, match=r"memory://a/b: who are you\?"):
            ask("memory://a/b")
    skipped = look_up("memory://a/b")
    assert isinstance(skipped, Skipped) and "who are you?" in skipped.reason
    with pytest.raises(OSError, match="who are you"), fetched("memory://a/b"):
        pass
    with pytest.raises(OSError, match="who are you"), delivered("memory://a/b") as path:
        path.touch()
    with pytest.raises(OSError, match="who are you"):
        remove("memory://a/b")


def test_the_same_part_of_an_ogg_is_delivered_once(memory):
    sound = 0.1 * np.random.default_rng(0).standard_normal(16_000)
    for _ in range(2):
        with pytest.raises(UserError), delivered("memory://out/x.ogg") as path:
            soundfile.write(path.with_name("x.partial.ogg"), sound, 16_000)
            raise UserError("the input broke off: see out/x.partial.ogg")
    assert memory.find("/out") == ["/out/x.partial.ogg"]
