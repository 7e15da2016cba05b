"""What a user sees of a live session, and the keys that turn it."""

from __future__ import annotations

import io
import json
import os
import pty
import sys
import time
from dataclasses import replace
from queue import SimpleQueue

import pytest
from rich.console import Console

from gtcrn_cli.enhancement.enhancer import Settings
from gtcrn_cli.errors import UserError
from gtcrn_cli.live.keys import Keys, pressed_keys
from gtcrn_cli.live.screen import Screen, meter, picture
from gtcrn_cli.live.status import Controls, Counters, Status
from gtcrn_cli.live.views import JsonLines, Plain, Silent, line_of, summary_of
from gtcrn_cli.live.watch import watch

STATUS = Status(
    state="running",
    uptime_s=3725.4,
    input="USB Microphone",
    output="Headphones",
    sample_rate=48_000,
    level_in_db=-23.4,
    peak_in_db=-9.0,
    level_out_db=-31.2,
    peak_out_db=-12.0,
    removed_db=7.8,
    frame_ms=0.41,
    p99_ms=0.62,
    hop_ms=16.0,
    latency_ms=84.6,
    headroom_ms=31.0,
    drift_ppm=-37.2,
    strength=0.85,
    bypass=False,
    mute=False,
    recording=False,
    reopened=0,
    counters=Counters(),
)


def shown(status: Status, notes: list[str] | None = None, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, height=30, color_system=None)
    console.print(picture(status, notes or []))
    return console.file.getvalue()


def test_the_screen_shows_all_figures():
    screen = shown(STATUS)
    for text in (
        *("USB Microphone", "Headphones", "-23 dB", "-31 dB", "removed 8 dB", "strength 85 %"),
        *("0.41 of 16 ms", "latency 85 ms", "-37 ppm", "drops 0 ms", "1:02:05", "space", "quit"),
    ):
        assert text in screen
    assert max(map(len, screen.splitlines())) <= 80
    assert "BYPASS" not in screen


def test_the_screen_tells_states_and_notes():
    screen = shown(
        replace(STATUS, state="waiting", bypass=True, mute=True, recording=True),
        ["12:00:00 USB Microphone is gone: waiting for a device"],
    )
    for text in ("waiting", "BYPASS", "MUTE", "REC", "is gone", "r  stop", "bypassed"):
        assert text in screen


def test_a_long_name_breaks_nothing():
    screen = shown(replace(STATUS, input="A very long name of a microphone " * 3), ["x" * 300])
    assert len(screen.splitlines()) == len(shown(STATUS, ["x"]).splitlines())


@pytest.mark.parametrize(
    ("level_db", "peak_db", "bars", "mark"),
    [(-120, -120, 0, None), (-30, -15, 20, 29), (0, 3, 40, None), (-60, -59, 0, 0)],
)
def test_a_meter(level_db: float, peak_db: float, bars: int, mark: int | None):
    cells = meter(level_db, peak_db).plain
    assert len(cells) == 40
    assert cells.count("█") == bars
    assert (cells.find("▌") if mark is not None else None) == mark


def test_keys_are_read_from_a_terminal(monkeypatch: pytest.MonkeyPatch):
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        monkeypatch.setattr(os, "tcgetpgrp", lambda _: os.getpgrp())
        with pressed_keys() as keys:
            os.write(ours, b" mM\x1b[A\x1b[Bx\x1bOArq")
            pressed, end = [], time.monotonic() + 10
            while len(pressed) < 8 and time.monotonic() < end:
                pressed += keys.read()
            assert keys.read() == []
    os.close(ours)
    assert pressed == ["bypass", "mute", "mute", "up", "down", "up", "record", "quit"]


def test_no_keys_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(" q"))
    with pressed_keys() as keys:
        assert keys.read() == []


class FakeSession:
    """Runs as long as it is watched."""

    def __init__(self) -> None:
        self.controls = Controls(Settings())
        self.running = False
        self.recorded = 0

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False

    def status(self) -> Status:
        return STATUS

    def toggle_recording(self) -> None:
        self.recorded += 1


@pytest.mark.slow
def test_keys_turn_the_session_and_q_ends_it(monkeypatch: pytest.MonkeyPatch):
    session = FakeSession()
    turns = [["bypass"], ["mute", "down", "down"], ["up", "record"], ["quit"]]
    monkeypatch.setattr(Keys, "read", lambda _: turns.pop(0))
    watch(session, Silent())
    assert session.controls.bypass
    assert session.controls.mute
    assert session.controls.settings.strength == 0.95
    assert session.recorded == 1
    assert not session.running


def test_strength_stays_within_its_range():
    controls = Controls(Settings())
    controls.change_strength(0.05)
    assert controls.settings.strength == 1
    for _ in range(30):
        controls.change_strength(-0.05)
    assert controls.settings.strength == 0


def test_it_ends_when_the_time_is_up(capsys: pytest.CaptureFixture):
    view = Plain()
    view.period_s = 0.1
    watch(FakeSession(), view, duration_s=0.35)
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == line_of(STATUS)
    assert 2 <= len(out.splitlines()) <= 4
    assert err.splitlines() == [f"gtcrn: {summary_of(STATUS)}"]


def test_notes_of_the_session_are_shown(capsys: pytest.CaptureFixture):
    notes: SimpleQueue[str] = SimpleQueue()
    notes.put("a device is gone")
    watch(FakeSession(), JsonLines(), duration_s=0.0, notes=notes)
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event.get("text") for event in events] == ["a device is gone", None]
    assert notes.empty()


def test_notes_are_shown_though_the_end_fails(capsys: pytest.CaptureFixture):
    class Hung(FakeSession):
        def stop(self) -> None:
            notes.put("recorded until here: a.partial.wav")
            raise UserError("a driver hangs")

    notes: SimpleQueue[str] = SimpleQueue()
    with pytest.raises(UserError, match="hangs"):
        watch(Hung(), Plain(), duration_s=0.0, notes=notes)
    assert "recorded until here: a.partial.wav" in capsys.readouterr().err


def test_json_lines_can_be_read(capsys: pytest.CaptureFixture):
    view = JsonLines()
    view.note("a device is gone")
    watch(FakeSession(), view, duration_s=0.0)
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["note", "end"]
    assert events[1]["latency_ms"] == 84.6
    assert events[1]["underruns"] == 0


def test_the_screen_leaves_its_notes_behind(capfd: pytest.CaptureFixture):
    screen = Screen()
    with screen:
        screen.show(STATUS)
        os.write(2, b"ALSA lib pcm.c: underrun occurred\n")
        screen.note("a device is gone")
        screen.end(STATUS)
    err = capfd.readouterr().err
    assert "ALSA" not in err
    assert "a device is gone" in err
    assert summary_of(STATUS) in err


def test_gaps_are_advised_on():
    gappy = replace(STATUS, counters=Counters(underruns=3, dropped=4800))
    assert "--latency" in summary_of(gappy)
    assert "3 gaps, 100 ms dropped" in summary_of(gappy)
    assert "--latency" not in summary_of(STATUS)
