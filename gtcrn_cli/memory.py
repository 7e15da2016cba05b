"""How the C library handles the memory of arrays that come and go with every block."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # as glibc's malloc.h has them


def keep_freed_memory() -> None:
    """Let this process keep what one block freed for the next one.

    glibc gives larger pieces back to the system, and they come again as page faults, one for every
    4 KiB: a quarter of the time of `gtcrn denoise` on 48 kHz stereo. Dask starts workers that give
    back still more (``MALLOC_TRIM_THRESHOLD_``). Elsewhere this does nothing.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # other C libraries have no mallopt
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(M_TRIM_THRESHOLD, 128 << 20)
            libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)
