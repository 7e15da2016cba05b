"""GTCRN on the CPU: the network of `model.py` for T frames per call, in Numba.

The layers and their names are those of `model.py`; what differs, and why:

- Activations are ``[band, channel]``, the paper's transposed: the 16 channels of a band are one
  vector, and a convolution over k bands reads k * 16 numbers that lie in a row. Every convolution
  is then the same loop: for each input number, that number times the vector of its 16 weights.
- Three bands are computed at a time, so that a vector of weights is loaded once for three uses
  and three sums are under way at once; 33 = 11 * 3.
- Rows of bands have an empty band at either end, which is all that padding is.
- One frame passes through all layers before the next one starts: all that a frame touches stays in
  the first-level cache, and the result cannot depend on how many frames a call has.
- The past frames of a temporal convolution are a ring: a new frame takes the oldest one's place.

`layout.py` says how weights and state are laid out. The pointers here know no bounds.
"""

from __future__ import annotations

import numpy as np

from ..network.config import BANDS, BINS
from .layers import conv0, conv1, deconv3, deconv4, dual_path, expand, features, gt_block
from .layout import DUAL_PATH, FUSION, GT_BLOCK, PERIOD, ROW, SKIPS, STATE, WEIGHTS
from .simd import Floats, at, function, load, stack, store
from .skips import ALL_DEEP, ALL_WIDE, WIDE_ROW, cache_skips, fuse

FEATURE_ROW = (3 + BANDS + 3) * 4  # magnitude, real, imaginary, unused; conv0 reaches 3 bands
MASK_ROW = 272  # real and imaginary part of 129 bands, in whole vectors
SKIP_ROWS = WIDE_ROW + 4 * ROW  # all encoder levels, shallowest first
# Numba compiles a function once more for each literal it is given; these are no literals to it.
ONE, TWO, FIVE = np.int64(1), np.int64(2), np.int64(5)


# The network


@function
def mask_frame(spectrum: Floats, w: Floats, state: Floats, mask: Floats) -> None:
    """The mask ``[257, 2]`` of one frame ``[257, 2]``; `state` ``[STATE.size]`` goes on."""
    frame = int(load(state, STATE.frame))
    store(state, STATE.frame, float((frame + 1) % PERIOD))

    x = stack(FEATURE_ROW)
    features(spectrum, at(w, WEIGHTS.erb), x)
    skips = stack(SKIP_ROWS)
    level0, level1 = skips, at(skips, WIDE_ROW)
    level2, level3, level4 = at(level1, ROW), at(level1, 2 * ROW), at(level1, 3 * ROW)
    conv0(x, at(w, WEIGHTS.conv0), at(level0, 32))
    conv1(level0, at(w, WEIGHTS.conv1), at(level1, 16))
    encoder, block = at(w, WEIGHTS.encoder), GT_BLOCK.size
    gt_block(level1, encoder, at(state, STATE.level2), ONE, frame, level2)
    gt_block(level2, at(encoder, block), at(state, STATE.level3), TWO, frame, level3)
    gt_block(level3, at(encoder, 2 * block), at(state, STATE.level4), FIVE, frame, level4)

    y, z = stack(ROW), stack(ROW)
    paths = at(w, WEIGHTS.dual_path)
    dual_path(at(level4, 16), paths, at(state, STATE.dual_path1), at(z, 16))
    second = at(paths, DUAL_PATH.size)
    dual_path(at(z, 16), second, at(state, STATE.dual_path2), at(y, 16))

    decoder, skip_weights = at(w, WEIGHTS.decoder), at(w, WEIGHTS.skips)
    fusions, size = at(skip_weights, SKIPS.fusions), FUSION.size
    if load(skip_weights, SKIPS.prepares) > 0:
        inputs = stack(WIDE_ROW)
        cache_skips(skips, x, skip_weights, inputs)
        x = inputs
    fuse(at(y, 16), at(level4, 16), skips, x, at(fusions, 4 * size), ALL_DEEP, at(z, 16))
    gt_block(z, decoder, at(state, STATE.decoder0), FIVE, frame, y)
    fuse(at(y, 16), at(level3, 16), skips, x, at(fusions, 3 * size), ALL_DEEP, at(z, 16))
    gt_block(z, at(decoder, block), at(state, STATE.decoder1), TWO, frame, y)
    fuse(at(y, 16), at(level2, 16), skips, x, at(fusions, 2 * size), ALL_DEEP, at(z, 16))
    gt_block(z, at(decoder, 2 * block), at(state, STATE.decoder2), ONE, frame, y)
    fuse(at(y, 16), at(level1, 16), skips, x, at(fusions, size), ALL_DEEP, at(z, 16))
    wide = stack(WIDE_ROW)
    deconv3(z, at(w, WEIGHTS.deconv3), at(wide, 32))
    fuse(at(wide, 32), at(level0, 32), skips, x, fusions, ALL_WIDE, at(wide, 32))
    bands = stack(MASK_ROW)
    deconv4(at(wide, 16), at(w, WEIGHTS.deconv4), bands)
    expand(bands, at(w, WEIGHTS.erb), mask)


@function
def mask_frames(
    spectrum: Floats, w: Floats, states: Floats, mask: Floats, channels: int, frames: int
) -> None:
    """The mask ``[C, T, 257, 2]`` of spectrum ``[C, T, 257, 2]``; `states` ``[C, STATE.size]``."""
    for number in range(channels * frames):
        state = at(states, number // frames * STATE.size)
        mask_frame(at(spectrum, number * 2 * BINS), w, state, at(mask, number * 2 * BINS))
