"""GTCRN on the CPU: the network of `model.py` for T frames per call, in Numba.

The layers and their names are those of `model.py`; what differs, and why:

- Activations are ``[band, channel]``, the paper's transposed: the 16 channels of a band are one
  vector, and a convolution over k bands reads k * 16 numbers that lie in a row. Every convolution
  is then the same loop: for each input number, that number times the vector of its 16 weights.
- Three bands are computed at a time, so that a vector of weights is loaded once for three uses
  and three sums are under way at once; 33 = 11 * 3.
- Rows of bands have an empty band at either end, which is all that padding is.
- A few frames pass through a layer one after the other, then all of them through the next one: a
  recurrence makes a CPU wait for itself, and in the meantime it can work on another frame. What a
  frame gives is the same bit for bit, however many there are.
- The past frames of a temporal convolution are a ring: a new frame takes the oldest one's place.

`layout.py` says how weights and state are laid out. The pointers here know no bounds.
"""

from __future__ import annotations

import numpy as np

from ..network.config import BINS
from .bands import expand, features
from .dual_path import dual_paths
from .layers import conv0, conv1, deconv3, deconv4, gt_block
from .layout import (
    DUAL_PATH,
    FRAMES,
    FUSION,
    GT_BLOCK,
    PERIOD,
    ROOM,
    ROW,
    SKIPS,
    STATE,
    WEIGHTS,
    WIDE_ROW,
)
from .simd import Floats, at, clear_ends, function, inline, load, splat16, stack, store
from .skips import ALL_DEEP, ALL_WIDE, cache_skips, fuse, restore_two, restore_wide

MASK_ROW = 272  # real and imaginary part of 129 bands, in whole vectors
ALL_ROOM = FRAMES * ROOM.size
# Numba compiles a function once more for each literal it is given; these are no literals to it.
ONE, TWO, FIVE = np.int64(1), np.int64(2), np.int64(5)


# The network


@function
def few_masks(
    spectrum: Floats,
    step: int,
    w: Floats,
    state: Floats,
    mask: Floats,
    width: int,
    frames: int,
) -> None:
    """The masks ``[257, 2]``, `width` apart, of up to `FRAMES` frames ``[257, 2]``, `step` apart.

    `state` ``[STATE.size]`` goes on.
    """
    room = stack(ALL_ROOM)
    for t in range(frames):
        clear_padding(at(room, t * ROOM.size))
        frame, level = at(spectrum, t * step), at(state, STATE.level)
        features(frame, at(w, WEIGHTS.erb), level, at(room, t * ROOM.size))
    encode(room, w, state, frames)
    between(room, w, state, frames)
    take_skips(room, at(w, WEIGHTS.skips), frames)
    decode(room, w, state, frames)
    bands = stack(MASK_ROW)
    for t in range(frames):
        wide = at(room, t * ROOM.size + ROOM.wide)
        deconv4(at(wide, 32), at(w, WEIGHTS.deconv4), bands)
        expand(bands, at(w, WEIGHTS.erb), at(mask, t * width))
    number = int(load(state, STATE.frame))
    store(state, STATE.frame, float((number + frames) % PERIOD))


@inline
def clear_padding(room: Floats) -> None:
    clear_ends(at(room, ROOM.features), ROOM.level0 - ROOM.features, 16)
    clear_ends(at(room, ROOM.level0), WIDE_ROW, 32)
    clear_ends(at(room, ROOM.level1), ROW, 16)
    clear_ends(at(room, ROOM.level2), ROW, 16)
    clear_ends(at(room, ROOM.level3), ROW, 16)
    clear_ends(at(room, ROOM.fused), ROW, 16)
    clear_ends(at(room, ROOM.wide), WIDE_ROW, 32)


@function
def encode(room: Floats, w: Floats, state: Floats, frames: int) -> None:
    """Features to levels 0 to 4."""
    for t in range(frames):
        n = t * ROOM.size
        conv0(at(room, n), at(w, WEIGHTS.conv0), at(room, n + ROOM.level0 + 32))
    for t in range(frames):
        n = t * ROOM.size
        conv1(at(room, n + ROOM.level0), at(w, WEIGHTS.conv1), at(room, n + ROOM.level1 + 16))
    first = at(w, WEIGHTS.encoder)
    second, third = at(first, GT_BLOCK.size), at(first, 2 * GT_BLOCK.size)
    gt_blocks(room, ROOM.level1, first, state, STATE.level2, ONE, ROOM.level2, frames)
    gt_blocks(room, ROOM.level2, second, state, STATE.level3, TWO, ROOM.level3, frames)
    gt_blocks(room, ROOM.level3, third, state, STATE.level4, FIVE, ROOM.level4, frames)


