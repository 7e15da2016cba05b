"""The weights of a network by name and shape, counted from its config alone. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

from .config import (
    BINS,
    CHANNELS,
    DEEP_BANDS,
    DILATIONS,
    ERB_BANDS,
    FEATURES,
    GATES,
    HALF,
    INPUT,
    LEVELS,
    LOW_BINS,
    GTCRNConfig,
)

Shape = tuple[int, ...]
_Named = Iterator[tuple[str, Shape]]


def weight_shapes(config: GTCRNConfig) -> dict[str, Shape]:
    """What `model.GTCRN` has in its state dict, less the counters of BatchNorm."""
    high_bins = BINS - LOW_BINS
    return dict(
        [
            ("erb.erb_fc.weight", (ERB_BANDS, high_bins)),
            ("erb.ierb_fc.weight", (high_bins, ERB_BANDS)),
            *_halving("encoder.en_convs.0", (CHANNELS, FEATURES), CHANNELS),
            *_halving("encoder.en_convs.1", (CHANNELS, HALF), CHANNELS),
            *_halving("decoder.de_convs.3", (CHANNELS, HALF), CHANNELS),
            *_halving("decoder.de_convs.4", (CHANNELS, 2), 2, slope=False),
            *(
                weight
                for number in range(len(DILATIONS))
                for weight in (
                    *_gt_block(f"encoder.en_convs.{number + 2}"),
                    *_gt_block(f"decoder.de_convs.{number}", transposed=True),
                )
            ),
            *(weight for number in (1, 2) for weight in _dual_path(f"dpgrnn{number}")),
            *_skips(config),
        ]
    )


def _halving(name: str, channels: Shape, outputs: int, slope: bool = True) -> _Named:
    yield f"{name}.conv.weight", (*channels, 1, 5)
    yield f"{name}.conv.bias", (outputs,)
    yield from _batch_norm(f"{name}.bn", outputs)
    if slope:
        yield f"{name}.act.weight", (1,)


def _batch_norm(name: str, channels: int) -> _Named:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (channels,)


def _gt_block(name: str, transposed: bool = False) -> _Named:
    def point(inputs: int, outputs: int) -> Shape:
        return (inputs, outputs, 1, 1) if transposed else (outputs, inputs, 1, 1)

    for conv, norm, shape, outputs in (
        ("point_conv1", "point_bn1", point(3 * HALF, CHANNELS), CHANNELS),
        ("depth_conv", "depth_bn", (CHANNELS, 1, 3, 3), CHANNELS),
        ("point_conv2", "point_bn2", point(CHANNELS, HALF), HALF),
    ):
        yield f"{name}.{conv}.weight", shape
        yield f"{name}.{conv}.bias", (outputs,)
        yield from _batch_norm(f"{name}.{norm}", outputs)
    yield f"{name}.point_act.weight", (1,)
    yield f"{name}.depth_act.weight", (1,)
    yield from _gru(f"{name}.tra.att_gru", CHANNELS)
    yield from _linear(f"{name}.tra.att_fc", CHANNELS, HALF)


def _dual_path(name: str) -> _Named:
    for number in (1, 2):
        yield from _gru(f"{name}.intra_rnn.rnn{number}", HALF // 2)
        yield from _gru(f"{name}.intra_rnn.rnn{number}", HALF // 2, "_reverse")
        yield from _gru(f"{name}.inter_rnn.rnn{number}", HALF)
    for path in ("intra", "inter"):
        yield from _linear(f"{name}.{path}_fc", CHANNELS, CHANNELS)
        yield f"{name}.{path}_ln.weight", (DEEP_BANDS, CHANNELS)
        yield f"{name}.{path}_ln.bias", (DEEP_BANDS, CHANNELS)


def _gru(name: str, hidden: int, suffix: str = "") -> _Named:
    """One that sees half of the channels, as all of them do."""
    yield f"{name}.weight_ih_l0{suffix}", (GATES * hidden, HALF)
    yield f"{name}.weight_hh_l0{suffix}", (GATES * hidden, hidden)
    yield f"{name}.bias_ih_l0{suffix}", (GATES * hidden,)
    yield f"{name}.bias_hh_l0{suffix}", (GATES * hidden,)


def _linear(name: str, inputs: int, outputs: int) -> _Named:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _point(name: str, inputs: int, outputs: int) -> _Named:
    yield f"{name}.weight", (outputs, inputs, 1, 1)
    yield f"{name}.bias", (outputs,)


def _skips(config: GTCRNConfig) -> _Named:
    for source in config.cached:
        if config.compresses(source):
            name = f"encoder.cache.compress.{'input' if source == INPUT else source}"
            inputs = FEATURES if source == INPUT else CHANNELS
            yield from _point(name, inputs, config.cached_channels(source))
    for level in LEVELS:
        kind, width = config.kind(level), config.width(level)
        name = f"decoder.fusions.{LEVELS[-1] - level}"
        if config.restores(level):
            yield from _point(f"{name}.restore", width, CHANNELS)
        if kind == "concat":
            yield from _point(f"{name}.point", CHANNELS + width, CHANNELS)
        if kind in ("attention", "gated"):
            yield from _point(f"{name}.gate", 2 * CHANNELS, 1 if kind == "attention" else CHANNELS)
