"""What is said of a batch, to machines and to people."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from gtcrn_cli import __version__
from gtcrn_cli.batch.jobs import Model
from gtcrn_cli.batch.plan import Order
from gtcrn_cli.batch.report import require_report, rows_of, write_report
from gtcrn_cli.batch.run import BatchResult, Entry
from gtcrn_cli.enhancement.enhancer import Settings
from gtcrn_cli.enhancement.pipeline import Summary
from gtcrn_cli.errors import UserError
from gtcrn_cli.evaluation import page as report
from gtcrn_cli.network.checkpoint import Checkpoint


def done(name: str, level_in_db: float = -20, level_out_db: float = -22, **facts) -> Entry:
    summary = Summary("/tmp/x", "/tmp/y", 16_000, 1, duration_s=10, elapsed_s=0.1)
    summary = replace(summary, level_in_db=level_in_db, level_out_db=level_out_db, **facts)
    return Entry(f"/in/{name}", f"/out/{name}", "done", summary=summary.to_dict())


@pytest.fixture
def result(shipped: Checkpoint) -> BatchResult:
    entries = [
        done("good.wav"),
        done("silent.wav", -120, -120),
        done("gone.wav", -40, -90),
        done("loud.wav", clipped=7),
        done("odd.wav", replaced=3),
        done("noisy.wav", -20, -32),
        done("cut.ts", notes=["damaged: ffmpeg says: oops"]),
        Entry("/in/bad<b>.wav", None, "failed", "cannot read it", "Traceback: ..."),
        Entry("/in/notes.txt", None, "skipped", "no sound file, by its name"),
        replace(done("old.wav"), status="unchanged"),
    ]
    return BatchResult(Order("/in", "/out"), Model(shipped), entries, elapsed_s=2.0)


def test_what_needs_a_look(result: BatchResult):
    look = {Path(row.entry.input).name: "; ".join(row.look) for row in rows_of(result)}
    assert look == {
        "bad<b>.wav": "failed",
        "cut.ts": "damaged: ffmpeg says: oops",
        "gone.wav": "all removed",
        "good.wav": "",
        "loud.wav": "7 samples clipped",
        "noisy.wav": "12 dB removed",
        "notes.txt": "",
        "odd.wav": "3 samples were no sound",
        "old.wav": "",
        "silent.wav": "silent",
    }


def test_only_the_most_removed_need_a_look(result: BatchResult):
    result.entries = [done(f"{i:03d}.wav", -20, -30 - i / 10) for i in range(100)]
    assert [row.entry.input for row in rows_of(result) if row.look] == [
        f"/in/{i:03d}.wav" for i in range(90, 100)
    ]


def test_json(result: BatchResult, tmp_path: Path):
    write_report(result, tmp_path / "r.json")
    facts = json.loads((tmp_path / "r.json").read_text())
    assert facts["counts"] == {"done": 7, "unchanged": 1, "failed": 1, "skipped": 1}
    assert facts["duration_s"] == 70
    assert facts["speed"] == 35
    assert facts["settings"]["strength"] == 1
    files = {file["input"]: file for file in facts["files"]}
    assert files["/in/loud.wav"]["clipped"] == 7
    assert files["/in/loud.wav"]["output"] == "/out/loud.wav"
    assert files["/in/bad<b>.wav"]["reason"] == "cannot read it"
    assert files["/in/bad<b>.wav"]["trace"].startswith("Traceback")


def test_csv(result: BatchResult, tmp_path: Path):
    write_report(result, tmp_path / "r.csv")
    with (tmp_path / "r.csv").open(newline="") as file:
        rows = {row["input"]: row for row in csv.DictReader(file)}
    assert len(rows) == 10
    assert rows["/in/noisy.wav"]["look"] == "12 dB removed"
    assert float(rows["/in/noisy.wav"]["removed_db"]) == 12
    assert rows["/in/bad<b>.wav"]["reason"] == "cannot read it"


def test_html(result: BatchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = []

    def comparison_page(noisy: Path, enhanced: list[Path], target: Path) -> None:
        if noisy.name.startswith("bad"):
            raise UserError("cannot read it")
        target.write_text("a page")
        made.append((noisy.name, [path.name for path in enhanced]))

    monkeypatch.setattr(report, "comparison_page", comparison_page)
    write_report(result, tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert "bad&lt;b&gt;.wav" in page
    assert "bad<b>" not in page
    assert "6 need a look" not in page
    assert "7 need a look" in page
    assert "All 10 files" in page
    assert not re.search(r"(src|href)=.?https?:", page)  # nothing from the network
    assert [noisy for noisy, _ in made] == [
        *("cut.ts", "gone.wav", "loud.wav", "noisy.wav", "odd.wav", "silent.wav")
    ]
    links = set(re.findall(r'href="(r_files/[^"]+)"', page))
    assert {tmp_path / link for link in links} == set((tmp_path / "r_files").glob("*.html"))


@pytest.mark.parametrize("taken", ["r_files", "the input", "the output"])
def test_a_folder_that_no_report_made_is_left_alone(
    taken: str, result: BatchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Browsers call what they save with a page NAME_files, too."""
    monkeypatch.setattr(report, "comparison_page", lambda noisy, enhanced, page: page.touch())
    folder = tmp_path / "r_files"
    folder.mkdir()
    (folder / "001.html").write_text("precious")
    order = result.order
    if taken == "the input":
        order = replace(order, source=str(folder))
    elif taken == "the output":
        order = replace(order, output=str(folder))
    for _ in range(2):  # the second one replaces the first
        notes = write_report(replace(result, order=order), tmp_path / "r.html")
        assert [path.name for path in folder.iterdir()] == ["001.html"]
        assert (folder / "001.html").read_text() == "precious"
        assert notes == ["r_files is no folder of a report: the pages are in r_files-2"]
        there = sorted(path.name for path in tmp_path.iterdir())
        assert there == ["r.html", "r_files", "r_files-2"]
        assert 'href="r_files-2/001.html"' in (tmp_path / "r.html").read_text()


