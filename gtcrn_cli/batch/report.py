"""What a batch did: as JSON and CSV for machines, as a page for people.

The page is one file that needs no network, and lists the files that need a look first. Beside it,
in a folder, are pages to listen to those and to compare them.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .. import __version__
from ..errors import UserError
from ..paths import write_whole
from .run import STATUSES, Entry, Result
from .storage import fetched, is_url

SILENT_DB = -70.0
MUCH_REMOVED_DB = 6.0
MOST_REMOVED = 10  # files
PAGES = 50  # to compare
ROWS = 5000  # of the table of all files
LONGEST_COMPARED_S = 1800.0  # beyond that a page with the sound in it is nothing for a browser

COLUMNS = (
    *("input", "output", "status", "look", "reason", "duration_s"),
    *("level_in_db", "level_out_db", "removed_db", "clipped", "replaced"),
    *("sample_rate", "channels", "speed", "notes"),
)


@dataclass(frozen=True)
class Row:
    """An entry, and why somebody should look at it."""

    entry: Entry
    look: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain data; summaries name temporary files where locations are remote."""
        entry = self.entry
        facts = {k: v for k, v in entry.summary.items() if k not in ("input", "output")}
        named = {"input": entry.input, "output": entry.output, "status": entry.status}
        why = {"look": self.look, "reason": entry.reason}
        return named | why | ({"trace": entry.trace} if entry.trace else {}) | facts


def require_report(path: Path) -> None:
    """Refuse a report that cannot be written, before hours of work.

    Raises
    ------
    UserError
        Its ending is none of ours, or its folder is missing.
    """
    if path.suffix.lower() not in _WRITERS:
        raise UserError(f"{path}: a report is a .json, .csv or .html")
    if not path.absolute().parent.is_dir():
        raise UserError(f"the folder {path.absolute().parent} does not exist: make it first")


def write_report(result: Result, path: Path) -> None:
    """Write a report of the kind that its name says; one that is there is replaced.

    Raises
    ------
    UserError
        It cannot be written.
    """
    rows = rows_of(result)
    text = _WRITERS[path.suffix.lower()](result, rows, path)
    write_whole(path, text.encode("utf-8", "backslashreplace"))


def rows_of(result: Result) -> list[Row]:
    """All entries by name, with what is to be said of each."""
    removed = [e.summary["removed_db"] for e in result.entries if e.summary]
    most = sorted(removed, reverse=True)[:MOST_REMOVED]
    limit_db = max(MUCH_REMOVED_DB, most[-1] if most else 0)
    rows = [Row(entry, _look(entry, limit_db)) for entry in result.entries]
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


