"""Samples in, samples out: STFT, network, gains and overlap-add of a block, in one call.

It does what `enhancement.stft` and `enhancement.enhancer` do in numpy, and is held to them. Nothing
here allocates: state, tables and scratch space are the caller's.
"""

from __future__ import annotations

import numpy as np
from numba import types

from ..network.config import BINS
from .fft import forward, inverse
from .kernel import few_masks, mask_frames
from .layout import CONTROLS, ENHANCE_HOPS, FRAMES, MASK_FRAMES, STREAM
from .resampling import resample
from .simd import (
    FLOATS,
    Floats,
    Vector,
    absolute,
    at,
    copy,
    evens,
    fma,
    function,
    inline,
    interleave,
    larger,
    load,
    load8,
    load16,
    odds,
    splat8,
    splat16,
    sqrt,
    store,
    total,
    where_less,
)
from .tables import ANALYSIS_AT, BINS_AT, SYNTHESIS_AT

LOUDEST = np.float32(1e5)  # 100 dB above full scale: beyond that a "sample" is damage, not sound
INFINITE = np.float32(np.inf)
GATE_BINS_BEGIN = 192  # 6-8 kHz: what the gain above 8 kHz is drawn from
GATE, KEEP, MUTE = 0, 1, 2  # what happens above 8 kHz
ONE, HALF, ZERO = np.float32(1), np.float32(0.5), np.float32(0)
THOUSANDTH, TINY = np.float32(1e-3), np.float32(1e-30)


# Between samples of all channels, one after the other, and arrays of one channel


@inline
def sound(x: Vector, wrongs: Vector) -> tuple[Vector, Vector]:
    """Silence in place of what is no sound (NaN, infinite, beyond `LOUDEST`), and count it."""
    size = absolute(x)
    wrong = where_less(splat8(LOUDEST), size, splat8(ONE), splat8(ZERO))
    wrong = where_less(size, splat8(INFINITE), wrong, splat8(ONE))
    return where_less(wrong, splat8(HALF), x, splat8(ZERO)), wrongs + wrong


@function
def take_channel(
    block: Floats, channel: int, channels: int, hop: int, replaced: Floats, fresh: Floats
) -> None:
    """A hop of one channel out of ``[hop, C]``."""
    wrongs = load8(replaced, 0)
    if channels == 1:
        for n in range(0, hop, 8):
            x, wrongs = sound(load8(block, n), wrongs)
            store(fresh, n, x)
    elif channels == 2 and channel == 0:
        for n in range(0, hop, 8):
            x, wrongs = sound(evens(load16(block, 2 * n)), wrongs)
            store(fresh, n, x)
    elif channels == 2:
        for n in range(0, hop, 8):
            x, wrongs = sound(odds(load16(block, 2 * n)), wrongs)
            store(fresh, n, x)
    else:
        for n in range(hop):
            store(fresh, n, load(block, n * channels + channel))
        for n in range(0, hop, 8):
            x, wrongs = sound(load8(fresh, n), wrongs)
            store(fresh, n, x)
    store(replaced, 0, wrongs)


@function
def give_channels(enhanced: Floats, channels: int, hop: int, block: Floats) -> None:
    """``[C, hop]`` to ``[hop, C]``."""
    if channels == 1:
        copy(block, enhanced, hop)
    elif channels == 2:
        for n in range(0, hop, 8):
            store(block, 2 * n, interleave(load8(enhanced, n), load8(enhanced, hop + n)))
    else:
        for channel in range(channels):
            for n in range(hop):
                store(block, n * channels + channel, load(enhanced, channel * hop + n))


# Windows and overlap-add


@function
def cut_frame(fresh: Floats, past: Floats, shape: Floats, hop: int, frame: Floats) -> None:
    """The windowed frame of the hop before and this one, which takes its place."""
    for n in range(0, hop, 8):
        new = load8(fresh, n)
        store(frame, n, load8(past, n) * load8(shape, n))
        store(frame, hop + n, new * load8(shape, hop + n))
        store(past, n, new)


@function
def overlap_add(frame: Floats, tail: Floats, shape: Floats, hop: int, enhanced: Floats) -> None:
    """The hop that a frame completes; its other half waits for the next frame."""
    for n in range(0, hop, 8):
        store(enhanced, n, fma(load8(frame, n), load8(shape, n), load8(tail, n)))
        store(tail, n, load8(frame, hop + n) * load8(shape, hop + n))


# The mix of linked channels: `enhancement.enhancer.linked_mix`


