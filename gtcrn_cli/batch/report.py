"""What a batch did: as JSON and CSV for machines, as a page for people.

The page is one file that needs no network, and lists the files that need a look first. Beside it,
in a folder, are pages to listen to those and to compare them.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .. import __version__
from ..errors import UserError
from ..paths import require_free, write_whole
from .run import STATUSES, BatchResult, Entry
from .storage import fetched, is_url

SILENT_DB = -70.0
MUCH_REMOVED_DB = 6.0
MOST_REMOVED = 10  # files
PAGES = 50  # to compare
ROWS = 5000  # of the table of all files
LONGEST_COMPARED_S = 1800.0  # beyond that a page with the sound in it is nothing for a browser

STDOUT = Path("-")
MARKER = ".gtcrn-report"  # in a folder of pages that a report made

Written = tuple[str, list[str]]  # a report, and what the user is to be told

COLUMNS = (
    *("input", "output", "status", "look", "reason", "duration_s"),
    *("level_in_db", "level_out_db", "removed_db", "clipped", "replaced"),
    *("sample_rate", "channels", "speed", "notes"),
)


@dataclass(frozen=True)
class ReportRow:
    """An entry, and why somebody should look at it."""

    entry: Entry
    look: list[str]

    def to_dict(self) -> dict[str, Any]:
        """The entry as plain data, with the reasons to look at it."""
        return {"look": self.look} | self.entry.to_dict()


def require_report(path: Path, overwrite: bool = False) -> None:
    """Refuse a report that cannot be written, before hours of work.

    Raises
    ------
    UserError
        Its ending is none of ours, its folder is missing, or a file of that name is there that no
        report is and that is not to be replaced.
    """
    if path == STDOUT:
        return
    if path.suffix.lower() not in _WRITERS:
        raise UserError(f"{path}: a report is a .json, .csv or .html, or - for JSON on stdout")
    require_free(path, overwrite=True)
    if not (overwrite or _is_report(path)):
        raise UserError(
            f"{path} exists and is no report of a batch: give another name, or add --overwrite"
        )


def _is_report(path: Path) -> bool:
    """Whether a file may be replaced without being asked: it holds nothing, or a report."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    return not head or any(head.lstrip().startswith(sign) for sign in _SIGNS) or _TITLE in head


def write_report(result: BatchResult, path: Path) -> list[str]:
    """Write a report of the kind that its name says; one that is there is replaced.

    Returns
    -------
    What the user is to be told about it.

    Raises
    ------
    UserError
        It cannot be written.
    """
    rows = rows_of(result)
    text, notes = _WRITERS[path.suffix.lower()](result, rows, path)
    write_whole(path, text.encode("utf-8", "backslashreplace"))
    return notes


def json_report(result: BatchResult) -> str:
    """The report that machines read."""
    return _json(result, rows_of(result), STDOUT)[0]


def rows_of(result: BatchResult) -> list[ReportRow]:
    """All entries by name, with what is to be said of each."""
    removed = [e.summary["removed_db"] for e in result.entries if e.summary]
    most = sorted(removed, reverse=True)[:MOST_REMOVED]
    limit_db = max(MUCH_REMOVED_DB, most[-1] if most else 0)
    rows = [ReportRow(entry, _look(entry, limit_db)) for entry in result.entries]
    return sorted(rows, key=lambda row: row.entry.input)


def _look(entry: Entry, limit_db: float) -> list[str]:
    """Why a file needs a look."""
    facts = entry.summary
    if entry.status == "failed":
        return ["failed"]
    if not facts:
        return []
    look = []
    if facts["level_in_db"] <= SILENT_DB:
        look.append("silent")
    elif facts["level_out_db"] <= SILENT_DB:
        look.append("all removed")
    elif facts["removed_db"] >= limit_db:
        look.append(f"{facts['removed_db']:.0f} dB removed")
    if facts["clipped"]:
        look.append(f"{facts['clipped']} samples clipped")
    if facts["replaced"]:
        look.append(f"{facts['replaced']} samples were no sound")
    return look + [note for note in facts["notes"] if note.startswith("damaged")]


def _json(result: BatchResult, rows: list[ReportRow], path: Path) -> Written:
    order = result.order
    facts = {
        "gtcrn": __version__,
        "date": _now(),
        "model": result.model.checkpoint.digest,
        "engine": result.model.engine,
        "settings": asdict(order.settings)
        | {"format": order.format, "subtype": order.subtype, "suffix": order.suffix},
        "input": order.source if isinstance(order.source, str) else None,
        "output": order.output,
        "counts": {status: result.count(status) for status in STATUSES},
        "duration_s": round(result.duration_s, 3),
        "elapsed_s": round(result.elapsed_s, 3),
        "speed": round(result.speed, 3),
        "files": [row.to_dict() for row in rows],
    }
    return json.dumps(facts, indent=1) + "\n", []


def _csv(result: BatchResult, rows: list[ReportRow], path: Path) -> Written:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        facts = row.to_dict()
        writer.writerow({k: "; ".join(v) if isinstance(v, list) else v for k, v in facts.items()})
    return text.getvalue(), []


