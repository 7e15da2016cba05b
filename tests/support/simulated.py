"""Sound devices that exist only in time: each with a clock of its own, as fast as wanted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gtcrn_cli.errors import DeviceError
from gtcrn_cli.live.buffers import plan_buffers
from gtcrn_cli.live.ring import Player, Ring
from gtcrn_cli.live.soundcard import FADE_S, MOST_WAITING_S, RING_S

Signal = Callable[[np.ndarray], np.ndarray]  # at these sample numbers


def silence(at: np.ndarray) -> np.ndarray:
    return np.zeros(len(at))


class SimulatedPair:
    """See `live.Pair`. Time goes on in `wait`, from one callback to the next.

    Parameters
    ----------
    output_rate
        Of the output; that of the input by default.
    drift
        How much faster the input's clock runs than the output's.
    stalls
        When the worker is held up, and for how long, in seconds.
    ends_s
        When the devices vanish.
    """

    def __init__(
        self,
        signal: Signal = silence,
        *,
        drift: float = 0.0,
        sample_rate: int = 16_000,
        output_rate: int | None = None,
        block_s: float = 0.01,
        hop_s: float = 0.016,
        stalls: list[tuple[float, float]] | None = None,
        ends_s: float = np.inf,
        channels: tuple[int, int] = (1, 1),
        keep: bool = True,
    ) -> None:
        rate = sample_rate
        self.sample_rate, self.output_rate = rate, output_rate or rate
        self.names = ("simulated microphone", "simulated speaker")
        self.notes: list[str] = []
        self.device_latency_s = [0.0, 0.0]
        self.device_xruns = 0
        self.closed = False
        buffers = plan_buffers(block_s, hop_s, 0.0)
        most_s = max(MOST_WAITING_S, 4 * hop_s)
        self.input = Ring(int(max(RING_S, 4 * most_s) * rate), channels[0])
        self.most_input = int(most_s * rate)
        ring = Ring(
            int(max(RING_S, 4 * most_s) * self.output_rate),
            channels[0] if channels[0] == channels[1] else 1,
        )
        start_at = int(buffers.waiting_s * self.output_rate)
        most = start_at + int(most_s * self.output_rate)
        self.player = Player(ring, int(FADE_S * self.output_rate), start_at, most)
        self.player.spare = int(buffers.spare_s * self.output_rate)
        self.played: list[np.ndarray] = []
        self.latencies_s: list[float] = []
        self._signal = signal
        self._outputs = channels[1]
        self._blocks = round(block_s * rate), round(block_s * self.output_rate)
        self._period_s = (block_s / (1 + drift), block_s)
        self._next_s = [block_s / (1 + drift), 0.4 * block_s]
        self._now_s = 0.0
        self._stalls = list(stalls or [])
        self._ends_s = ends_s
        self._keep = keep

    def now(self) -> float:
        return self._now_s

    def advance(self, until_s: float) -> None:
        """Run all callbacks until then."""
        while min(self._next_s) <= until_s and self.problem() is None:
            side = int(self._next_s[1] < self._next_s[0])
            self._now_s = self._next_s[side]
            (self._record, self._play)[side]()
            self._next_s[side] += self._period_s[side]
        self._now_s = max(self._now_s, until_s)

    def wait(self, timeout_s: float) -> None:
        if self.problem() is not None:
            self._now_s += timeout_s
        self.advance(self._next_s[0])
        if self._stalls and self._now_s >= self._stalls[0][0]:
            self.advance(self._now_s + self._stalls.pop(0)[1])

    def wake(self) -> None:
        """Its output looks for itself."""

    def problem(self) -> str | None:
        return "the simulated microphone is gone" if self._now_s >= self._ends_s else None

    def close(self) -> None:
        self.closed = True

    def output(self) -> np.ndarray:
        """All that was played: ``[N, C]``."""
        return np.concatenate(self.played)

    def _record(self) -> None:
        at = np.arange(self.input.written, self.input.written + self._blocks[0])
        block = np.repeat(self._signal(at)[:, None], self.input.channels, axis=1)
        self.input.write(block.astype(np.float32))
        self.input.touched_s = self._now_s

    def _play(self) -> None:
        out = np.full((self._blocks[1], self._outputs), np.nan, np.float32)
        self.player.play(out, self._now_s)
        if self._keep:
            self.played.append(out)


class SimulatedSound:
    """See `session.SoundSystem`: opens one pair after another, and fails where there is None."""

    def __init__(self, *pairs: SimulatedPair | None) -> None:
        self.left = list(pairs)
        self.closed = False

    def open(self) -> SimulatedPair:
        pair = self.left.pop(0) if self.left else None
        if pair is None:
            raise DeviceError("no device")
        return pair

    def moved(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True
