"""Buffers: as much delay as was asked for, and never less than a callback needs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtcrn_cli.live.buffers import plan_buffers, plan_server_buffers

HOP_S = 0.016


@given(
    st.floats(0.001, 0.2),
    st.floats(0.0, 0.1),
    st.floats(0.0, 2.0),
)
def test_buffers_make_up_the_latency_wanted(block_s: float, lowest_s: float, latency_s: float):
    usual = plan_buffers(block_s, HOP_S, lowest_s)
    wanted = plan_buffers(block_s, HOP_S, lowest_s, latency_s)
    assert wanted.latency_s == pytest.approx(max(latency_s, usual.latency_s - 2 * block_s))
    assert wanted.device_s >= usual.device_s >= lowest_s
    for buffers in (usual, wanted):  # whatever is wanted, a callback finds what it needs
        assert buffers.waiting_s >= HOP_S + 2 * block_s + buffers.spare_s - 1e-9
        assert -1e-9 <= buffers.spare_s <= 2 * block_s
    if wanted.latency_s > usual.latency_s + 0.001:
        assert wanted.waiting_s > usual.waiting_s


@given(st.floats(0.001, 0.2), st.integers(1, 4), st.floats(0.0, 2.0))
def test_a_server_holds_all_that_is_wanted(block_s: float, kept: int, latency_s: float):
    usual = plan_server_buffers(block_s, HOP_S, kept)
    wanted = plan_server_buffers(block_s, HOP_S, kept, latency_s)
    assert wanted.latency_s == pytest.approx(max(latency_s, usual.latency_s - (kept - 1) * block_s))
    for buffers in (usual, wanted):
        assert buffers.device_s >= block_s - 1e-9  # or it would fade all the time
        assert buffers.spare_s == pytest.approx(buffers.device_s - block_s)
        assert HOP_S <= buffers.waiting_s <= HOP_S + block_s


def test_blocks_that_make_up_hops_need_no_more_than_the_window_and_themselves():
    assert plan_server_buffers(HOP_S / 3, HOP_S).latency_s == pytest.approx(0.032 + 4 * HOP_S / 3)
    assert plan_server_buffers(HOP_S / 3, HOP_S, 1).latency_s == pytest.approx(0.048)
