"""The log of a training, and its curve on a terminal."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from support.training import PLAN, Halves, kept_run, run_training, stopped

from gtcrn_cli.cli import train as command
from gtcrn_cli.errors import UserError
from gtcrn_cli.training import loop
from gtcrn_cli.training.log import Log

pytestmark = pytest.mark.slow  # most of them train


def logged(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_of_a_resumed_run_are_means_of_its_steps(
    tmp_path: Path, halves: Halves, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    run_training(tmp_path / "each", halves)
    each = [float(row["loss"]) for row in logged(tmp_path / "each" / "log.csv") if row["loss"]]
    monkeypatch.setattr(loop, "LOG_EVERY", 4)
    stopped(tmp_path / "run", halves, PLAN, 3)
    run_training(tmp_path / "run", halves)
    row, *_ = logged(tmp_path / "run" / "log.csv")
    assert float(row["loss"]) == pytest.approx(each[3], rel=1e-4)


def test_the_speed_is_that_of_the_steps(
    tmp_path: Path, halves: Halves, monkeypatch: pytest.MonkeyPatch
):
    now_s = 0.0
    rows: list[dict[str, float]] = []

    def pass_time(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds

    def validate(*_: object) -> dict[str, float]:
        pass_time(100)
        return {"valid_loss": 1.0}

    monkeypatch.setattr(loop.time, "monotonic", lambda: now_s)
    monkeypatch.setattr(loop, "validate", validate)
    monkeypatch.setattr(loop, "LOG_EVERY", 2)
    run_training(
        tmp_path, halves, validate_every=1, report=rows.append, observe=lambda *_: pass_time(1)
    )
    assert [row["times_real_time"] for row in rows if "loss" in row] == [0.5, 0.5]


def test_a_log_begins_with_its_columns(tmp_path: Path):
    (tmp_path / "log.csv").touch()
    kept_run(tmp_path)
    Log(tmp_path / "log.csv", lambda row: None)({"step": 1, "loss": 2})
    assert logged(tmp_path / "log.csv") == [
        {**dict.fromkeys(Log.columns, ""), "step": "1", "loss": "2"}
    ]


def test_rows_come_under_the_columns_that_are_there(tmp_path: Path):
    """Of an earlier version, and after a row that a power cut left without an end."""
    path = tmp_path / "log.csv"
    path.write_text("step,hours,loss,rate\n1,0.1,9,8\n2,0.2")
    log = Log(path, lambda row: None)
    for step in (2, 3):
        log({"step": step, "hours": 0.5, "loss": 7, "quality": 6})
    assert [tuple(row.values())[:3] for row in logged(path)][2:] == [
        ("2", "0.5", "7"), ("3", "0.5", "7"),
    ]  # fmt: skip


@pytest.mark.parametrize("head", ["st", "step,hours,rate,lo", "step;hours\n1;2\n"])
def test_half_a_head_gets_no_rows(head: str, tmp_path: Path):
    (tmp_path / "log.csv").write_text(head)
    with pytest.raises(UserError, match=r"log\.csv exists, and is no log of a run"):
        kept_run(tmp_path)
    assert (tmp_path / "log.csv").read_text() == head


def test_a_curve_leaves_out_what_is_no_number():
    assert command._sparkline([1.0, float("nan"), 3.0, float("inf")]) == "▁█"
    assert command._sparkline([float("nan")]) == ""
