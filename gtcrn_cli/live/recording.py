"""Recordings of both sides of a session, written while it runs."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

from ..audio.files import FileSink
from ..audio.formats import Encoding, encoding_for
from ..errors import UserError
from ..signals import Samples

Note = Callable[[str], None]

RECORDED_AS = Encoding("WAV", "PCM_24")  # unless the file's name says otherwise
QUEUED_BLOCKS = 4096  # over a minute of recording that waits for the disk
SAVE_S = 1.0  # how much of a recording a kill or a power cut may cost


class Recording:
    """Writes both sides of a stream to files, sample by sample aligned, from a thread of its own.

    Every second the files are brought to a state in which any program can open them, so a kill
    costs no more than that.

    Parameters
    ----------
    input_path, output_path
        Where to; ``None`` for a side that is not wanted.
    sample_rate, channels
        Of the stream.
    note
        Told when the disk fails.
    overwrite
        Replace existing files.

    Raises
    ------
    UserError
        A file cannot be written, or is not to be replaced.
    """

    def __init__(
        self,
        input_path: str | None,
        output_path: str | None,
        sample_rate: int,
        channels: int,
        note: Note,
        overwrite: bool = False,
    ) -> None:
        self.shape = (sample_rate, channels)
        self.ending = False
        self._skip: int | None = None  # output samples to come of a time before the start
        self._owed = 0  # output samples to come of input that is recorded
        self._note = note
        self._finished = self._failed = False
        self._blocks: queue.Queue[tuple[Samples, Samples]] = queue.Queue(QUEUED_BLOCKS)
        self._sinks: list[FileSink | None] = []
        with ExitStack() as opened:
            for path in (input_path, output_path):
                sink = None
                if path is not None:
                    encoding = encoding_for(path, RECORDED_AS)
                    sink = FileSink(path, sample_rate, channels, encoding, overwrite=overwrite)
                    opened.push(sink)
                self._sinks.append(sink)
            opened.pop_all()
        self._thread = threading.Thread(target=self._write, name="recording")
        self._thread.start()

    def add(self, noisy: Samples, enhanced: Samples, ahead: int) -> bool:
        """Take a block of both sides.

        Parameters
        ----------
        noisy, enhanced
            What was pushed into the Enhancer and what it returned.
        ahead
            Samples that it held before.

        Returns
        -------
        Whether it wants more; False once it is to end and the output has caught up, or the disk
        has failed.
        """
        if self._failed:
            return False
        if self._skip is None:
            self._skip = ahead
        if self.ending:
            noisy = noisy[:0]
        first = min(self._skip, len(enhanced))
        self._skip -= first
        self._owed += len(noisy)
        enhanced = enhanced[first:][: self._owed]
        self._owed -= len(enhanced)
        try:
            self._blocks.put_nowait((noisy, enhanced))
        except queue.Full:
            self._note("the disk is too slow: the recording ends here")
            return False
        return not (self.ending and self._owed == 0)

    def finish(self) -> None:
        """No more is to come. Does not wait."""
        self._finished = True

    def join(self) -> None:
        """Wait until everything is written and the files have their names."""
        self._thread.join()

    def _write(self) -> None:
        sinks = [sink for sink in self._sinks if sink is not None]
        saved_s = time.monotonic()
        try:
            for blocks in self._incoming():
                for sink, block in zip(self._sinks, blocks, strict=True):
                    if sink is not None:
                        sink.write(block)
                if time.monotonic() - saved_s > SAVE_S:
                    saved_s = time.monotonic()
                    for sink in sinks:
                        sink.make_playable()
            for sink in sinks:
                with sink:
                    pass
        except UserError as error:
            self._failed = True
            kept = ", ".join(sink.keep_partial() for sink in sinks)
            self._note(f"{error}; recorded until here: {kept}")
            for _ in self._incoming():
                pass

    def _incoming(self) -> Iterator[tuple[Samples, Samples]]:
        while not (self._finished and self._blocks.empty()):
            with suppress(queue.Empty):
                yield self._blocks.get(timeout=0.1)
