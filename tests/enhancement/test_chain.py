"""What is compiled from samples to samples does what numpy, the reference, does."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models import untrained

from gtcrn_cli.enhancement.engines import NativeEngine, State, load_engine
from gtcrn_cli.enhancement.enhancer import Enhancer, Settings
from gtcrn_cli.enhancement.stft import window_length
from gtcrn_cli.network.checkpoint import Checkpoint, load_model
from gtcrn_cli.network.config import GTCRNConfig
from gtcrn_cli.signals import Samples, Spectrum

RATES = [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000]
SETTINGS = [
    Settings(),
    Settings(0.7, "keep"),
    Settings(0.9, "mute"),
    Settings(linked=True),
    Settings(0.5, linked=True),
]


class MaskOnly:
    """An engine that gives masks and nothing more: its enhancers work in numpy."""

    name = "native"

    def __init__(self, engine: NativeEngine) -> None:
        self.checkpoint = engine.checkpoint
        self._engine = engine

    def mask(self, spectrum: Spectrum, state: State | None) -> tuple[Spectrum, State]:
        return self._engine.mask(spectrum, state)


@pytest.fixture(scope="module")
def engine(shipped: Checkpoint) -> NativeEngine:
    return NativeEngine(shipped)


def whole(enhancer: Enhancer, samples: Samples) -> Samples:
    return np.concatenate([enhancer.push(samples), enhancer.flush()])


def channels_of(noisy: Samples, gains: list[float]) -> Samples:
    """Channels that differ, the second one of turned polarity."""
    one = noisy[:12_000, 0]
    return np.stack([gain * np.roll(one, 700 * n) for n, gain in enumerate(gains)], axis=1)


@pytest.mark.parametrize("sample_rate", [*RATES, 176_400, 192_000])
def test_every_rate(engine: NativeEngine, noisy: Samples, sample_rate: int):
    for gains in ([1.0], [1.0, -0.5], [0.3, -1.0, 0.0]):
        samples = channels_of(noisy, gains)
        for how in SETTINGS:
            compiled = Enhancer(engine, sample_rate, len(gains), how)
            reference = Enhancer(MaskOnly(engine), sample_rate, len(gains), how)
            difference = whole(compiled, samples) - whole(reference, samples)
            assert np.abs(difference).max() < 1e-6


@pytest.mark.parametrize("fusion", ["none", "add", "attention", "gated", "hybrid"])
def test_every_fusion(noisy: Samples, fusion: str):
    engine = NativeEngine(untrained(GTCRNConfig(fusion)))
    samples = channels_of(noisy, [1.0, -0.5])
    compiled = whole(Enhancer(engine, 48_000, 2), samples)
    reference = whole(Enhancer(MaskOnly(engine), 48_000, 2), samples)
    assert np.abs(compiled - reference).max() < 1e-6


def test_the_published_network(noisy: Samples):
    engine = NativeEngine(load_model("gtcrn-plain"))
    compiled = whole(Enhancer(engine, 16_000), noisy)
    assert np.abs(compiled - whole(Enhancer(MaskOnly(engine), 16_000), noisy)).max() < 1e-6


@given(
    sizes=st.lists(st.integers(0, 4000), max_size=12),
    sample_rate=st.sampled_from([8_000, 16_000, 44_100]),
    gains=st.sampled_from([[1.0], [1.0, -0.5]]),
)
@settings(max_examples=30)
def test_blocks_of_any_length(
    engine: NativeEngine, noisy: Samples, sizes: list[int], sample_rate: int, gains: list[float]
):
    """Bit for bit: what is in the output does not depend on how the input was cut."""
    samples = channels_of(noisy, gains)
    enhancer = Enhancer(engine, sample_rate, len(gains))
    expected = whole(enhancer, samples)
    ends = np.minimum(np.cumsum([0, *sizes, len(samples)]), len(samples))
    blocks = [enhancer.push(samples[begin:end]) for begin, end in itertools.pairwise(ends)]
    np.testing.assert_array_equal(np.concatenate([*blocks, enhancer.flush()]), expected)


@given(st.integers(8_000, 192_000))
@settings(max_examples=60)
def test_at_strength_0_the_input_comes_back(engine: NativeEngine, sample_rate: int):
    """Also at rates whose windows no compiled FFT is for."""
    noise = np.random.default_rng(0).uniform(-1, 1, (15_000, 1)).astype(np.float32)
    back = whole(Enhancer(engine, sample_rate, 1, Settings(0, "keep")), noise)
    assert np.abs(back - noise).max() < 2e-6


def test_a_window_without_fast_code_works(engine: NativeEngine, noisy: Samples):
    sample_rate = 37_813
    assert window_length(sample_rate) % 16
    enhanced = whole(Enhancer(engine, sample_rate), noisy)
    reference = whole(Enhancer(MaskOnly(engine), sample_rate), noisy)
    np.testing.assert_array_equal(enhanced, reference)


def test_a_stream_can_be_forked(engine: NativeEngine, noisy: Samples):
    """Its state is never written to by a later call."""
    chain = engine.chain(512, 1)
    assert chain is not None
    block = noisy[:2560]
    _, state, _ = chain.advance(block, None, 1.0, 0, False)
    before = state.copy()
    first, _, _ = chain.advance(block, state, 1.0, 0, False)
    np.testing.assert_array_equal(state, before)
    second, _, _ = chain.advance(block, state, 1.0, 0, False)
    np.testing.assert_array_equal(first, second)
    with pytest.raises(ValueError, match="do not fit"):
        chain.advance(noisy[:100], state, 1.0, 0, False)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_what_is_no_sound_is_counted_in_every_channel(shipped: Checkpoint, channels: int):
    samples = np.zeros((5_000, channels), np.float32)
    samples[100:103] = np.nan
    samples[200, -1] = np.inf
    samples[300, 0] = -2e5
    enhancer = Enhancer(load_engine(shipped), 48_000, channels)
    enhanced = whole(enhancer, samples)
    assert enhancer.replaced == 3 * channels + 2
    assert not enhanced.any()