@function
def alike(x: Floats, y: Floats, bins: int) -> float:
    """The real part of the inner product of two spectra of `bins` bins, one more than 8 n."""
    sums = splat16(ZERO)
    for n in range(0, 2 * (bins - 1), 16):
        sums = fma(load16(x, n), load16(y, n), sums)
    last = 2 * (bins - 1)
    return total(sums) + load(x, last) * load(y, last) + load(x, last + 1) * load(y, last + 1)


@inline
def held(
    mix_re: Vector, mix_im: Vector, power: Vector, best_re: Vector, best_im: Vector, share: Vector
) -> tuple[Vector, Vector]:
    """The mix, at no lower a level than channels that have nothing in common would give it."""
    level = sqrt(fma(mix_re, mix_re, mix_im * mix_im))
    floor = sqrt(power) * share
    nothing = floor * splat8(THOUSANDTH)
    phase_re = where_less(nothing, level, mix_re, best_re)
    phase_im = where_less(nothing, level, mix_im, best_im)
    size = sqrt(fma(phase_re, phase_re, phase_im * phase_im))
    gain = floor / larger(size, splat8(TINY))
    re = where_less(level, floor, phase_re * gain, mix_re)
    im = where_less(level, floor, phase_im * gain, mix_im)
    return re, im


@function
def mix_channels(
    spectra: Floats, row: int, channels: int, bins: int, signs: Floats, mix: Floats
) -> None:
    """One spectrum of the lowest 257 bins for all channels."""
    strongest, most = 0, -ONE
    for channel in range(channels):
        energy = alike(at(spectra, channel * row), at(spectra, channel * row), bins)
        if energy > most:
            strongest, most = channel, energy
    best = at(spectra, strongest * row)
    for channel in range(channels):
        turned = alike(at(spectra, channel * row), best, bins) < ZERO
        store(signs, channel, -ONE if turned else ONE)
    share = splat8(ONE / np.float32(channels))
    # One vector past the end: rows have room for it, and what comes of it is not looked at.
    for n in range(0, min(bins, BINS), 8):
        mix_re = splat8(ZERO)
        mix_im = splat8(ZERO)
        power = splat8(ZERO)
        for channel in range(channels):
            pairs, sign = load16(spectra, channel * row + 2 * n), splat8(load(signs, channel))
            re, im = evens(pairs), odds(pairs)
            mix_re, mix_im = fma(re, sign, mix_re), fma(im, sign, mix_im)
            power = fma(re, re, fma(im, im, power))
        pairs = load16(best, 2 * n)
        re, im = held(mix_re * share, mix_im * share, power, evens(pairs), odds(pairs), share)
        store(mix, 2 * n, interleave(re, im))


# Gains


@function
def openness(mask: Floats) -> float:
    """The mean magnitude of the mask at 6-8 kHz, at most 1."""
    sums = splat8(ZERO)
    for n in range(GATE_BINS_BEGIN, BINS - 1, 8):
        pairs = load16(mask, 2 * n)
        re, im = evens(pairs), odds(pairs)
        sums = sums + sqrt(fma(re, re, im * im))
    last_re, last_im = load(mask, 2 * (BINS - 1)), load(mask, 2 * (BINS - 1) + 1)
    mean = (total(sums) + sqrt(last_re * last_re + last_im * last_im)) / np.float32(
        BINS - GATE_BINS_BEGIN
    )
    return min(mean, ONE)


@function
def high_band_gain(mask: Floats, high_band: int, past: Floats) -> float:
    """Above 8 kHz: opens at once, so that no sibilant loses its onset; closes over four frames."""
    if high_band != GATE:
        return ONE if high_band == KEEP else ZERO
    now = openness(mask)
    mean = (load(past, 0) + load(past, 1) + load(past, 2) + now) / np.float32(4)
    store(past, 0, load(past, 1))
    store(past, 1, load(past, 2))
    store(past, 2, now)
    return max(now, mean)


@function
def apply_mask(spectrum: Floats, mask: Floats, bins: int, strength: float, high: float) -> None:
    """Multiply a spectrum with what is kept of it: the mask, or `high` above 8 kHz."""
    kept, share = splat8(ONE - strength), splat8(strength)
    low = min(bins, BINS)
    for n in range(0, low - 1, 8):
        pairs, gains = load16(spectrum, 2 * n), load16(mask, 2 * n)
        re, im = evens(pairs), odds(pairs)
        gain_re, gain_im = fma(evens(gains), share, kept), odds(gains) * share
        product_re, product_im = re * gain_re - im * gain_im, fma(re, gain_im, im * gain_re)
        store(spectrum, 2 * n, interleave(product_re, product_im))
    last = 2 * (low - 1)
    last_re, last_im = load(spectrum, last), load(spectrum, last + 1)
    cos, sin = ONE - strength + strength * load(mask, last), strength * load(mask, last + 1)
    store(spectrum, last, last_re * cos - last_im * sin)
    store(spectrum, last + 1, last_re * sin + last_im * cos)
    gain = splat16(ONE - strength + strength * high)
    for n in range(2 * BINS, 2 * bins, 16):
        store(spectrum, n, load16(spectrum, n) * gain)