def test_an_earlier_report_makes_way_and_what_else_is_in_its_folder_stays(
    result: BatchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(report, "comparison_page", lambda noisy, enhanced, page: page.touch())
    assert write_report(result, tmp_path / "r.html") == []
    before = sorted(path.name for path in (tmp_path / "r_files").iterdir())
    (tmp_path / "r_files" / "notes.txt").write_text("precious")
    fewer = replace(result, entries=[e for e in result.entries if e.status != "done"])
    assert write_report(fewer, tmp_path / "r.html") == []
    after = sorted(path.name for path in (tmp_path / "r_files").iterdir())
    assert len(after) < len(before)
    assert (tmp_path / "r_files" / "notes.txt").read_text() == "precious"


@pytest.mark.parametrize("name", ["meta.csv", "meta.json", "meta.html"])
def test_a_file_that_is_no_report_is_not_replaced(name: str, result: BatchResult, tmp_path: Path):
    path = tmp_path / name
    path.write_text("who,when\n")
    with pytest.raises(UserError, match=r"is no report of a batch.*--overwrite"):
        require_report(path)
    require_report(path, overwrite=True)
    write_report(replace(result, entries=[]), path)
    require_report(path)  # now it is one


@pytest.mark.parametrize(
    "begin",
    [
        '{\n "gtcrn": "0.1.0",',
        "input,output,status,look,reason,duration_s\r\n",
        "<!doctype html>\n<html lang=en>\n<title>gtcrn batch: /out</title>",
        "",
    ],
)
def test_reports_of_earlier_versions_are_replaced(begin: str, tmp_path: Path):
    path = tmp_path / "r.json"
    path.write_text(begin)
    require_report(path)


def test_a_report_replaces_an_earlier_one_whole_or_not_at_all(result: BatchResult, tmp_path: Path):
    (tmp_path / "r.json").write_text("old")
    write_report(result, tmp_path / "r.json")
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]
    with pytest.raises(UserError, match="does not exist: make it first"):
        write_report(result, tmp_path / "no" / "r.json")


@pytest.mark.parametrize("name", ["r.pdf", "r", "no/r.json"])
def test_a_report_that_cannot_be_is_refused_before(name: str, tmp_path: Path):
    with pytest.raises(UserError):
        require_report(tmp_path / name)


def test_the_page_says_how_it_was_made_and_repeats_no_root(result: BatchResult, tmp_path: Path):
    order = Order(
        ("/in/good.wav", "/in/deep/cut.wav"), "/out", settings=Settings(0.75, linked=True)
    )
    entries = [
        done("good.wav"),
        Entry("/in/deep/cut.wav", None, "failed", "/in/deep/cut.wav is cut off after 3 s"),
    ]
    listed = replace(result, order=order, entries=entries)
    write_report(listed, tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert __version__ in page and date.today().isoformat() in page
    assert listed.model.checkpoint.digest[:12] in page
    assert "strength 0.75" in page and "linked True" in page
    table = page.partition("<table>")[2]
    assert ">deep/cut.wav is cut off after 3 s<" in table
    assert "/in/" not in table.replace('href="', "")
    heads = re.findall(r"<th [^>]*>", table)[:7]
    assert ['class="n"' in head for head in heads] == [False] * 3 + [True] * 4
    write_report(listed, tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text())["date"].startswith(
        date.today().isoformat()
    )
