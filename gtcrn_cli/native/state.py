"""The state of a stream, taken apart into what the network knows by name, and put together."""

from __future__ import annotations

import numpy as np

from ..network.config import CHANNELS, DEEP_BANDS, DILATIONS
from .layout import STATE
from .packing import Array

BlockState = tuple[Array, Array]  # histories [C, 16, 2 * dilation, 33], hidden [C, 16]
_BLOCKS = list(
    zip(STATE._fields[1:4] + STATE._fields[6:9], DILATIONS + DILATIONS[::-1], strict=True)
)
_PATHS = STATE._fields[4:6]


def split_state(state: Array) -> tuple[list[BlockState], list[Array]]:
    """The parts of the kernel's state ``[C, S]``, shaped as `model.GTCRN` has them.

    Returns
    -------
    blocks
        Of the six grouped temporal blocks, in order; frames from old to new.
    hidden
        Of the two dual paths ``[C, 33, 16]``.
    """
    channels = len(state)
    frame = int(state[0, STATE.frame])
    blocks = []
    for name, dilation in _BLOCKS:
        part = _part(state, name)
        ring = part[:, :-CHANNELS].reshape(channels, 2 * dilation, DEEP_BANDS + 2, CHANNELS)
        history = np.roll(ring[:, :, 1:-1], -frame, axis=1).transpose(0, 3, 1, 2)
        blocks.append((np.ascontiguousarray(history), part[:, -CHANNELS:].copy()))
    paths = [_part(state, name).reshape(channels, DEEP_BANDS, CHANNELS) for name in _PATHS]
    return blocks, [path.copy() for path in paths]


def join_state(blocks: list[BlockState], hidden: list[Array]) -> Array:
    """The inverse of `split_state`."""
    channels = len(hidden[0])
    state = np.zeros((channels, STATE.size), np.float32)
    for (name, _), (history, memory) in zip(_BLOCKS, blocks, strict=True):
        ring = np.pad(history.transpose(0, 2, 3, 1), ((0, 0), (0, 0), (1, 1), (0, 0)))
        _part(state, name)[:] = np.concatenate([ring.reshape(channels, -1), memory], axis=1)
    for name, path in zip(_PATHS, hidden, strict=True):
        _part(state, name)[:] = path.reshape(channels, -1)
    return state


def _part(state: Array, name: str) -> Array:
    ends = [*STATE[1:], STATE.size]
    start = getattr(STATE, name)
    return state[:, start : ends[STATE._fields.index(name)]]