@function
def enhance_hops(
    block: Floats,
    enhanced: Floats,
    tables: Floats,
    w: Floats,
    streams: Floats,
    scratch: Floats,
    controls: Floats,
    channels: int,
    hops: int,
) -> None:
    """Enhance ``[hops * hop, C]``; `streams` is ``[C, stream_size(hop)]`` and goes on.

    What comes out is a hop behind what goes in. `controls` is laid out as `CONTROLS` says; what is
    no sound is counted there. `scratch` has room for `scratch_size` numbers.
    """
    hop = int(load(tables, BINS_AT))
    bins = hop + 1
    row = 2 * hop + 16  # a spectrum, and a vector past its end
    analysis = at(tables, int(load(tables, ANALYSIS_AT)))
    synthesis = at(tables, int(load(tables, SYNTHESIS_AT)))
    strength = load(controls, CONTROLS.strength)
    high_band = int(load(controls, CONTROLS.high_band))
    linked = load(controls, CONTROLS.linked) > ZERO
    replaced = at(controls, CONTROLS.replaced)
    masks = 1 if linked else channels

    width = 2 * BINS + 14  # a spectrum or a mask of the network
    spectra = scratch  # [channel, FRAMES, row]
    mix = at(spectra, channels * FRAMES * row)
    mask = at(mix, FRAMES * width)
    outputs = at(mask, FRAMES * width)
    frame = at(outputs, channels * hop)
    fresh, work = at(frame, 2 * hop), at(frame, 3 * hop)
    size = STREAM.past + 2 * hop
    column = FRAMES * row  # the spectra of one channel

    for begin in range(0, hops, FRAMES):
        few = min(hops - begin, FRAMES)
        for channel in range(channels):
            past = at(streams, channel * size + STREAM.past)
            for t in range(few):
                hop_in = at(block, (begin + t) * hop * channels)
                take_channel(hop_in, channel, channels, hop, replaced, fresh)
                cut_frame(fresh, past, analysis, hop, frame)
                forward(frame, at(spectra, channel * column + t * row), work, tables)
        for number in range(masks):
            stream = at(streams, number * size)
            noisy, step = at(spectra, number * column), row
            if linked or bins < BINS:
                for t in range(few):
                    low = at(mix, t * width)
                    if linked:
                        mix_channels(at(spectra, t * row), column, channels, bins, work, low)
                    else:
                        copy(low, at(noisy, t * row), 2 * bins)
                    for n in range(2 * bins, 2 * BINS):  # what a low rate does not have
                        store(low, n, ZERO)
                noisy, step = mix, width
            few_masks(noisy, step, w, at(stream, STREAM.network), mask, width, few)
            for t in range(few):
                kept = at(mask, t * width)
                high = ZERO
                if bins > BINS:
                    high = high_band_gain(kept, high_band, at(stream, STREAM.gate))
                for channel in range(channels if linked else 1):
                    spectrum = at(spectra, (number + channel) * column + t * row)
                    apply_mask(spectrum, kept, bins, strength, high)
        for t in range(few):
            for channel in range(channels):
                tail = at(streams, channel * size + STREAM.past + hop)
                inverse(at(spectra, channel * column + t * row), frame, work, tables)
                overlap_add(frame, tail, synthesis, hop, at(outputs, channel * hop))
            give_channels(outputs, channels, hop, at(enhanced, (begin + t) * hop * channels))


def run(
    task: int,
    a: Floats,
    b: Floats,
    c: Floats,
    w: Floats,
    states: Floats,
    scratch: Floats,
    controls: Floats,
    channels: int,
    count: int,
) -> None:
    """All that is compiled, behind one name: `mask_frames`, `enhance_hops` or `resample`."""
    if task == MASK_FRAMES:
        mask_frames(a, w, states, b, channels, count)
    elif task == ENHANCE_HOPS:
        enhance_hops(a, b, c, w, states, scratch, controls, channels, count)
    else:
        resample(a, b, c, controls, channels, count)


SIGNATURE = types.void(types.int64, *[FLOATS] * 7, types.int64, types.int64)
