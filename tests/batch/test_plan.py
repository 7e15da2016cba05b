"""Which files, and to where."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from gtcrn_cli.batch import plan
from gtcrn_cli.batch.manifest import Manifest, Record
from gtcrn_cli.batch.plan import BatchPlan, Order, make_plan
from gtcrn_cli.batch.selection import Selection
from gtcrn_cli.errors import UserError


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    return root


def planned(source: Path | tuple[str, ...], output: Path, **options) -> BatchPlan:
    if isinstance(source, Path):
        source = str(source)
    with Manifest(output / ".manifest") as manifest:
        return make_plan(Order(source, str(output), **options), "digest", manifest)


def targets(plan: BatchPlan) -> dict[str, str]:
    return {item.source: item.target for item in plan.todo}


def test_the_tree_is_mirrored(tmp_path: Path):
    source = touch(tmp_path / "in", "a.wav", "b/c/d.FLAC", "b/e.mp3")
    assert targets(planned(source, tmp_path / "out")) == {
        str(source / "a.wav"): "a.wav",
        str(source / "b/c/d.FLAC"): "b/c/d.FLAC",
        str(source / "b/e.mp3"): "b/e.mp3",
    }


def test_what_is_no_sound_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = touch(tmp_path / "in", "a.wav", "b.txt", "c", "d.raw", "e.mp4", ".h.wav", ".g/i.wav")
    monkeypatch.setattr(plan.ffmpeg, "is_installed", lambda: False)
    result = planned(source, tmp_path / "out")
    assert list(targets(result).values()) == ["a.wav"]
    reasons = {Path(file.path).name: file.reason for file in result.passed}
    assert set(reasons) == {"b.txt", "c", "d.raw", "e.mp4"}  # hidden files are not spoken of
    assert "ffmpeg" in reasons["e.mp4"]
    assert "--raw" in reasons["d.raw"]
    assert not any(file.trouble for file in result.passed)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), {"a.wav", "b/c.wav", "b/d.flac"}),
        (Selection(include=("*.wav",)), {"a.wav", "b/c.wav"}),
        (Selection(include=("*.WAV",)), {"a.wav", "b/c.wav"}),
        (Selection(include=("b/*",)), {"b/c.wav", "b/d.flac", "b/e.unknown"}),
        (Selection(exclude=("b",)), {"a.wav"}),
        (Selection(exclude=("*/d.*",)), {"a.wav", "b/c.wav"}),
        (Selection(exclude=("b/",)), {"a.wav"}),
        (Selection(exclude=("c.wav/",)), {"a.wav", "b/d.flac"}),
        (Selection(exclude=("/b",)), {"a.wav"}),
        (Selection(exclude=("/b/",)), {"a.wav"}),
        (Selection(exclude=("./b",)), {"a.wav"}),
        (Selection(exclude=("/c.wav", "/d.*")), {"a.wav", "b/c.wav", "b/d.flac"}),
        (Selection(include=("/*.wav",), exclude=("/b/c*",)), {"a.wav"}),
        (Selection(include=("b/",)), {"b/c.wav", "b/d.flac", "b/e.unknown"}),
        (Selection(include=("*.wav",), exclude=("c.*",)), {"a.wav"}),
        (Selection(hidden=True), {"a.wav", "b/c.wav", "b/d.flac", ".f/g.wav", ".h.wav"}),
    ],
)
def test_selection(tmp_path: Path, selection: Selection, expected: set[str]):
    source = touch(
        tmp_path / "in", "a.wav", "b/c.wav", "b/d.flac", "b/e.unknown", ".f/g.wav", ".h.wav"
    )
    result = planned(source, tmp_path / "out", selection=selection)
    assert set(targets(result).values()) == expected


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), {"a.wav", "b/c.wav", "b/d.odd", ".h.wav", "ROOT/e.wav"}),
        (Selection(include=("*.wav",)), {"a.wav", "b/c.wav", ".h.wav", "ROOT/e.wav"}),
        (Selection(include=("*.WAV",), exclude=("c.*",)), {"a.wav", ".h.wav", "ROOT/e.wav"}),
        (Selection(include=("b/*",)), {"b/c.wav", "b/d.odd"}),
        (Selection(exclude=("b",)), {"a.wav", ".h.wav", "ROOT/e.wav"}),
        (Selection(exclude=("b/",)), {"a.wav", ".h.wav", "ROOT/e.wav"}),
        (Selection(exclude=(".*",)), {"a.wav", "b/c.wav", "b/d.odd", "ROOT/e.wav"}),
        (Selection(exclude=("*/e.wav", "b/c*")), {"a.wav", "b/d.odd", ".h.wav"}),
        (Selection(exclude=("/b/", "/*/e.wav")), {"a.wav", ".h.wav"}),
        (Selection(exclude=("./b/",)), {"a.wav", ".h.wav", "ROOT/e.wav"}),
    ],
)
def test_a_selection_holds_for_a_list_too(
    tmp_path: Path, selection: Selection, expected: set[str], monkeypatch: pytest.MonkeyPatch
):
    touch(tmp_path, "in/a.wav", "in/b/c.wav", "in/b/d.odd", "in/.h.wav", "e.wav")
    monkeypatch.chdir(tmp_path / "in")
    listed = ("./a.wav", "b/c.wav", "b//d.odd", ".h.wav", str(tmp_path / "e.wav"))
    result = planned(listed, tmp_path / "out", selection=selection)
    found = {item.target.replace(str(tmp_path)[1:], "ROOT") for item in result.todo}
    assert found == expected
    assert result.passed == []


def test_no_two_files_go_to_the_same_place(tmp_path: Path):
    source = touch(tmp_path / "in", "a.wav", "a.flac", "a.mp3", "b.ogg", "a.flac.wav")
    named = targets(planned(source, tmp_path / "out", format="wav", suffix="_x"))
    assert {Path(key).name: target for key, target in named.items()} == {
        "a.wav": "a_x.wav",
        "a.flac": "a_x.flac.wav",
        "a.mp3": "a_x.mp3.wav",
        "b.ogg": "b_x.wav",
        "a.flac.wav": "a.flac_x.wav",
    }


@given(
    st.sets(
        st.builds(
            lambda *parts: "".join(parts),
            st.sampled_from(["a", "b", "A", "a.wav", "d/a"]),
            st.sampled_from(["", ".flac", ".wav.2"]),
            st.sampled_from([".wav", ".WAV", ".flac", ".mp3"]),
        )
    ),
    st.sampled_from([None, "wav", "flac"]),
    st.sampled_from(["", "_clean", ".flac"]),
)
def test_targets_are_always_different(paths: set[str], ending: str | None, suffix: str):
    order = Order("/in", "/nowhere/out", suffix=suffix, format=ending)
    found = [plan.Found(path, 1, "") for path in paths]
    with (
        pytest.MonkeyPatch.context() as patch,
        TemporaryDirectory() as folder,
        Manifest(Path(folder) / "manifest") as manifest,
    ):
        patch.setattr(plan, "list_files", lambda root, enter=None: iter(found))
        todo = make_plan(order, "digest", manifest).todo
    assert len({item.target for item in todo}) == len(paths)
    assert {item.source for item in todo} == {f"/in/{path}" for path in paths}


def test_a_list_keeps_its_folders_and_stays_in_the_output(tmp_path: Path, monkeypatch):
    touch(tmp_path, "here/a.wav", "b.wav", "c.odd")
    monkeypatch.chdir(tmp_path / "here")
    listed = ("a.wav", "./a.wav", "../b.wav", str(tmp_path / "c.odd"), "missing.wav", "a.wav")
    result = planned(listed, tmp_path / "out")
    below = str(tmp_path).lstrip("/")
    assert sorted(item.target for item in result.todo) == sorted(
        ["a.wav", "a.wav.wav", f"{below}/b.wav", f"{below}/c.odd"]
    )
    assert [(file.path, file.reason) for file in result.passed] == [("missing.wav", "no such file")]
    assert result.passed[0].trouble


def test_the_largest_begins(tmp_path: Path):
    source = touch(tmp_path / "in", "a.wav", "b.wav", "c.opus")
    (source / "b.wav").write_bytes(bytes(1000))
    (source / "c.opus").write_bytes(bytes(500))  # which holds more sound
    order = [item.target for item in planned(source, tmp_path / "out").todo]
    assert order == ["c.opus", "b.wav", "a.wav"]


def record(plan_: BatchPlan, target: str) -> Record:
    item = next(item for item in plan_.todo if item.target == target)
    return Record(target, item.source, item.size, item.stamp, plan_.options, 1, {})


def test_what_is_done_is_left_and_what_changed_is_not(tmp_path: Path):
    source, output = touch(tmp_path / "in", "a.wav", "b.wav", "c.wav", "d.wav"), tmp_path / "out"
    first = planned(source, output)
    touch(output, "a.wav", "b.wav", "c.wav", "d.wav")
    with Manifest(output / ".manifest") as manifest:
        manifest.claim((item.target, item.source) for item in first.todo)
        for name in "abc":
            manifest.add(record(first, f"{name}.wav"))
    (source / "b.wav").write_bytes(b"longer")
    (output / "c.wav").unlink()
    second = planned(source, output)
    assert [record.target for record in second.unchanged] == ["a.wav"]
    assert {item.target for item in second.todo} == {"b.wav", "c.wav", "d.wav"}
    assert second.passed == []  # d.wav was claimed, so it may be written again
    replaces = {item.target: item.overwrite for item in second.todo}
    assert replaces == {"b.wav": True, "c.wav": False, "d.wav": False}
    assert not any(item.why for item in second.todo)
    (output / "a.wav").write_bytes(b"of another size")
    damaged = planned(source, output)
    assert damaged.unchanged == damaged.edited == []
    (again,) = (item for item in damaged.todo if item.target == "a.wav")
    assert again.overwrite and "damaged" in str(again.why)
    assert len(planned(source, output, subtype="FLOAT").todo) == 4
    assert len(planned(source, output, skip_existing=False).todo) == 4


def test_an_output_that_somebody_has_edited_is_not_replaced(tmp_path: Path):
    source, output = touch(tmp_path / "in", "a.wav", "b.wav"), tmp_path / "out"
    first = planned(source, output)
    with Manifest(output / ".manifest") as manifest:
        manifest.claim((item.target, item.source) for item in first.todo)
        for name in ("a.wav", "b.wav"):
            manifest.add(record(first, name))
    touch(output, "b.wav")
    soundfile.write(output / "a.wav", np.zeros(1000), 16_000)
    for options in ({}, {"format": None}):
        plan_ = planned(source, output, **options)
        assert [record.target for record in plan_.edited] == ["a.wav"]
        assert [record.target for record in plan_.unchanged] == ["b.wav"]
        assert plan_.todo == plan_.passed == []
    for options in ({"subtype": "FLOAT"}, {"skip_existing": False}):
        replaces = {i.target: i.overwrite for i in planned(source, output, **options).todo}
        assert replaces == {"a.wav": False, "b.wav": True}
    (item,) = planned(source, output, overwrite=True).todo
    assert item.target == "a.wav" and item.overwrite
    data = (output / "a.wav").read_bytes()
    for broken in (b"", data[:50], data[:1500], b"x" * len(data)):
        (output / "a.wav").write_bytes(broken)
        (item,) = planned(source, output).todo
        assert item.overwrite and "damaged" in str(item.why)


def test_what_no_batch_made_is_not_replaced(tmp_path: Path):
    source, output = touch(tmp_path / "in", "a.wav"), touch(tmp_path / "out", "a.wav")
    result = planned(source, output)
    assert result.todo == []
    assert "--overwrite" in result.passed[0].reason
    assert result.passed[0].trouble
    assert len(planned(source, output, overwrite=True).todo) == 1


def test_another_input_does_not_replace_the_results_of_the_first(tmp_path: Path):
    first, second = touch(tmp_path / "1", "a.wav"), touch(tmp_path / "2", "a.wav")
    (second / "a.wav").write_bytes(b"another")
    output = tmp_path / "out"
    with Manifest(output / ".manifest") as manifest:
        manifest.claim([("a.wav", str(first / "a.wav"))])
    touch(output, "a.wav")
    assert planned(second, output).todo == []
    # but a name that passes from one file of the source to another is free
    (first / "a.wav").rename(first / "a.flac")
    touch(first, "a.wav")
    with Manifest(output / ".manifest") as manifest:
        manifest.claim([("a.wav", str(first / "a.flac"))])
    named = targets(planned(first, output, format="wav"))
    assert set(named.values()) == {"a.wav", "a.flac.wav"}


def test_output_inside_input_is_not_taken_for_input(tmp_path: Path):
    source = touch(tmp_path / "in", "a.wav", "clean/a.wav", "other/clean/b.wav")
    assert set(targets(planned(source, source / "clean", overwrite=True)).values()) == {
        "a.wav",
        "other/clean/b.wav",
    }
    (tmp_path / "link").symlink_to(source)
    assert len(planned(tmp_path / "link", source / "clean", overwrite=True).todo) == 2


def test_output_on_the_input_is_refused(tmp_path: Path):
    source = touch(tmp_path / "in", "a.wav")
    (tmp_path / "link").symlink_to(source)
    for output in (source, source / ".." / "in", tmp_path / "link"):
        with pytest.raises(UserError, match="output folder is the input folder"):
            planned(source, output)


def test_input_inside_output_is_never_written_to(tmp_path: Path):
    source = touch(tmp_path / "out" / "raw", "a.wav", "raw/b.wav")
    result = planned(source, tmp_path / "out", overwrite=True)
    assert set(targets(result).values()) == {"a.wav"}
    assert "input folder" in result.passed[0].reason


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path):
    source, output = touch(tmp_path / "in", "a.wav"), tmp_path / "out"
    touch(output, ".a.wav.0123456789ab.part", ".b.wav.0123456789ab.part", ".a.wav.part", "c.part")
    with Manifest(output / ".manifest") as manifest:
        manifest.claim([("a.wav", str(source / "a.wav"))])
    planned(source, output)
    assert {path.name for path in output.iterdir()} == {
        *(".b.wav.0123456789ab.part", ".a.wav.part", "c.part"),  # nobody knows whose they are
        ".manifest",
    }


def test_time_grows_with_the_number_of_files_alone(tmp_path: Path, monkeypatch):
    def planning_time_s(count: int) -> float:
        found = [plan.Found(f"{i % 300}/{i}.wav", i, "1") for i in range(count)]
        monkeypatch.setattr(plan, "list_files", lambda root, enter=None: iter(found))
        start = time.process_time()
        result = planned(tmp_path, tmp_path / "out", format="flac", selection=Selection(("*.wav",)))
        assert len(result.todo) == count
        return time.process_time() - start

    planning_time_s(1000)
    few_s, many_s = (min(planning_time_s(n) for _ in range(3)) for n in (2_000, 16_000))
    assert many_s < 30 * few_s  # 8 when linear, 64 when square


def test_a_batch_never_takes_in_its_own_outputs(tmp_path: Path):
    """A list made anew, or a folder around the output, names what an earlier run wrote."""
    touch(tmp_path, "a.wav", "b/c.wav")
    out = tmp_path / "out"
    for source in ((str(tmp_path / "a.wav"), str(tmp_path / "b/c.wav")), tmp_path):
        first = planned(source, out)
        assert len(first.todo) == 2
    touch(out, "a.wav", "deep/c.wav")
    listed = tuple(str(path) for path in sorted(tmp_path.rglob("*.wav")))
    again = planned(listed, out)
    assert {item.source for item in again.todo} == {str(tmp_path / p) for p in ("a.wav", "b/c.wav")}
    assert {file.reason for file in again.passed} == {"lies in the output folder"}
    assert not any(file.trouble for file in again.passed)


def test_outputs_beside_their_inputs_are_not_taken_in_either(tmp_path: Path, monkeypatch):
    """All of a list may lie in the output folder: then the manifest tells what a batch wrote."""
    touch(tmp_path, "a.wav")
    monkeypatch.chdir(tmp_path)
    order = Order(("a.wav",), ".", suffix="_clean")
    with Manifest(tmp_path / "manifest") as manifest:
        (item,) = make_plan(order, "digest", manifest).todo
        manifest.claim([(item.target, item.source)])
        touch(tmp_path, "a_clean.wav")
        order = Order(("a.wav", "a_clean.wav"), ".", suffix="_clean")
        again = make_plan(order, "digest", manifest)
    assert [item.target for item in again.todo] == ["a_clean.wav"]
    assert [(Path(file.path).name, file.trouble) for file in again.passed] == [
        ("a_clean.wav", False)
    ]


def test_a_file_for_a_folder_gets_its_own_words(tmp_path: Path):
    source = touch(tmp_path / "in", "a.wav")
    with pytest.raises(UserError, match=r"is a file: .*gtcrn denoise"):
        planned(source / "a.wav", tmp_path / "out")
