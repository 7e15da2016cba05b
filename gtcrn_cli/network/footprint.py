"""What a network costs, counted from its config alone: parameters, products, memory."""

from __future__ import annotations

from dataclasses import dataclass

from .config import (
    BANDS_AT,
    BINS,
    CHANNELS,
    DEEP_BANDS,
    DILATIONS,
    DTYPE_BYTES,
    ERB_BANDS,
    FEATURES,
    HALF,
    HOP,
    INPUT,
    LEVELS,
    LOW_BINS,
    SAMPLE_RATE,
    GTCRNConfig,
)

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Footprint:
    """The cost of a network.

    Attributes
    ----------
    parameters
        Learned ones. The 24,576 fixed weights of the ERB bank are not among them.
    macs_per_s
        Multiply-accumulates for a second of audio: the products of convolutions, linear layers and
        GRUs, as torch runs them (the native engine leaves out the zeros of the ERB bank).
        Normalisations, activations and whatever else is done once for each number are not counted.
    state_bytes
        What a stream remembers between frames.
    skip_bytes_per_frame
        What is cached of a frame between encoder and decoder.
    """

    parameters: int
    macs_per_s: float
    state_bytes: int
    skip_bytes_per_frame: int


def footprint(config: GTCRNConfig) -> Footprint:
    """Count the cost of the network that `config` describes."""
    costs = [*_published_layers(), *_skip_layers(config)]
    history = sum(2 * dilation for dilation in DILATIONS) * CHANNELS * DEEP_BANDS
    hidden = len(DILATIONS) * CHANNELS
    return Footprint(
        parameters=sum(parameters for parameters, _ in costs),
        macs_per_s=sum(macs for _, macs in costs) * SAMPLE_RATE / HOP,
        state_bytes=FLOAT_BYTES * 2 * (history + hidden + DEEP_BANDS * CHANNELS),
        skip_bytes_per_frame=DTYPE_BYTES[config.skip_dtype]
        * sum(config.cached_channels(source) * _bands(source) for source in config.cached),
    )


_Cost = tuple[int, int]  # parameters; products in a frame


def _published_layers() -> list[_Cost]:
    gt_block = [
        *(_conv(3 * HALF, CHANNELS, DEEP_BANDS), _norm(CHANNELS), _PRELU),
        *(_conv(CHANNELS, CHANNELS, DEEP_BANDS, 9, groups=CHANNELS), _norm(CHANNELS), _PRELU),
        *(_conv(CHANNELS, HALF, DEEP_BANDS), _norm(HALF)),
        *(_gru(HALF, CHANNELS, 1), _conv(CHANNELS, HALF, 1)),
    ]
    dual_path = [
        *(4 * [_gru(HALF, HALF // 2, DEEP_BANDS)]),
        *(2 * [_gru(HALF, HALF, DEEP_BANDS)]),
        *(2 * [_conv(CHANNELS, CHANNELS, DEEP_BANDS), _norm(CHANNELS * DEEP_BANDS)]),
    ]
    return [
        (0, (3 + 2) * ERB_BANDS * (BINS - LOW_BINS)),  # three features in, two parts of a mask out
        *(_conv(FEATURES, CHANNELS, BANDS_AT[0], 5), _norm(CHANNELS), _PRELU),
        *(_conv(CHANNELS, CHANNELS, BANDS_AT[1], 5, groups=2), _norm(CHANNELS), _PRELU),
        *(2 * len(DILATIONS) * gt_block),
        *(2 * dual_path),
        *(_conv(CHANNELS, CHANNELS, BANDS_AT[1], 5, groups=2), _norm(CHANNELS), _PRELU),
        *(_conv(CHANNELS, 2, BANDS_AT[0], 5), _norm(2)),
    ]


def _skip_layers(config: GTCRNConfig) -> list[_Cost]:
    costs = []
    for source in config.cached:
        if config.compresses(source):
            channels = FEATURES if source == INPUT else CHANNELS
            costs.append(_conv(channels, config.cached_channels(source), _bands(source)))
    for level in LEVELS:
        kind, width, bands = config.kind(level), config.width(level), BANDS_AT[level]
        if config.restores(level):
            costs.append(_conv(width, CHANNELS, bands))
        if kind == "concat":
            costs.append(_conv(CHANNELS + width, CHANNELS, bands))
        if kind in ("attention", "gated"):
            costs.append(_conv(2 * CHANNELS, 1 if kind == "attention" else CHANNELS, bands))
    return costs


def _bands(source: int) -> int:
    return BANDS_AT[0] if source == INPUT else BANDS_AT[source]


def _conv(inputs: int, outputs: int, places: int, taps: int = 1, groups: int = 1) -> _Cost:
    """A convolution at so many places (of the input, if transposed); or a linear layer."""
    products = inputs * outputs * taps // groups
    return products + outputs, products * places


def _gru(inputs: int, hidden: int, steps: int) -> _Cost:
    products = 3 * hidden * (inputs + hidden)
    return products + 6 * hidden, products * steps


def _norm(numbers: int) -> _Cost:
    return 2 * numbers, 0


_PRELU = (1, 0)