def _html(result: BatchResult, rows: list[ReportRow], path: Path) -> Written:
    need = [row for row in rows if row.look]
    links, notes = _comparisons(need, path)
    cards = [
        (str(result.count("done")), "enhanced"),
        (str(result.count("unchanged")), "unchanged"),
        (str(result.count("skipped")), "skipped"),
        (str(len(result.failures)), "failed"),
    ]
    if result.duration_s:
        cards += [
            (f"{result.duration_s / 3600:.2f} h", "of sound"),
            (f"{result.speed:.0f}x", "real time"),
        ]
    more = len(rows) - ROWS
    source = result.order.source
    root = f"{source}/" if isinstance(source, str) else _common_root(rows)
    parts = {
        "source": escape(source if isinstance(source, str) else "a list of files"),
        "output": escape(result.order.output),
        "cards": "".join(f"<div><b>{value}</b>{what}</div>" for value, what in cards),
        "need": _table(need, links, path, root) if need else "<p>None.</p>",
        "need_count": str(len(need)),
        "count": str(len(rows)),
        "table": _table(rows[:ROWS], links, path, root),
        "more": f"<p>{more} more are in a .json or .csv report.</p>" if more > 0 else "",
        "made": escape(
            f"gtcrn {__version__}, {_now()}, model {result.model.checkpoint.digest[:12]}, "
            f"{_settings_in_words(result)}"
        ),
    }
    page = (files(__package__) / "assets" / "report.html").read_text("utf-8")
    # In one pass, as names of files may hold what looks like a place for another part.
    return re.sub("<!--([a-z_]+)-->", lambda place: parts[place[1]], page), notes


def _now() -> str:
    return datetime.now().astimezone().isoformat(" ", "minutes")


def _settings_in_words(result: BatchResult) -> str:
    order = result.order
    facts = asdict(order.settings) | {"format": order.format, "subtype": order.subtype}
    return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in facts.items() if v is not None)


def _common_root(rows: list[ReportRow]) -> str:
    """The folder that all files of a list are below, so that the table need not repeat it."""
    places = [row.entry.input for row in rows]
    if not places or any(is_url(place) for place in places):
        return ""
    try:
        return f"{os.path.commonpath([os.path.dirname(place) for place in places])}/"  # noqa: PTH120
    except ValueError:  # some of them are not absolute
        return ""


HEADINGS = (
    "file",
    "status",
    "needs a look",
    "length (s)",
    "in (dB)",
    "out (dB)",
    "removed (dB)",
)
FIRST_NUMBER = 3
NUMBER = ' class="n"'


def _table(rows: list[ReportRow], links: dict[str, str], path: Path, root: str) -> str:
    head = "".join(
        f'<th aria-sort="none"{NUMBER if number >= FIRST_NUMBER else ""}>'
        f"<button>{name}</button></th>"
        for number, name in enumerate(HEADINGS)
    )
    lines = "".join(_line(row, links, path, root) for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _line(row: ReportRow, links: dict[str, str], path: Path, root: str) -> str:
    entry, facts = row.entry, row.entry.summary
    name = escape(entry.input.removeprefix(root))
    if entry.input in links:
        name = f'<a href="{quote(links[entry.input])}">{name}</a>'
    elif entry.output is not None and not is_url(entry.output):
        target = os.path.relpath(entry.output, path.absolute().parent)
        name = f'<a href="{quote(os.fsencode(target))}">{name}</a>'
    why = entry.reason or "; ".join(row.look)
    look = escape(why.replace(root, "") if root else why)
    numbers = "".join(
        f'<td class="n">{facts[key]:.1f}</td>' if facts else "<td></td>"
        for key in ("duration_s", "level_in_db", "level_out_db", "removed_db")
    )
    status = f'<td class="{entry.status}">{entry.status}</td>'
    return f"<tr><td>{name}</td>{status}<td>{look}</td>{numbers}</tr>"


def _comparisons(rows: list[ReportRow], path: Path) -> tuple[dict[str, str], list[str]]:
    """Make the pages for what needs a look: where each is, from the report, by input; and notes."""
    from ..evaluation.page import comparison_page

    folder = _pages_folder(path)
    links: dict[str, str] = {}
    for row in rows:
        entry = row.entry
        if len(links) == PAGES or entry.summary.get("duration_s", 0) > LONGEST_COMPARED_S:
            continue
        folder.mkdir(exist_ok=True)
        (folder / MARKER).write_text("Made by gtcrn batch --report, which may replace its pages.\n")
        page = folder / f"{len(links) + 1:03d}.html"
        try:
            with fetched(entry.input) as noisy:
                if entry.output is None:
                    comparison_page(noisy, [], page)
                else:
                    with fetched(entry.output) as enhanced:
                        comparison_page(noisy, [enhanced], page)
        except (UserError, OSError):
            continue  # what cannot be read has its reason in the report
        links[entry.input] = f"{folder.name}/{page.name}"
    usual = f"{path.stem}_files"
    if not links or folder.name == usual:
        return links, []
    return links, [f"{usual} is no folder of a report: the pages are in {folder.name}"]


def _pages_folder(path: Path) -> Path:
    """A place for the pages of a report: a new folder, or one of an earlier report, emptied.

    Browsers call what they save with a page ``NAME_files``, too, and users what they like: a folder
    without the marker is somebody else's, and nothing in it is touched.
    """
    for number in itertools.count(1):
        folder = path.with_name(f"{path.stem}_files{f'-{number}' if number > 1 else ''}")
        if not os.path.lexists(folder):
            return folder
        if (folder / MARKER).is_file():
            break
    for page in folder.glob("[0-9][0-9][0-9].html"):
        page.unlink()
    (folder / MARKER).unlink()
    with suppress(OSError):  # something else is in it
        folder.rmdir()
    return folder


_WRITERS = {".json": _json, ".csv": _csv, ".html": _html, ".htm": _html}

# How the reports of this and of earlier versions begin.
_SIGNS = (b'{\n "gtcrn":', ",".join(COLUMNS[:4]).encode())
_TITLE = b"<title>gtcrn batch: "
