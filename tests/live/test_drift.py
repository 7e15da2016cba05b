"""Correcting the drift between two clocks is not heard, and finds the drift."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtcrn_cli.live.drift import DEAD_ZONE_S, DriftControl, Resampler

RATE = 48_000
HOP = 768


def tone(frequency_hz: float, at: np.ndarray) -> np.ndarray:
    return np.sin(2 * np.pi * frequency_hz * at / RATE)


def resample(samples: np.ndarray, corrections: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """What a resampler makes of `samples`, and at which input positions its samples lie."""
    resampler = Resampler(samples.shape[1])
    outputs, positions, position = [], [], 0.0
    for start, correction in zip(range(0, len(samples), HOP), corrections, strict=False):
        output = resampler.push(samples[start : start + HOP].astype(np.float32), correction)
        steps = (1 + correction) * np.arange(len(output) + 1)
        positions.append(position + steps[:-1])
        position += steps[-1]
        outputs.append(output)
    return np.concatenate(outputs), np.concatenate(positions)


@pytest.mark.parametrize("frequency_hz", [100, 1000, 8000, 15_000])
def test_a_tone_keeps_80_db_while_the_correction_changes(frequency_hz: float):
    samples = tone(frequency_hz, np.arange(400 * HOP))[:, None]
    corrections = [*np.linspace(0, 200e-6, 150), *np.linspace(200e-6, -1e-3, 250)]
    output, positions = resample(samples, corrections)
    expected = tone(frequency_hz, positions)
    error = output[100:, 0] - expected[100:]
    assert 10 * np.log10(np.mean(expected**2) / np.mean(error**2)) > 80


def test_without_correction_nothing_is_changed():
    samples = np.random.default_rng(0).normal(size=(20 * HOP, 2)).astype(np.float32)
    output, _ = resample(samples, [0.0] * 20)
    np.testing.assert_array_equal(output, samples[: len(output)])
    assert len(samples) - len(output) == 16


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=12), st.floats(-1e-3, 1e-3))
def test_blocks_of_any_length_give_the_same(lengths: list[int], correction: float):
    samples = tone(440, np.arange(sum(lengths)))[:, None].astype(np.float32)
    resampler = Resampler(1)
    parts = np.split(samples, np.cumsum(lengths)[:-1])
    cut = np.concatenate([resampler.push(part, correction) for part in parts])
    whole = Resampler(1).push(samples, correction)
    np.testing.assert_allclose(cut, whole, atol=1e-4)
    assert len(cut) + resampler.pending / (1 + correction) == pytest.approx(
        len(samples) / (1 + correction), abs=1
    )


def test_channels_do_not_mix():
    samples = np.random.default_rng(0).normal(size=(4 * HOP, 3)).astype(np.float32)
    together = Resampler(3).push(samples, 150e-6)
    for channel in range(3):
        alone = Resampler(1).push(samples[:, [channel]], 150e-6)
        np.testing.assert_array_equal(together[:, [channel]], alone)


@pytest.mark.parametrize("drift", [200e-6, -200e-6, 20e-6])
def test_the_drift_is_found_and_the_delay_kept(drift: float):
    rng = np.random.default_rng(0)
    control, waiting_s, seen = DriftControl(), 0.1, []
    for _ in range(round(1200 / 0.016)):
        waiting_s += 0.016 * (drift - control.correction)
        control.update(waiting_s + rng.normal(0, 0.004), 0.016)
        seen.append(waiting_s)
    assert control.correction == pytest.approx(drift, rel=0.15, abs=5e-6)
    assert abs(waiting_s - 0.1) < DEAD_ZONE_S + 0.004
    assert np.abs(np.array(seen) - 0.1).max() < 0.015


def test_a_clock_that_ticks_seldom_is_no_fault():
    control = DriftControl()
    for _ in range(2000):  # two hops for each tick
        control.update(0.1, 0.032)
        assert control.update(0.1, 0.0) == 0
        control.restart()
        assert control.update(0.1, 0.0) == 0


def test_equal_clocks_are_left_alone():
    rng = np.random.default_rng(0)
    control = DriftControl()
    for _ in range(20_000):
        assert control.update(0.1 + rng.normal(0, 0.005), 0.016) == 0


def test_after_a_gap_the_drift_is_still_known():
    control = DriftControl()
    for step in range(20_000):
        control.update(0.1 + max(0, step - 1000) * 1e-6, 0.016)
    learnt = control.correction
    assert learnt > 0
    control.restart()
    assert 0 < control.update(0.5, 0.016) <= learnt
