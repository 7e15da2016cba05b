"""What the steps of a training hear, and how fast they go."""

from __future__ import annotations

import pytest

from gtcrn_cli.training.plan import GOING_ON, Plan

RATE = 16_000


def test_a_step_hears_what_was_asked_for():
    plan = Plan(steps=4, batch_s=2.0)
    assert [plan.segment(step) for step in range(4)] == [(1, 2 * RATE)] * 4
    assert Plan(batch_s=2.0, **GOING_ON).segment(0) == (1, 2 * RATE)
    published = Plan()
    assert [published.segment(step) for step in (0, 4_000, 10_000)] == [
        (8, 2 * RATE), (4, 4 * RATE), (2, 8 * RATE),
    ]  # fmt: skip


@pytest.mark.parametrize("steps", [1, 5, 20, 300, 3_000])
def test_a_short_run_gets_past_its_warmup(steps: int):
    plan = Plan(steps=steps)
    rates = [plan.rate(step) for step in range(steps)]
    assert max(rates) == plan.learning_rate and rates.index(max(rates)) <= steps // 10
    assert rates[-1] <= rates[0] if steps > 10 else True
    assert Plan(20_000).rate(149) == 1.5e-3 * 150 / 300  # as the published weights were trained
