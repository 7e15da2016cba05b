"""Memory that was freed is used again, also where the environment asks to give it back."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from gtcrn_cli.memory import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
for round in range(101):
    block = [np.ones(100_000, np.float32) for _ in range(4)]
    del block
    if round == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Page faults of a hundred blocks, in a process as Dask starts it."""
    environment = os.environ | {"MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", FAULTS, how]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(result.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is told")
def test_blocks_do_not_fault_their_memory_in_again():
    given_back = faults("give back")
    if given_back < 1000:
        pytest.skip("this C library keeps freed memory anyway")
    assert faults("keep") < given_back / 10
