"""How much sound waits where, between the microphone and the speaker."""

from __future__ import annotations

from dataclasses import dataclass

SERVER_BLOCKS = {"PipeWire": 3, "PulseAudio": 2}  # of which a hop is made: 5.3 ms and 8 ms
KEPT_BLOCKS = 2  # that should be with the server when the next hop comes
LOW_LATENCY_BLOCKS = 1  # the same for who wants the least delay


@dataclass(frozen=True)
class Buffers:
    """How much sound waits where, in seconds.

    Attributes
    ----------
    input_s
        At most, in the input device's own buffer; usually nothing is.
    device_s
        In the output device's own buffer.
    waiting_s
        In the ring before the output, when it starts.
    spare_s
        How much of that is left after the worst that is usual.
    latency_s
        From microphone to speaker, all in all.
    """

    input_s: float
    device_s: float
    waiting_s: float
    spare_s: float
    latency_s: float


def plan_buffers(
    block_s: float, hop_s: float, lowest_s: float, latency_s: float | None = None
) -> Buffers:
    """Buffers for PortAudio that are safe, or that make up the latency wanted.

    A callback must find a block in the ring, also when the input came just too late to complete
    a hop and was a block short of the next: a hop and two blocks. Two blocks more are for callbacks
    and for us to be late ourselves; who wants less latency does without. What is wanted beyond is
    shared by the ring, which covers for us, and the devices' buffers, which cover for callbacks.

    Parameters
    ----------
    block_s, hop_s
        How much a callback takes, and the Enhancer.
    lowest_s
        What the output device's driver calls its low latency.
    latency_s
        What the user wants, from microphone to speaker.
    """
    needed_s, spare_s = hop_s + 2 * block_s, 2 * block_s
    device_s = max(2 * block_s, lowest_s)
    # On the average the input waits for half of a block and of a hop; the Enhancer holds a hop.
    total_s = (block_s + hop_s) / 2 + hop_s + needed_s + spare_s + device_s
    extra_s = 0.0 if latency_s is None else max(latency_s - total_s, -spare_s)
    more_s = max(0.0, extra_s)
    return Buffers(
        input_s=(5 * block_s) + 0.2 * more_s,  # drivers hand it over in quarters: 5 % on average
        device_s=device_s + 0.45 * more_s,
        waiting_s=needed_s + spare_s + (0.5 * more_s if extra_s > 0 else extra_s),
        spare_s=spare_s + min(0.0, extra_s),
        latency_s=total_s + extra_s,
    )


def plan_server_buffers(
    block_s: float, hop_s: float, kept_blocks: int = KEPT_BLOCKS, latency_s: float | None = None
) -> Buffers:
    """Buffers for a sound server that are safe, or that make up the latency wanted.

    Whatever is ready goes to the server at once, so that its queue covers for our being late and
    nothing waits in the ring. When a hop comes, `kept_blocks` blocks of the one before are still in
    the queue; below one block the sound fades. If blocks do not make up hops, some hops come a
    block later than others, and that much more waits.

    Parameters
    ----------
    block_s, hop_s
        How much the server hands over and asks for at a time, and how much the Enhancer takes.
    kept_blocks
        How much should be left in the queue at least.
    latency_s
        What the user wants, from microphone to speaker.
    """
    even = abs(hop_s / block_s - round(hop_s / block_s)) < 0.01
    kept_s = kept_blocks * block_s
    waiting_s = hop_s + (0.0 if even else block_s)
    # A window, a block that is recorded and one that is played.
    total_s = 2 * hop_s + (waiting_s - hop_s) + kept_s + 2 * block_s
    least_s = total_s - kept_s + block_s
    wanted_s = total_s if latency_s is None else max(latency_s, least_s)
    kept_s += wanted_s - total_s
    return Buffers(block_s, kept_s, waiting_s, kept_s - block_s, wanted_s)
