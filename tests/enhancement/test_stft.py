"""The streaming STFT: exact, causal, and the same for training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from gtcrn_cli.enhancement.stft import STFT, network_bins, window_length
from gtcrn_cli.errors import UserError
from gtcrn_cli.training.stft import analyze_torch, synthesize_torch


@pytest.mark.parametrize(
    ("sample_rate", "window"),
    [(8_000, 256), (16_000, 512), (24_000, 768), (44_100, 1408), (48_000, 1536), (192_000, 6144)],
)
def test_window_lasts_32_ms(sample_rate: int, window: int):
    assert window_length(sample_rate) == window


@given(st.integers(8_000, 192_000))
@example(12_756)
def test_window_is_even_and_close_at_every_rate(sample_rate: int):
    window = window_length(sample_rate)
    assert window % 2 == 0
    assert abs(window - 0.032 * sample_rate) <= 1 + 0.005 * 0.032 * sample_rate


@pytest.mark.parametrize("sample_rate", [0, 7_999, 192_001])
def test_refuses_other_rates(sample_rate: int):
    with pytest.raises(UserError, match="resample"):
        STFT(sample_rate)


def test_spectrum_has_the_level_it_has_at_16_khz():
    peaks = []
    for sample_rate in (16_000, 48_000):
        tone = np.sin(2 * np.pi * 1000 * np.arange(sample_rate) / sample_rate)
        spectrum, _ = STFT(sample_rate).analyze(tone.astype(np.float32)[:, None], None)
        peaks.append(np.abs(spectrum[0, 10, 32]))
    assert peaks[0] == pytest.approx(peaks[1], rel=1e-4)


def test_is_float32_throughout():
    stft = STFT(16_000)
    spectrum, pending = stft.analyze(np.ones((1000, 1), np.float32), None)
    block, tail = stft.synthesize(spectrum, None)
    assert spectrum.dtype == np.complex64
    assert pending.dtype == block.dtype == tail.dtype == np.float32


def test_state_is_not_written_to():
    stft = STFT(16_000)
    noise = np.random.default_rng(0).standard_normal((2000, 2)).astype(np.float32)
    spectrum, pending = stft.analyze(noise, None)
    _, tail = stft.synthesize(spectrum, None)
    kept_pending, kept_tail = pending.copy(), tail.copy()
    spectrum, _ = stft.analyze(noise, pending)
    stft.synthesize(spectrum, tail)
    assert np.array_equal(pending, kept_pending)
    assert np.array_equal(tail, kept_tail)


def test_low_rates_have_silent_bins_above():
    spectrum = np.ones((1, 3, 129), np.complex64)
    bins = network_bins(spectrum)
    assert bins.shape == (1, 3, 257)
    assert np.all(bins[..., :129] == 1)
    assert np.all(bins[..., 129:] == 0)


def test_training_sees_the_same_spectrum():
    noise = np.random.default_rng(0).standard_normal((4096, 1)).astype(np.float32)
    expected, _ = STFT(16_000).analyze(noise, None)
    got = analyze_torch(torch.from_numpy(noise.T.copy()))
    assert torch.allclose(torch.view_as_complex(got), torch.from_numpy(expected), atol=1e-4)


def test_training_gets_its_samples_back():
    noise = torch.randn(2, 4096)
    back = synthesize_torch(analyze_torch(noise))
    assert torch.allclose(back, noise[:, : back.shape[1]], atol=1e-5)
    assert back.shape[1] == 4096 - 256
