"""Reading and writing beside the work in between, in threads of their own, in order."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ..signals import Samples

WAITING = 2  # blocks between two threads: bounds memory
_END = object()


@contextmanager
def ahead(blocks: Iterator[Samples]) -> Iterator[Iterator[Samples]]:
    """The same blocks, each read while the one before is worked on.

    What goes wrong with reading is raised where the block would have come. Left early, the thread
    is not waited for: it may be in the middle of a read from a pipe that never ends.
    """
    waiting: queue.Queue[Any] = queue.Queue(WAITING)
    left = threading.Event()

    def read() -> None:
        try:
            for block in blocks:
                waiting.put((block, None))
                if left.is_set():
                    return
            waiting.put((_END, None))
        except BaseException as error:
            waiting.put((_END, error))

    def taken() -> Iterator[Samples]:
        while True:
            block, error = waiting.get()
            if error is not None:
                raise error
            if block is _END:
                return
            yield block

    thread = threading.Thread(target=read, name="gtcrn-read", daemon=True)
    thread.start()
    try:
        yield taken()
    finally:
        left.set()
        while thread.is_alive() and not waiting.empty():  # it may wait for room
            waiting.get_nowait()


class Behind:
    """Writes blocks while the next ones are worked on. Used as a context.

    Parameters
    ----------
    write
        Takes a block.
    may_stall
        Whether a write may wait without end for somebody else, such as the reader of a pipe. Where
        something goes wrong, such a write is left to itself.
    """

    def __init__(self, write: Callable[[Samples], None], may_stall: bool = False) -> None:
        self._write = write
        self._may_stall = may_stall
        self._waiting: queue.Queue[Samples | None] = queue.Queue(WAITING)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="gtcrn-write", daemon=True)
        self._thread.start()

    def put(self, block: Samples) -> None:
        """Hand over a block; raises what went wrong with an earlier one."""
        self._raise()
        self._waiting.put(block)

    def drain(self) -> None:
        """Wait until all is written; raises what went wrong."""
        self._waiting.join()
        self._raise()

    def _run(self) -> None:
        while (block := self._waiting.get()) is not None:
            if self._error is None:
                try:
                    self._write(block)
                except BaseException as error:
                    self._error = error
            self._waiting.task_done()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Behind:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Let the thread end: after its last block, or at once where something went wrong.

        Then what waits is not written any more, and nothing here waits for room among it.
        """
        if kind is None:
            self._waiting.put(None)
            self._thread.join()
            return
        if self._error is None:
            self._error = InterruptedError()
        while self._thread.is_alive():
            with suppress(queue.Full):
                self._waiting.put_nowait(None)
                break
            with suppress(queue.Empty):
                self._waiting.get_nowait()
        if not self._may_stall:  # else a file would be closed in the middle of a write
            self._thread.join()
