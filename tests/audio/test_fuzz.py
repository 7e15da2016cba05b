"""Damaged recordings: a short run of `tools/fuzz.py`, which has the rest."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support.places import PROJECT

FUZZ = PROJECT / "tools" / "fuzz.py"


@pytest.mark.slow
@pytest.mark.skipif(not FUZZ.exists(), reason="the tools are not here")
def test_no_damage_loses_sound_without_a_word():
    done = subprocess.run(
        [sys.executable, FUZZ, "--count", "40", "--seed", "11"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2_000:]
    assert done.stdout.startswith("40 cases")
