"""Rings lose nothing but the oldest; what is played never jumps."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gtcrn_cli.live.ring import Player, Ring

RATE = 48_000
FADE = 240


def numbered(start: int, count: int) -> np.ndarray:
    return np.arange(start, start + count, dtype=np.float32)[:, None]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=60))
def test_a_ring_gives_back_what_was_written_in_order(turns: list[tuple[int, int]]):
    ring = Ring(50, 1)
    written, expected = 0, 0
    for write, take in turns:
        ring.write(numbered(written, write))
        written += write
        expected += ring.trim(50)
        take = min(take, ring.fill)
        np.testing.assert_array_equal(ring.take(take), numbered(expected, take))
        expected += take
    assert ring.fill == written - expected <= 50


def test_trimming_drops_the_oldest():
    ring = Ring(100, 2)
    ring.write(np.repeat(numbered(0, 90), 2, axis=1))
    assert ring.trim(100) == 0
    assert ring.trim(30) == 60
    assert ring.take(1).tolist() == [[60, 60]]


def test_a_block_longer_than_the_ring_leaves_its_end():
    ring = Ring(10, 1)
    ring.write(numbered(0, 25))
    ring.trim(10)
    np.testing.assert_array_equal(ring.take(10), numbered(15, 10))


def sine(count: int, start: int = 0) -> np.ndarray:
    phase = 2 * np.pi * 200 * np.arange(start, start + count) / RATE
    return np.cos(phase).astype(np.float32)[:, None]


def steepest(samples: np.ndarray) -> float:
    return float(np.abs(np.diff(samples[:, 0])).max())


def play(player: Player, blocks: int, size: int = 480, channels: int = 1) -> np.ndarray:
    played = []
    for _ in range(blocks):
        out = np.full((size, channels), np.nan, np.float32)
        player.play(out, 0.0)
        played.append(out)
    return np.concatenate(played)


@given(st.integers(480, 2500))
def test_running_dry_and_starting_again_makes_no_click(length: int):
    player = Player(Ring(RATE, 1), FADE, start_at=480, most=4000)
    player.ring.write(sine(length))
    first = play(player, 7)
    assert player.underruns == 1
    player.ring.write(sine(1000))
    samples = np.concatenate([np.zeros((1, 1)), first, play(player, 2)])
    assert np.abs(samples).max() > 0.9
    # The sine rises by 0.026 a sample, a fade of 240 by 0.004; the mirrored repeat adds none.
    assert steepest(samples) < 0.05


def test_it_waits_until_enough_is_there_and_drops_what_is_more():
    player = Player(Ring(RATE, 1), FADE, start_at=1000, most=4000)
    player.ring.write(sine(999))
    assert not play(player, 1).any()
    player.ring.write(sine(501))
    play(player, 1)
    assert player.dropped == 500
    assert player.ring.fill == 1000 - 480


def test_too_much_is_dropped_with_a_fade():
    player = Player(Ring(RATE, 1), FADE, start_at=1000, most=4000)
    player.ring.write(sine(1000))
    first = play(player, 1)
    player.ring.write(sine(9000, start=1000))
    samples = np.concatenate([np.zeros((1, 1)), first, play(player, 3)])
    assert player.overruns == 1
    assert player.ring.fill == 1000 - 2 * 480
    assert player.dropped > 7000
    assert steepest(samples) < 0.05


def test_mono_is_played_on_all_outputs():
    player = Player(Ring(RATE, 1), FADE, start_at=480, most=4000)
    player.ring.write(sine(1000))
    played = play(player, 1, channels=2)
    assert played.any()
    np.testing.assert_array_equal(played[:, 0], played[:, 1])


def test_the_end_is_no_underrun():
    player = Player(Ring(RATE, 1), FADE, start_at=480, most=4000)
    player.ring.write(sine(700))
    play(player, 1)
    player.finish()
    assert not play(player, 3)[-480:].any()
    assert player.underruns == 0
    assert not player.playing
