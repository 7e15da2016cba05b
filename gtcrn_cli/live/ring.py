"""Sound between threads: rings that never block a callback, and what feeds the output.

A callback of the sound card must return within a fraction of a millisecond, whatever the rest of
the program does. So it takes no lock and computes next to nothing: it copies to or from a ring.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import numpy as np

from ..signals import Samples

PRIORITY = 5  # of real-time threads: above everything ordinary, below the sound server's
NICENESS = -11  # where that is not allowed


def make_realtime() -> None:
    """Have this thread, and those it starts, run before others, as far as the system lets us.

    All that run Python need it, for each may have to wait for another that holds the interpreter.
    Only on Linux: elsewhere PortAudio's callbacks have their priority from the system.
    """
    if sys.platform != "linux":
        return
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(PRIORITY))
    except OSError:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, NICENESS)


class Ring:
    """Samples between one writing and one reading thread. Neither waits for the other.

    The writer always finds room: what is not read in time is overwritten. The reader drops the
    oldest samples itself, with `trim`, before so much is waiting.

    Parameters
    ----------
    capacity
        Samples it holds. Much more than the reader lets wait.
    channels
        Of the samples.

    Attributes
    ----------
    written, taken
        Samples so far.
    touched_s
        When the sound card's side last wrote or read, by its clock.
    """

    def __init__(self, capacity: int, channels: int) -> None:
        self._samples = np.zeros((capacity, channels), np.float32)
        self.written = 0
        self.taken = 0
        self.touched_s = 0.0

    @property
    def channels(self) -> int:
        """Of the samples."""
        return self._samples.shape[1]

    @property
    def fill(self) -> int:
        """Samples that wait to be taken."""
        return self.written - self.taken

    def write(self, block: Samples) -> None:
        """Append samples ``[N, C]``."""
        capacity = len(self._samples)
        block = block[-capacity:]
        start = self.written % capacity
        first = min(len(block), capacity - start)
        self._samples[start : start + first] = block[:first]
        if first < len(block):
            self._samples[: len(block) - first] = block[first:]
        self.written += len(block)  # last: from here on the reader sees them

    def trim(self, keep: int) -> int:
        """Drop all but the newest `keep` samples: how many those are."""
        dropped = max(0, self.fill - keep)
        self.taken += dropped
        return dropped

    def take(self, count: int) -> Samples:
        """The next `count` samples, of those that wait: ``[count, C]``, a copy."""
        capacity = len(self._samples)
        start = self.taken % capacity
        first = min(count, capacity - start)
        block = self._samples[start : start + first].copy()
        if first < count:
            block = np.concatenate([block, self._samples[: count - first]])
        self.taken += count
        return block


class Player:
    """What the output callback does: play what is in a ring, and never a click.

    It starts when `start_at` samples wait, with a fade. When the ring runs dry it ends what it
    plays with a fading, mirrored repeat, then is silent until `start_at` samples wait again; what
    waits beyond that is dropped at that moment, so after every gap the delay is the same.

    Parameters
    ----------
    ring
        Enhanced samples; of one channel (for all outputs) or as many as the output.
    fade
        Samples of a fade.
    start_at
        Samples that wait before it starts; may still be set before it is used.
    most
        If more wait, the oldest are dropped; likewise.
    spare
        Samples that should be left after a callback; likewise.

    Attributes
    ----------
    playing
        Whether the ring's samples are heard.
    underruns, overruns
        How often it ran dry, and ran over.
    dropped
        Samples dropped before a start.
    queued
        Samples handed to the device, beyond the ring, that it had not played at `ring.touched_s`;
        0 where nobody can tell.
    buffered
        The device holds a queue of its own, and notes what is left there.
    lowest
        The fewest samples that waited after a callback since somebody reset it to ``None``.
    """

    def __init__(
        self, ring: Ring, fade: int, start_at: int = 0, most: int = 0, spare: int = 0
    ) -> None:
        self.ring = ring
        self.start_at = start_at
        self.most = most
        self.spare = spare
        self.playing = False
        self.underruns = 0
        self.overruns = 0
        self.dropped = 0
        self.queued = 0
        self.buffered = False
        self.lowest: int | None = None
        self._finishing = False
        self._fade_in = np.linspace(0, 1, fade, dtype=np.float32)[:, None]
        self._recent = np.zeros((fade, ring.channels), np.float32)  # the last samples played

    def play(self, out: Samples, now_s: float) -> None:
        """Fill ``out [N, channels of the device]``."""
        self.ring.touched_s = now_s
        if not self.playing:
            self._start(out)
        elif self.ring.fill < len(out):
            self.underruns += not self._finishing
            self._end(out)
        elif self.ring.fill > self.most:
            self.cut(out)
        else:
            out[:] = self._take(len(out))
            if not self.buffered:
                self.left_over(self.ring.fill)

    def left_over(self, count: int) -> None:
        """Note that so many samples were left."""
        if self.lowest is None or count < self.lowest:
            self.lowest = count

    def cut(self, out: Samples) -> None:
        """So much waits that it is not worth playing: fade out in `out`, and begin anew."""
        self.overruns += 1
        self._end(out)

    def ran_dry(self) -> None:
        """The device has played silence where the ring's samples should have come."""
        self.underruns += not self._finishing
        self.playing = False
        self._recent = np.zeros_like(self._recent)

    def finish(self) -> None:
        """No more is to come: running dry is no fault any more."""
        self._finishing = True

    def _start(self, out: Samples) -> None:
        enough = max(self.start_at, len(out))
        if self.ring.fill < enough or self._finishing:
            out[:] = 0
            return
        self.dropped += self.ring.trim(enough)
        out[:] = self._take(len(out))
        length = min(len(out), len(self._fade_in))
        out[:length] *= self._fade_in[:length]
        self.playing = True

    def _end(self, out: Samples) -> None:
        count = min(self.ring.fill, len(out))
        out[:count] = self._take(count)
        # Mirrored, the repeat begins with the value that the sound ended on.
        tail = self._recent[::-1] * (1 - self._fade_in)
        length = min(len(tail), len(out) - count)
        if length < len(tail):  # no room for the fade: fade what is still there instead
            ramp = np.linspace(1, 0, len(out), dtype=np.float32)[:, None]
            out[count:] = tail[:length]
            out *= ramp
        else:
            out[count : count + length] = tail
            out[count + length :] = 0
        self.playing = False
        self._recent = np.zeros_like(self._recent)

    def _take(self, count: int) -> Samples:
        block = self.ring.take(count)
        fade = len(self._recent)
        recent = block if count >= fade else np.concatenate([self._recent, block])
        self._recent = recent[-fade:]
        return block
