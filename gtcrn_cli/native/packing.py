"""The network's weights as the kernel wants them: one flat float32 array. Numpy only.

Every array here has the channels that are computed side by side as its last axis, 16 (or 8) wide,
so that the kernel loads them as one vector. BatchNorm is folded into the convolution before it.
Gates that pass through a sigmoid are halved, because ``sigmoid(x) = (1 + tanh(x / 2)) / 2``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..network.checkpoint import Checkpoint, Weights
from ..network.config import (
    CHANNELS,
    DEEP_BANDS,
    ERB_BANDS,
    FEATURES,
    GATES,
    HALF,
    INPUT,
    KINDS,
    LEVELS,
    GTCRNConfig,
)
from .layout import (
    ALL_CHANNELS,
    FEATURES_ONLY,
    HIGH_BINS,
    MANTISSA_BITS_CUT,
    SECOND_CHANNELS,
    SOURCES,
    WEIGHTS,
)

Array = NDArray[Any]  # float32 once packed; some of the folding is done in float64
BATCH_NORM_EPS = 1e-5


def pack(checkpoint: Checkpoint) -> Array:
    """All weights of `checkpoint` in the order of the `WEIGHTS` layout.

    Raises
    ------
    UserError
        They are not the weights of a network that the kernel knows.
    """
    checkpoint.require_fit()
    weights = checkpoint.weights
    try:
        parts = [
            *_erb(weights),
            *_conv0(weights, "encoder.en_convs.0"),
            *_conv1(weights, "encoder.en_convs.1"),
            *(part for n in (2, 3, 4) for part in _gt_block(weights, f"encoder.en_convs.{n}")),
            *(part for n in (1, 2) for part in _dual_path(weights, f"dpgrnn{n}")),
            *(part for n in (0, 1, 2) for part in _gt_block(weights, f"decoder.de_convs.{n}")),
            *_deconv3(weights, "decoder.de_convs.3"),
            *_deconv4(weights, "decoder.de_convs.4"),
            *_skips(weights, checkpoint.config),
        ]
        flat = np.concatenate([np.asarray(part, np.float32).ravel() for part in parts])
    except ValueError as error:
        raise UserError(f"the weights do not fit the network: {error}") from None
    assert flat.size == WEIGHTS.size
    return flat


def _erb(weights: Weights) -> list[Array]:
    """The two banks as the few numbers in them that are not zero."""
    pool = weights["erb.erb_fc.weight"]  # [64, 192]
    spread = weights["erb.ierb_fc.weight"]  # [192, 64]
    first = np.argmax(pool != 0, axis=1)
    last = HIGH_BINS - 1 - np.argmax(pool[:, ::-1] != 0, axis=1)
    runs = np.concatenate([pool[b, first[b] : last[b] + 1] for b in range(ERB_BANDS)])
    lower = np.minimum(np.argmax(spread != 0, axis=1), ERB_BANDS - 2)
    pairs = np.take_along_axis(spread, np.stack([lower, lower + 1], axis=1), axis=1)
    if runs.size > 2 * HIGH_BINS or np.count_nonzero(spread) != np.count_nonzero(pairs):
        raise ValueError("the ERB bank mixes bands that are not neighbours")
    runs = np.pad(runs, (0, 2 * HIGH_BINS - runs.size))
    return [first, last, runs, lower, pairs]


def _batch_norm(weights: Weights, name: str) -> tuple[Array, Array]:
    """BatchNorm as ``scale * x + shift``."""
    scale = weights[f"{name}.weight"] / np.sqrt(weights[f"{name}.running_var"] + BATCH_NORM_EPS)
    return scale, weights[f"{name}.bias"] - scale * weights[f"{name}.running_mean"]


def _folded(
    weights: Weights, conv: str, norm: str, transposed: bool, groups: int = 1
) -> tuple[Array, Array]:
    """A convolution with its BatchNorm: kernel ``[out, in, time, band]`` and bias ``[out]``.

    A transposed kernel is stored ``[in, out, ...]``; its taps stay in their order here.
    """
    kernel = weights[f"{conv}.weight"]
    if transposed:
        grouped = kernel.reshape(groups, -1, *kernel.shape[1:])
        kernel = grouped.swapaxes(1, 2).reshape(-1, grouped.shape[1], *kernel.shape[2:])
    scale, shift = _batch_norm(weights, norm)
    return kernel * scale[:, None, None, None], weights[f"{conv}.bias"] * scale + shift


def _slope(weights: Weights, name: str) -> Array:
    return np.repeat(weights[f"{name}.weight"], 16)


def _pad(vector: Array) -> Array:
    return np.pad(vector, (0, -vector.size % 16))


def _conv0(weights: Weights, name: str) -> list[Array]:
    """SFE and the convolution after it, 3 taps and 5, are one of 7.

    Except at the edges: SFE knows nothing beyond the last band, the convolution of 7 taps would.
    The first and the last output have kernels of their own, without the taps that look there.
    """
    kernel, bias = _folded(weights, f"{name}.conv", f"{name}.bn", transposed=False)
    split = kernel.reshape(16, 3, 3, 5)  # [out, channel, neighbour, tap]

    def merge(taps: range) -> Array:
        merged = np.zeros((7, 3, 16), np.float32)
        for tap in taps:
            for neighbour in range(3):
                merged[tap + neighbour] += split[:, :, neighbour, tap].T
        return merged

    slope = _slope(weights, f"{name}.act")
    return [merge(range(5)), merge(range(2, 5)), merge(range(3)), bias, slope]


def _conv1(weights: Weights, name: str) -> list[Array]:
    kernel, bias = _folded(weights, f"{name}.conv", f"{name}.bn", transposed=False)
    return [kernel[:, :, 0].transpose(2, 1, 0), bias, _slope(weights, f"{name}.act")]


def _deconv3(weights: Weights, name: str) -> list[Array]:
    """Of a transposed convolution with stride 2, even outputs see taps 4, 2, 0; odd ones 3, 1."""
    kernel, bias = _folded(weights, f"{name}.conv", f"{name}.bn", transposed=True, groups=2)
    taps = kernel[:, :, 0].transpose(2, 1, 0)  # [5, in, out]
    return [taps[[4, 2, 0]], taps[[3, 1]], bias, _slope(weights, f"{name}.act")]


def _deconv4(weights: Weights, name: str) -> list[Array]:
    """What a band contributes to the pairs of outputs of the band before, its own, and the next.

    Four numbers each: real and imaginary part of the even output, then of the odd one.
    """
    kernel, bias = _folded(weights, f"{name}.conv", f"{name}.bn", transposed=True)
    taps = np.pad(kernel[:, :, 0], ((0, 0), (0, 0), (0, 3)))  # [out, in, 5 and 3 without effect]
    return [taps.transpose(1, 2, 0).reshape(16, 16), np.pad(np.tile(bias, 2), (0, 12))]


def _skips(weights: Weights, config: GTCRNConfig) -> list[Array]:
    rounding = MANTISSA_BITS_CUT[config.skip_dtype]
    prepares = rounding > 0 or any(map(config.compresses, config.cached))
    return [
        np.array([rounding, prepares]),
        np.zeros(14),
        *(part for source in (INPUT, *LEVELS) for part in _skip(weights, config, source)),
        *(part for level in LEVELS for part in _fusion(weights, config, level)),
    ]


def _matrix(kernel: Array) -> Array:
    """A 1x1 convolution ``[out, in]`` as ``[16 in, 16 out]``, zeros where it is smaller."""
    outputs, inputs = kernel.shape
    return np.pad(kernel.T, ((0, 16 - inputs), (0, 16 - outputs)))


def _skip(weights: Weights, config: GTCRNConfig, source: int) -> list[Array]:
    kernel, bias = np.zeros((16, 16)), np.zeros(16)
    compresses = source in config.cached and config.compresses(source)
    if compresses:
        name = f"encoder.cache.compress.{'input' if source == INPUT else source}"
        kernel, bias = weights[f"{name}.weight"][:, :, 0, 0], _pad(weights[f"{name}.bias"])
        if source == INPUT:
            kernel = _by_neighbour(kernel).reshape(-1, FEATURES)
    return [np.full(16, compresses), _matrix(kernel), bias]


def _by_neighbour(kernel: Array) -> Array:
    """``[out, neighbour, feature]`` of a kernel of features, which SFE has in another order."""
    return kernel.reshape(-1, 3, 3).swapaxes(1, 2)


def _fusion(weights: Weights, config: GTCRNConfig, level: int) -> list[Array]:
    sources = config.sources(level)
    kind = config.kind(level)
    name = f"decoder.fusions.{LEVELS[-1] - level}"

    restore, restore_bias = np.zeros((SOURCES, 16, 16)), np.zeros(16)
    from_skip, from_below, bias = np.zeros((16, 16)), np.zeros((16, 16)), np.zeros(16)
    takes = np.where(np.isin(np.arange(14) + INPUT, sources), ALL_CHANNELS, 0)
    joined = None
    if kind == "concat":
        point = weights[f"{name}.point.weight"][:, :, 0, 0]
        from_below, joined = _matrix(point[:, :CHANNELS]), point[:, CHANNELS:]
        restore_bias = weights[f"{name}.point.bias"]
    elif config.restores(level):
        joined = weights[f"{name}.restore.weight"][:, :, 0, 0]
        restore_bias = weights[f"{name}.restore.bias"]
    if joined is not None:
        ends = np.cumsum([config.cached_channels(source) for source in sources])
        for source, kernel in zip(sources, np.split(joined, ends[:-1], axis=1), strict=True):
            if source == INPUT and not config.compresses(INPUT):  # a band is three numbers of four
                kernel = np.pad(_by_neighbour(kernel), ((0, 0), (0, 0), (0, 1))).reshape(-1, 12)
                takes[source - INPUT] = FEATURES_ONLY
            restore[source - INPUT] = _matrix(kernel)
        _take_once(config, sources, restore, takes)
    if kind in ("attention", "gated"):
        gate = weights[f"{name}.gate.weight"][:, :, 0, 0] / 2
        bias = _pad(weights[f"{name}.gate.bias"] / 2)
        if kind == "attention":  # one output: it is the inputs that lie side by side
            gate = np.pad(gate.reshape(2, 1, 16), ((0, 0), (0, 15), (0, 0)))
            from_skip, from_below = gate
        else:
            from_skip, from_below = _matrix(gate[:, :CHANNELS]), _matrix(gate[:, CHANNELS:])
    return [
        np.array([KINDS.index(kind), joined is not None]),
        takes, restore, restore_bias, from_skip, from_below, bias,
    ]  # fmt: skip


def _take_once(config: GTCRNConfig, sources: tuple[int, ...], restore: Array, takes: Array) -> None:
    """Half of what leaves a grouped temporal block only passed it: take that where it came from.

    Channels 1, 3, 5, ... of a level are channels 8 to 15 of the level before.
    """
    for source in range(LEVELS[-1], 1, -1):
        whole = not (config.compresses(source) or config.compresses(source - 1))
        if source in sources and source - 1 in sources and whole:
            here, before = restore[source - INPUT], restore[source - 1 - INPUT]
            before[HALF:] += here[1::2]
            here[1::2] = 0
            takes[source - INPUT] = SECOND_CHANNELS


def _gt_block(weights: Weights, name: str) -> list[Array]:
    transposed = name.startswith("decoder")
    point1, point1_bias = _folded(weights, f"{name}.point_conv1", f"{name}.point_bn1", transposed)
    # Depthwise: one input for each output, so transposing swaps nothing but the taps' order.
    depth, depth_bias = _folded(
        weights, f"{name}.depth_conv", f"{name}.depth_bn", transposed, groups=CHANNELS
    )
    if transposed:
        depth = depth[:, :, ::-1, ::-1]
    point2, point2_bias = _folded(weights, f"{name}.point_conv2", f"{name}.point_bn2", transposed)
    attention = _gru(weights, [(f"{name}.tra.att_gru", "l0")])
    attention[0] /= DEEP_BANDS  # the kernel sums where TRA takes the mean
    return [
        point1[:, :, 0, 0].reshape(16, HALF, 3).transpose(2, 1, 0),
        point1_bias,
        _slope(weights, f"{name}.point_act"),
        depth[:, 0].transpose(1, 2, 0),
        depth_bias,
        _slope(weights, f"{name}.depth_act"),
        point2[:, :, 0, 0].T,
        _pad(point2_bias),
        *attention,
        weights[f"{name}.tra.att_fc.weight"].T / 2,
        _pad(weights[f"{name}.tra.att_fc.bias"] / 2),
    ]


def _gru(weights: Weights, parts: list[tuple[str, str]]) -> list[Array]:
    """GRUs side by side, each as the prefix and the suffix of its names.

    ``[inputs, gate, 16], [gate, 16], [hidden, gate, 16], [16]``, hidden numbers of the first GRU
    first. The reset gate acts on the recurrent bias of the new gate, so that one stays apart, and
    halves what it acts on: see `activations.gru_step`.
    """

    def beside(kind: str, columns: int) -> Array:
        gates = [weights[f"{name}.{kind}_{suffix}"] for name, suffix in parts]
        stacked = [gate.reshape(GATES, -1, columns).transpose(2, 0, 1) for gate in gates]
        halved = np.array([0.5, 0.5, 0.5 if "_hh" in kind else 1], np.float32)[:, None]
        return np.concatenate(stacked, axis=-1) * halved  # [columns, gate, 16]

    inputs = weights[f"{parts[0][0]}.weight_ih_{parts[0][1]}"].shape[1]
    hidden = weights[f"{parts[0][0]}.weight_hh_{parts[0][1]}"].shape[1]
    bias, recurrent_bias = beside("bias_ih", 1)[0], beside("bias_hh", 1)[0]
    bias[:2] += recurrent_bias[:2]
    return [
        beside("weight_ih", inputs), bias, beside("weight_hh", hidden), recurrent_bias[2]
    ]  # fmt: skip


def _dual_path(weights: Weights, name: str) -> list[Array]:
    intra = [
        (f"{name}.intra_rnn.{rnn}", suffix)
        for rnn in ("rnn1", "rnn2")
        for suffix in ("l0", "l0_reverse")
    ]
    inter = [(f"{name}.inter_rnn.{rnn}", "l0") for rnn in ("rnn1", "rnn2")]
    return [
        *_gru(weights, intra),
        *_norm(weights, f"{name}.intra"),
        *_gru(weights, inter),
        *_norm(weights, f"{name}.inter"),
    ]


def _norm(weights: Weights, name: str) -> list[Array]:
    return [
        weights[f"{name}_fc.weight"].T,
        weights[f"{name}_fc.bias"],
        weights[f"{name}_ln.weight"],
        weights[f"{name}_ln.bias"],
    ]
