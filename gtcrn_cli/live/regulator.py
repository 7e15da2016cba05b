"""Keeps the delay between two devices what it should be: constant, and no longer than need be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .drift import DEAD_ZONE_S, DriftControl
from .recording import Note

if TYPE_CHECKING:
    from .worker import Pair

HEADROOM_S = 1.0  # how often the least that waited for the output is noted
CALM_S = 60.0  # for so long nothing must have come close before a delay that was added goes again
MOST_LENGTHENED_S = 0.06  # that much delay a jittery system may add
AFTER_A_GAP_S = 0.01  # how much of it each gap adds
STARTING_S = 3.0  # devices start in bursts and pauses: what runs dry then says nothing
ENOUGH_S = 0.02  # headroom beyond that, which the user may have asked for, may shrink unremarked


class Regulator:
    """Measures how much sound is on its way, and has it stay so much.

    Where a machine is held up so that less is left in the worst case than was planned, the sound is
    stretched, inaudibly, until more waits; once it has been calm for a while it is squeezed again.

    Parameters
    ----------
    pair
        The devices.
    hop_s
        How long a hop lasts.
    note
        Told when the delay changes.

    Attributes
    ----------
    drift
        What it regulates with.
    latency_s
        From microphone to speaker, as far as the drivers tell.
    lengthened_s
        How much of that was added because the machine is held up at times.
    headroom_s
        The least that waited for the output in the last second.
    """

    def __init__(self, pair: Pair, hop_s: float, note: Note) -> None:
        self.drift = DriftControl()
        self.latency_s = 0.0
        self.headroom_s = 0.0
        self._pair = pair
        self._hop_s = hop_s
        self._note = note
        self._regulated_s = self._looked_s = self._calm_since_s = pair.now()
        self._started_s = pair.now()
        self._faults = 0
        self._underruns = 0
        self._least_s = math.inf  # of the headroom, since the control began to settle
        self.lengthened_s = 0.0

    @property
    def correction(self) -> float:
        """For `Resampler.push`."""
        return self.drift.correction

    def update(self, held_s: float, overruns: int) -> None:
        """After each hop: measure, and correct.

        Parameters
        ----------
        held_s
            How much sound is between the two rings.
        overruns
            How often input had to be dropped so far.
        """
        pair = self._pair
        now = pair.now()
        elapsed, self._regulated_s = now - self._regulated_s, now
        player = pair.player
        faults = player.underruns + player.overruns + overruns
        if faults != self._faults or not player.playing:
            ran_dry, self._underruns = player.underruns != self._underruns, player.underruns
            self._faults = faults
            started = now - self._started_s > STARTING_S
            self._least_s = math.inf
            self.drift.restart()
            if ran_dry and started:
                self._lengthen_gap()
            return
        self._look_at_headroom(now)
        # Between two callbacks the devices go on: what they have recorded and played meanwhile.
        recorded_s = min(now - pair.input.touched_s, 2 * self._hop_s)
        played_s = min(now - player.ring.touched_s, 2 * self._hop_s)
        waiting_s = held_s + pair.input.fill / pair.sample_rate + recorded_s - played_s
        waiting_s += (player.ring.fill + player.queued) / pair.output_rate
        settled = self.drift.settled
        self.drift.update(waiting_s, elapsed)
        if self.drift.settled:
            if not settled:
                self._calm_since_s = now
                self._correct()
            elif now - self._calm_since_s > CALM_S:
                self._calm_since_s = now
                self._shorten_or_lengthen()
        self.latency_s = self.drift.waiting_s + sum(pair.device_latency_s)

    def _spare_s(self) -> float:
        return self._pair.player.spare / self._pair.output_rate

    def _correct(self) -> None:
        """If less is left in the worst case than should be, have more wait, up to a limit.

        Much more than should be is left over from a gap, and goes again.
        """
        spare_s = self._spare_s()
        missing_s = min(
            min(spare_s, ENOUGH_S) - self._least_s, MOST_LENGTHENED_S - self.lengthened_s
        )
        excess_s = self._least_s - spare_s - self.lengthened_s
        if self._hop_s < excess_s < math.inf:  # left over from a gap
            self.drift.lengthen(-excess_s)
        elif missing_s > DEAD_ZONE_S:
            self.drift.lengthen(missing_s)
            self._change(missing_s)

    def _shorten_or_lengthen(self) -> None:
        excess_s = min(self._least_s - self._spare_s(), self.lengthened_s)
        if DEAD_ZONE_S / 2 < excess_s < math.inf:
            self.drift.lengthen(-excess_s)
            self._change(-excess_s)
        else:
            self._correct()
        self._least_s = math.inf

    def _lengthen_gap(self) -> None:
        """After a gap, before the sound goes on: have it wait a little longer, up to a limit."""
        by_s = min(AFTER_A_GAP_S, MOST_LENGTHENED_S - self.lengthened_s)
        if by_s > 0:
            self._change(by_s)

    def _change(self, by_s: float) -> None:
        """From now on so much more is to wait, also after a gap."""
        self.lengthened_s += by_s
        self._pair.player.start_at += round(by_s * self._pair.output_rate)
        text = "is held up at times: {} ms more" if by_s > 0 else "is calm again: {} ms less"
        self._note(f"this machine {text.format(round(abs(1000 * by_s)))} delay")

    def _look_at_headroom(self, now: float) -> None:
        player = self._pair.player
        if now - self._looked_s > HEADROOM_S and player.lowest is not None:
            self.headroom_s = player.lowest / self._pair.output_rate
            if self.drift.lengthening or now - self._started_s < STARTING_S + HEADROOM_S:
                self._least_s = math.inf
            else:
                self._least_s = min(self._least_s, self.headroom_s)
            self._looked_s, player.lowest = now, None