def _json(result: Result, rows: list[Row], path: Path) -> str:
    order = result.order
    facts = {
        "gtcrn": __version__,
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
    return json.dumps(facts, indent=1) + "\n"


def _csv(result: Result, rows: list[Row], path: Path) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        facts = row.to_dict()
        writer.writerow({k: "; ".join(v) if isinstance(v, list) else v for k, v in facts.items()})
    return text.getvalue()


def _html(result: Result, rows: list[Row], path: Path) -> str:
    need = [row for row in rows if row.look]
    links = _comparisons(need, path)
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
    root = f"{source}/" if isinstance(source, str) else ""
    return _PAGE.format(
        source=escape(source if isinstance(source, str) else "a list of files"),
        output=escape(result.order.output),
        cards="".join(f"<div><b>{value}</b>{what}</div>" for value, what in cards),
        need=_table(need, links, path, root) if need else "<p>None.</p>",
        need_count=len(need),
        count=len(rows),
        table=_table(rows[:ROWS], links, path, root),
        more=f"<p>{more} more are in a .json or .csv report.</p>" if more > 0 else "",
        version=__version__,
        model=result.model.checkpoint.digest[:12],
    )


HEADINGS = (
    "file",
    "status",
    "needs a look",
    "length (s)",
    "in (dB)",
    "out (dB)",
    "removed (dB)",
)


def _table(rows: list[Row], links: dict[str, str], path: Path, root: str) -> str:
    head = "".join(f'<th aria-sort="none"><button>{name}</button></th>' for name in HEADINGS)
    lines = "".join(_line(row, links, path, root) for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _line(row: Row, links: dict[str, str], path: Path, root: str) -> str:
    entry, facts = row.entry, row.entry.summary
    name = escape(entry.input.removeprefix(root))
    if entry.input in links:
        name = f'<a href="{quote(links[entry.input])}">{name}</a>'
    elif entry.output is not None and not is_url(entry.output):
        target = os.path.relpath(entry.output, path.absolute().parent)
        name = f'<a href="{quote(os.fsencode(target))}">{name}</a>'
    look = escape(entry.reason or "; ".join(row.look))
    numbers = "".join(
        f'<td class="n">{facts[key]:.1f}</td>' if facts else "<td></td>"
        for key in ("duration_s", "level_in_db", "level_out_db", "removed_db")
    )
    status = f'<td class="{entry.status}">{entry.status}</td>'
    return f"<tr><td>{name}</td>{status}<td>{look}</td>{numbers}</tr>"


def _comparisons(rows: list[Row], path: Path) -> dict[str, str]:
    """Make the pages for what needs a look: where each is, from the report, by input."""
    from ..evaluation.page import comparison_page

    folder = path.with_name(f"{path.stem}_files")
    links: dict[str, str] = {}
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier report of this name
    for row in rows:
        entry = row.entry
        if len(links) == PAGES or entry.summary.get("duration_s", 0) > LONGEST_COMPARED_S:
            continue
        folder.mkdir(exist_ok=True)
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
    return links


_WRITERS = {".json": _json, ".csv": _csv, ".html": _html, ".htm": _html}

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>gtcrn batch: {output}</title>
<style>
:root {{ color-scheme: light dark; --line: #8884; --bad: #c22; --good: #2a7d3c; --link: #0b62c4 }}
@media (prefers-color-scheme: dark) {{
  :root {{ --bad: #ff7b72; --good: #6fca83; --link: #6cb2ff }}
}}
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em }}
h1 {{ font-size: 1.5em; margin: 0 }} h2 {{ font-size: 1.15em; margin-top: 2em }}
p {{ overflow-wrap: anywhere }} a {{ color: var(--link) }} footer {{ opacity: .7; margin: 2em 0 }}
.cards {{ display: flex; flex-wrap: wrap; gap: .6em; margin: 1.2em 0 }}
.cards div {{ border: 1px solid var(--line); border-radius: .5em; padding: .4em 1em }}
.cards b {{ display: block; font-size: 1.3em }}
.scroll {{ overflow-x: auto }} table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; padding: .3em .7em .3em 0; border-bottom: 1px solid var(--line);
  vertical-align: top }}
td:first-child {{ overflow-wrap: anywhere; min-width: 9em }}
.n {{ text-align: right; font-variant-numeric: tabular-nums }}
.failed {{ color: var(--bad) }} .done, .unchanged {{ color: var(--good) }}
th button {{ font: inherit; font-weight: 600; color: inherit; background: none; border: 0;
  padding: 0; cursor: pointer; white-space: nowrap }}
th[aria-sort=ascending] button::after {{ content: " \\2191" }}
th[aria-sort=descending] button::after {{ content: " \\2193" }}
summary {{ cursor: pointer }} summary h2 {{ display: inline-block }}
</style>
<h1>What was enhanced</h1>
<p>{source} &rarr; {output}</p>
<div class="cards">{cards}</div>
<h2>{need_count} need a look</h2>
<p>Failed, silent, clipped, damaged, or the most removed. A name leads to a page to listen and
compare, or to the enhanced file.</p>
{need}
<details><summary><h2>All {count} files</h2></summary>
{table}
{more}
</details>
<footer>gtcrn {version}, model {model}</footer>
<script>
for (const button of document.querySelectorAll("th button")) button.onclick = () => {{
  const head = button.parentElement, row = head.parentElement;
  const up = head.ariaSort !== "ascending", at = [...row.children].indexOf(head);
  for (const other of row.children) other.ariaSort = "none";
  head.ariaSort = up ? "ascending" : "descending";
  const body = row.closest("table").tBodies[0];
  const text = (line) => line.children[at].textContent;
  const number = (line) => parseFloat(text(line) || "-999");
  const order = (a, b) => at > 2 ? number(a) - number(b)
    : text(a).localeCompare(text(b), undefined, {{numeric: true}});
  body.append(...[...body.rows].sort((a, b) => up ? order(a, b) : order(b, a)));
}};
</script>
</html>
"""