@function
def gt_blocks(
    room: Floats,
    x: int,
    w: Floats,
    state: Floats,
    part: int,
    dilation: int,
    y: int,
    frames: int,
) -> None:
    frame = int(load(state, STATE.frame))
    gt_block(at(room, x), w, at(state, part), dilation, frame, at(room, y), frames)


@function
def between(room: Floats, w: Floats, state: Floats, frames: int) -> None:
    """The dual paths, from level 4 to what the decoder starts from."""
    first = at(w, WEIGHTS.dual_path)
    second = at(first, DUAL_PATH.size)
    x, y, z = at(room, ROOM.level4 + 16), at(room, ROOM.fused + 16), at(room, ROOM.below + 16)
    dual_paths(x, first, at(state, STATE.dual_path1), y, frames)
    dual_paths(y, second, at(state, STATE.dual_path2), z, frames)


@function
def take_skips(room: Floats, w: Floats, frames: int) -> None:
    """All that the decoder takes of the encoder, level by level."""
    is_prepared = load(w, SKIPS.prepares) > 0
    if is_prepared:
        for t in range(frames):
            cache_skips(at(room, t * ROOM.size), w)
    fusions, size = at(w, SKIPS.fusions), FUSION.size
    for level in range(1, 5, 2):
        one, other = at(fusions, level * size), at(fusions, (level + 1) * size)
        if load(one, FUSION.restores) + load(other, FUSION.restores) > 0:
            for t in range(frames):
                here = at(room, t * ROOM.size)
                y = at(here, ROOM.skip1 + (level - 1) * ROW)
                restore_two(here, one, other, y, at(y, ROW))
    if load(fusions, FUSION.restores) > 0:
        for t in range(frames):
            here = at(room, t * ROOM.size)
            restore_wide(here, fusions, is_prepared, at(here, ROOM.wide_skip))


@function
def decode(room: Floats, w: Floats, state: Floats, frames: int) -> None:
    """To 65 bands of 16 channels, all skips taken."""
    fusions = at(w, WEIGHTS.skips + SKIPS.fusions)
    first = at(w, WEIGHTS.decoder)
    second, third = at(first, GT_BLOCK.size), at(first, 2 * GT_BLOCK.size)
    fuse_level(room, fusions, 4, frames)
    gt_blocks(room, ROOM.fused, first, state, STATE.decoder0, FIVE, ROOM.below, frames)
    fuse_level(room, fusions, 3, frames)
    gt_blocks(room, ROOM.fused, second, state, STATE.decoder1, TWO, ROOM.below, frames)
    fuse_level(room, fusions, 2, frames)
    gt_blocks(room, ROOM.fused, third, state, STATE.decoder2, ONE, ROOM.below, frames)
    fuse_level(room, fusions, 1, frames)
    for t in range(frames):
        n = t * ROOM.size
        deconv3(at(room, n + ROOM.fused), at(w, WEIGHTS.deconv3), at(room, n + ROOM.wide + 32))
    for t in range(frames):
        here = at(room, t * ROOM.size)
        wide, level0 = at(here, ROOM.wide + 32), at(here, ROOM.level0 + 32)
        fuse(wide, level0, at(here, ROOM.wide_skip), fusions, ALL_WIDE, wide)
        store(wide, ALL_WIDE * 16, splat16(0.0))  # which may have been computed along


@function
def fuse_level(room: Floats, fusions: Floats, level: int, frames: int) -> None:
    w, row = at(fusions, level * FUSION.size), (level - 1) * ROW
    for t in range(frames):
        here = at(room, t * ROOM.size)
        below, mirror = at(here, ROOM.below + 16), at(here, ROOM.level1 + row + 16)
        fuse(below, mirror, at(here, ROOM.skip1 + row), w, ALL_DEEP, at(here, ROOM.fused + 16))


@function
def mask_frames(
    spectrum: Floats, w: Floats, states: Floats, mask: Floats, channels: int, frames: int
) -> None:
    """The mask ``[C, T, 257, 2]`` of spectrum ``[C, T, 257, 2]``; `states` ``[C, STATE.size]``."""
    row = 2 * BINS
    for channel in range(channels):
        state = at(states, channel * STATE.size)
        for t in range(0, frames, FRAMES):
            n, few = (channel * frames + t) * row, min(frames - t, FRAMES)
            few_masks(at(spectrum, n), row, w, state, at(mask, n), row, few)
