"""The manifest: what it keeps through crashes, and that one batch holds it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtcrn_cli.batch.manifest import Manifest, Record
from gtcrn_cli.errors import UserError

RECORD = Record("a.wav", "/in/a.wav", 10, "1", "options", 20, {"duration_s": 1.5})


def test_it_remembers(tmp_path: Path):
    with Manifest(tmp_path / "deep" / "m") as manifest:
        assert manifest.records == {}
        manifest.claim([("a.wav", "/in/a.wav"), ("b.wav", "/in/b.wav")])
        manifest.add(RECORD)
        manifest.add(replace(RECORD, size=11))
    with Manifest(tmp_path / "deep" / "m") as manifest:
        assert manifest.records == {"a.wav": replace(RECORD, size=11)}
        assert manifest.claims == {"a.wav": "/in/a.wav", "b.wav": "/in/b.wav"}


def test_claiming_again_adds_nothing(tmp_path: Path):
    for _ in range(2):
        with Manifest(tmp_path / "m") as manifest:
            manifest.claim([("a.wav", "/in/a.wav")])
    assert (tmp_path / "m").read_text().count("\n") == 1


def test_names_that_are_no_text_come_back(tmp_path: Path):
    odd = "caf\udce9 \n\u2028.wav"
    with Manifest(tmp_path / "m") as manifest:
        manifest.add(replace(RECORD, target=odd))
    with Manifest(tmp_path / "m") as manifest:
        assert odd in manifest.records


@given(st.data())
def test_a_torn_end_costs_one_record_and_no_more(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("torn") / "m"
    with Manifest(path) as manifest:
        for name in "abc":
            manifest.add(replace(RECORD, target=name))
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    kept = set("abc"[: whole[:cut].count(b"\n")])
    with Manifest(path) as manifest:
        assert kept <= set(manifest.records) <= kept | {"abc"[len(kept) :][:1]}
        manifest.add(replace(RECORD, target="d"))
    with Manifest(path) as manifest:
        assert kept | {"d"} <= set(manifest.records)


def test_lines_of_another_version_are_passed_over(tmp_path: Path):
    with Manifest(tmp_path / "m") as manifest:
        manifest.add(RECORD)
    with (tmp_path / "m").open("ab") as file:
        file.write(b'{"target": "b", "source": "s", "colour": "red"}\n[1]\n\xff\xfe\n')
    with Manifest(tmp_path / "m") as manifest:
        assert set(manifest.records) == {"a.wav"}


def test_only_one_batch_at_a_time(tmp_path: Path):
    with Manifest(tmp_path / "m"), pytest.raises(UserError, match="another batch"):
        Manifest(tmp_path / "m")
    Manifest(tmp_path / "m").__exit__(None, None, None)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is Unix's")
def test_a_killed_batch_holds_nothing(tmp_path: Path):
    code = (
        "import os, sys; from pathlib import Path; from gtcrn_cli.batch.manifest import Manifest;"
        "Manifest(Path(sys.argv[1])).claim([('a', 'b')]); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "m")], check=False)
    with Manifest(tmp_path / "m") as manifest:
        assert manifest.claims == {"a": "b"}


def test_looking_changes_nothing(tmp_path: Path):
    with Manifest(tmp_path / "m", look_only=True) as manifest:
        assert manifest.records == {}
    assert list(tmp_path.iterdir()) == []
    with Manifest(tmp_path / "m") as manifest:
        manifest.add(RECORD)
        with Manifest(tmp_path / "m", look_only=True) as other:
            assert other.records == {"a.wav": RECORD}


def test_no_place_for_it_is_one_line(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write the manifest"):
        Manifest(tmp_path / "file" / "m")


@pytest.mark.parametrize("look_only", [False, True])
@pytest.mark.parametrize(
    "content",
    [
        b"a.wav\nb.wav\n",
        b"RIFF\x24\x00\x00\x00WAVEfmt ",
        b'{\n  "target": "a.wav"\n}\n',
        b'{"input": "a.wav"}\n{"target": "a.wav", "source": "b"}\n',
        b"\n",
        b"{}",
    ],
)
def test_nothing_is_added_to_a_file_that_is_no_manifest(
    tmp_path: Path, content: bytes, look_only: bool
):
    (tmp_path / "mine").write_bytes(content)
    with pytest.raises(UserError, match=r"mine exists and is no manifest"):
        Manifest(tmp_path / "mine", look_only=look_only)
    assert (tmp_path / "mine").read_bytes() == content
