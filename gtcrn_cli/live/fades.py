"""Changes without a click: where input was dropped, and when the sound is muted."""

from __future__ import annotations

import numpy as np

from ..signals import Samples


class Splicer:
    """Joins what comes after a piece that was dropped to what came before it, by a cross-fade.

    Parameters
    ----------
    length
        Samples of the cross-fade; a block has at least as many.
    channels
        Of the samples.
    """

    def __init__(self, length: int, channels: int) -> None:
        self._fade_in = np.linspace(0, 1, length, dtype=np.float32)[:, None]
        self._recent = np.zeros((length, channels), np.float32)

    def push(self, block: Samples, spliced: bool) -> Samples:
        """Take the next block ``[N, C]``; `spliced` says that something before it is missing."""
        length = len(self._fade_in)
        if spliced:
            block = block.copy()
            # Mirrored, the end of the old goes on with the value that it ended on.
            block[:length] *= self._fade_in
            block[:length] += self._recent[::-1] * (1 - self._fade_in)
        self._recent = block[-length:]
        return block


class Mute:
    """Mutes and unmutes over the length of a block."""

    def __init__(self) -> None:
        self._gain = np.float32(1)

    def push(self, block: Samples, muted: bool) -> Samples:
        """The block, or silence, or what leads from one to the other."""
        wanted = np.float32(0 if muted else 1)
        if self._gain == wanted:
            return np.zeros_like(block) if muted else block
        ramp = np.linspace(self._gain, wanted, len(block), dtype=np.float32)[:, None]
        self._gain = wanted if len(block) else self._gain
        return block * ramp
