"""When sound is foreseen to be there: seldom looked for in vain, and never much too late."""

from __future__ import annotations

import numpy as np
import pytest

from gtcrn_cli.live.server_streams import Arrivals

PERIOD_S = 0.016


class Looks:
    """Has sound come at some times, and looks for it when it is due."""

    def __init__(self) -> None:
        self.arrivals = Arrivals(PERIOD_S)
        self.late_s: list[float] = []
        self.vain = 0

    def at(self, come_s: list[float] | np.ndarray) -> Looks:
        self.late_s, self.vain, now_s, left = [], 0, 0.0, list(come_s)
        while left:
            now_s = max(now_s, self.arrivals.due_s)
            awaited = now_s < left[0]
            self.vain += awaited
            now_s = max(now_s, left[0])
            there = [come for come in left if come <= now_s]
            self.late_s += [now_s - come for come in there]
            self.arrivals.note(now_s, awaited, len(there))
            left = left[len(there) :]
        return self


@pytest.mark.parametrize("drift", [0.0, 1e-3, -1e-3])
@pytest.mark.parametrize("jitter_s", [0.0, 0.001])
def test_most_is_there_when_it_is_looked_for(drift: float, jitter_s: float):
    rng = np.random.default_rng(0)
    come_s = 5 + PERIOD_S * (1 + drift) * np.arange(4000) + jitter_s * rng.random(4000)
    looks = Looks().at(come_s)
    assert looks.vain < 400
    assert max(looks.late_s) < jitter_s + 0.001


@pytest.mark.parametrize("pause_s", [0.05, 2.0])
def test_after_a_pause_a_burst_does_not_make_it_look_seldom(pause_s: float):
    come_s = 5 + PERIOD_S * np.arange(2000)
    held_up = (come_s > 10) & (come_s < 10 + pause_s)
    come_s[held_up] = 10 + pause_s  # all at once, then as before
    looks = Looks().at(come_s)
    assert max(looks.late_s[-1000:]) < 0.001
    assert max(looks.late_s[: np.argmax(held_up)]) < 0.001


def test_a_burst_that_comes_while_one_waits_does_not_put_the_next_off():
    come_s = 5 + PERIOD_S * np.arange(600)
    late = (come_s > 10) & (come_s < 10.3)
    come_s[late] = 10.305
    come_s[np.argmax(late)] = 10.3  # one comes, and while the next is waited for all the others
    looks = Looks().at(come_s)
    assert max(looks.late_s[np.argmin(come_s <= 10.305) :]) < 0.005  # another phase, no more


def test_another_phase_is_found():
    looks = Looks().at(5 + PERIOD_S * np.arange(500))
    looks.at(15 + PERIOD_S * np.arange(500) + 0.007)
    looks.at(25 + PERIOD_S * np.arange(500) + 0.002)
    assert max(looks.late_s[-200:]) < 0.001
