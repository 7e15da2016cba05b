"""`gtcrn bench --callers`."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from gtcrn_cli.bench.callers import RATES_HZ, Callers, to_table
from gtcrn_cli.bench.results import HopTimes
from gtcrn_cli.cli import app


def test_it_measures_every_rate():
    done = CliRunner().invoke(app, ["bench", "--callers", "3", "--seconds", "1", "--json"])
    assert done.exit_code == 0, done.output
    measured = json.loads(done.stdout)
    assert [one["sample_rate"] for one in measured] == list(RATES_HZ)
    for one in measured:
        assert one["count"] == 3
        assert one["speed"] > 1
        assert 0 < one["push"]["p50"] <= one["push"]["p99"] <= one["push"]["max"]


def test_the_table():
    text = to_table([Callers(16_000, 100, 321.4, HopTimes(12.3, 45.6, 78.9, 13.0))])
    assert text.splitlines()[-1] == "| 100 | 16,000 | 321 | 3.1 | 12 | 46 | 79 |"
