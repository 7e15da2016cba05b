"""Where everything lies in the flat arrays of weights and of state."""

from __future__ import annotations

from collections import namedtuple
from itertools import accumulate
from typing import Any

from ..network.config import (
    BANDS,
    BANDS_AT,
    BINS,
    CHANNELS,
    DEEP_BANDS,
    DILATIONS,
    ERB_BANDS,
    GATES,
    HALF,
    KINDS,
    LEVELS,
)

MASK_FRAMES, ENHANCE_HOPS, RESAMPLE = range(3)  # what `chain.run` is to do
CACHE_LINE = 64  # bytes; a vector that two of them share takes twice as long to load
HIGH_BINS = 192  # those that the ERB bank pools


def _layout(name: str, **sizes: int) -> Any:
    """Where each part starts in a flat array, by name; `size` is the whole."""
    make: Any = namedtuple
    return make(name, [*sizes, "size"])(*accumulate(sizes.values(), initial=0))


CONV0 = _layout("CONV0", inner=7 * 3 * 16, first=7 * 3 * 16, last=7 * 3 * 16, bias=16, slope=16)
CONV1 = _layout("CONV1", kernel=5 * HALF * 16, bias=16, slope=16)
DECONV3 = _layout("DECONV3", even=3 * HALF * 16, odd=2 * HALF * 16, bias=16, slope=16)
DECONV4 = _layout("DECONV4", kernel=16 * 16, bias=16)


def _gru_layout(name: str, inputs: int, hidden: int) -> Any:
    """A GRU, or several side by side, of 16 hidden numbers in all."""
    return _layout(
        name,
        kernel=inputs * GATES * 16,
        bias=GATES * 16,
        recurrent=hidden * GATES * 16,
        recurrent_bias=16,
    )


ATTENTION = _gru_layout("ATTENTION", HALF, CHANNELS)
INTRA = _gru_layout("INTRA", HALF, HALF // 2)
INTER = _gru_layout("INTER", HALF, HALF)

GT_BLOCK = _layout(
    "GT_BLOCK",
    point1=3 * HALF * 16,
    point1_bias=16,
    point1_slope=16,
    depth=3 * 3 * 16,
    depth_bias=16,
    depth_slope=16,
    point2=16 * HALF,
    point2_bias=16,
    attention=ATTENTION.size,
    gain=16 * HALF,
    gain_bias=16,
)
NORM = _layout("NORM", kernel=16 * 16, bias=16, scale=DEEP_BANDS * 16, shift=DEEP_BANDS * 16)
DUAL_PATH = _layout(
    "DUAL_PATH", intra=INTRA.size, intra_norm=NORM.size, inter=INTER.size, inter_norm=NORM.size
)
ERB = _layout(
    "ERB",
    first_bin=ERB_BANDS,  # of each band, counted from bin 65
    last_bin=ERB_BANDS,
    pool=2 * HIGH_BINS,  # the weights of the first band's bins, then the second's, ...
    lower_band=HIGH_BINS,  # of the two that give a bin its mask
    spread=2 * HIGH_BINS,
)
# Sources of skips are counted from the input features: those are 0, encoder level n is n + 1.
SOURCES = 1 + len(LEVELS)
_, ADD, CONCAT, ATTEND, GATE = range(len(KINDS))  # as config.KINDS has them
MANTISSA_BITS_CUT = {"float32": 0, "float16": 13, "bfloat16": 16}
SKIP = _layout("SKIP", compresses=16, kernel=16 * 16, bias=16)  # of one source
_, SECOND_CHANNELS, FEATURES_ONLY, ALL_CHANNELS = range(4)  # 0, 2, 4...; 3 of 4, of 12; 0 to 15
FUSION = _layout(
    "FUSION",  # of one decoder level
    kind=1,
    restores=1,  # whether the skip is more than the mirrored level's output as it is
    takes=14,  # which channels of every source, as below
    restore=SOURCES * 16 * 16,
    restore_bias=16,
    from_skip=16 * 16,
    from_below=16 * 16,
    bias=16,
)
SKIPS = _layout(
    "SKIPS",
    rounding=1,  # bits to cut off every cached number
    prepares=15,  # whether what is cached is anything but levels and features as they are
    sources=SOURCES * SKIP.size,
    fusions=len(LEVELS) * FUSION.size,  # by the encoder level that is mirrored
)
WEIGHTS = _layout(
    "WEIGHTS",
    erb=ERB.size,
    conv0=CONV0.size,
    conv1=CONV1.size,
    encoder=3 * GT_BLOCK.size,
    dual_path=2 * DUAL_PATH.size,
    decoder=3 * GT_BLOCK.size,
    deconv3=DECONV3.size,
    deconv4=DECONV4.size,
    skips=SKIPS.size,
)

# A row of bands has an empty band (zeros) at either end, for the convolutions over bands.
ROW = (DEEP_BANDS + 2) * CHANNELS
WIDE_ROW = (2 + BANDS_AT[0] + 2) * CHANNELS  # two empty ones here: conv1 reaches that far
# What there is of one frame while it passes through the network.
ROOM = _layout(
    "ROOM",
    features=(3 + BANDS + 3 + 1) * 4,  # magnitude, real, imaginary, unused; conv0 reaches 3 bands
    level0=WIDE_ROW,  # what leaves the encoder, level by level
    level1=ROW,
    level2=ROW,
    level3=ROW,
    level4=ROW,
    inputs=WIDE_ROW,  # the input features as they are cached
    skip1=ROW,  # what decoder levels take of the encoder
    skip2=ROW,
    skip3=ROW,
    skip4=ROW,
    below=ROW,
    fused=ROW,
    wide_skip=WIDE_ROW,
    wide=WIDE_ROW,
)
FRAMES = 4  # that go through the layers together
PERIOD = 20  # frames after which every ring of histories starts over
_GT_STATES = [2 * dilation * ROW + CHANNELS for dilation in DILATIONS]  # histories, hidden
STATE = _layout(
    "STATE",
    frame=16,  # how many frames there were, modulo PERIOD
    level2=_GT_STATES[0],
    level3=_GT_STATES[1],
    level4=_GT_STATES[2],
    dual_path1=DEEP_BANDS * CHANNELS,
    dual_path2=DEEP_BANDS * CHANNELS,
    decoder0=_GT_STATES[2],
    decoder1=_GT_STATES[1],
    decoder2=_GT_STATES[0],
    level=16,  # see network.level, a power; 0 before the first frame
)
# Of one channel; the network and the gate of the first one serve all that are linked.
STREAM = _layout(
    "STREAM",
    network=STATE.size,
    gate=16,  # how open the last three frames were
    past=0,  # a hop of input, then a hop of output that is not complete
)
# Of `resampling.resample`: for a point; between two samples, where a straight line from the filter
# of one phase to the next errs by -98 dB.
TAPS, PHASES = 32, 256
RESAMPLED = _layout("RESAMPLED", first=1, fraction=1, correction=1, length=1)
CONTROLS = _layout("CONTROLS", strength=1, high_band=1, linked=14, replaced=16)


def stream_size(window: int) -> int:
    """Numbers in the state of one channel."""
    return STREAM.past + window


def scratch_size(window: int, channels: int) -> int:
    """Numbers that `chain.enhance_hops` needs room for."""
    hop = window // 2
    spectrum, bins = 2 * hop + 16, 2 * BINS + 14  # and a vector past their ends
    return FRAMES * (channels * spectrum + 2 * bins) + channels * hop + 3 * hop + 2 * window
