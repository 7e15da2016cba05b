"""Callers: 16-bit PCM in blocks of any length, each with a state of its own."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtcrn_cli import Settings, UserError, enhance
from gtcrn_cli.enhancement import pcm
from gtcrn_cli.enhancement.pcm import PcmStream


def test_examples():
    assert doctest.testmod(pcm).failed == 0


@pytest.fixture(scope="module")
def speech(noisy: np.ndarray) -> np.ndarray:
    """A second of two channels, as integers."""
    one = np.round(noisy[:16_000, 0] * 32767).astype("<i2")
    return np.stack([one, one[::-1]], axis=1)


@given(sizes=st.lists(st.integers(0, 3000), max_size=60), channels=st.sampled_from([1, 2]))
def test_blocks_of_any_length_give_what_the_whole_gives(
    speech: np.ndarray, sizes: list[int], channels: int
):
    """Also where a block ends within a sample."""
    samples = np.ascontiguousarray(speech[:, :channels])
    data = samples.tobytes()
    caller = PcmStream(16_000, channels)
    parts, at = [], 0
    for size in [*sizes, len(data)]:
        parts.append(caller.push(data[at : at + size]))
        at += size
    parts.append(caller.flush())
    received = np.frombuffer(b"".join(parts), "<i2").reshape(-1, channels)
    expected = enhance(samples.astype(np.float32) / 32768, 16_000) * 32768
    assert received.shape == samples.shape
    assert np.abs(received - np.clip(expected, -32768, 32767)).max() <= 0.51


def test_callers_do_not_hear_each_other(speech: np.ndarray):
    data = speech.tobytes()
    alone, beside, other = (PcmStream(16_000, 2) for _ in range(3))
    for start in range(0, len(data), 640):
        block = data[start : start + 640]
        other.push(bytes(640))
        assert beside.push(block) == alone.push(memoryview(block))


def test_the_loudest_samples_stay_what_they_are():
    """Full scale does not wrap around."""
    caller = PcmStream(16_000, settings=Settings(strength=0))
    loudest = np.tile(np.array([32767, -32768], "<i2"), 8_000)
    received = np.frombuffer(caller.push(loudest.tobytes()) + caller.flush(), "<i2")
    assert np.abs(received.astype(int) - loudest).max() <= 1


def test_settings_change_while_it_runs(speech: np.ndarray):
    caller = PcmStream(16_000, 2)
    caller.settings = Settings(strength=0)
    received = np.frombuffer(caller.push(speech.tobytes()) + caller.flush(), "<i2")
    assert np.abs(received.astype(int) - speech.ravel()).max() <= 1


def test_a_rate_that_is_no_rate_is_refused():
    with pytest.raises(UserError, match="7000"):
        PcmStream(7_000)
