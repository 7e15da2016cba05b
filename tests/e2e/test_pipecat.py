"""The filter for voice agents, in the transports of the real package.

pipecat asks for versions of its own of what else the tests use, so it is run in an environment of
its own: ``pip install '.[pipecat]' pytest``.
"""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import soundfile
from support.places import PROJECT
from support.sound import agreement_db

pytest.importorskip("pipecat", reason="the extra 'pipecat' is not installed")

from pipecat.frames.frames import FilterEnableFrame, InputAudioRawFrame, StartFrame
from pipecat.tests.utils import SleepFrame, run_test
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_transport import TransportParams

from gtcrn_cli import Settings, UserError, enhance
from gtcrn_cli.pipecat import GtcrnFilter

RATE = 16_000


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return soundfile.read(PROJECT / "examples" / "noisy.wav", dtype="int16")[0]


async def through(filter_: GtcrnFilter, data: bytes, block: int = 640) -> bytes:
    await filter_.start(RATE)
    parts = [await filter_.filter(data[i : i + block]) for i in range(0, len(data), block)]
    await filter_.stop()
    return b"".join(parts)


def test_blocks_of_20_ms_give_what_the_whole_gives(speech: np.ndarray):
    received = np.frombuffer(asyncio.run(through(GtcrnFilter(), speech.tobytes())), "<i2")
    expected = enhance(speech.astype(np.float32) / 32768, RATE)
    assert len(speech) - 512 <= len(received) <= len(speech)
    assert agreement_db(received / 32768, expected[: len(received)]) > 60


def test_off_it_delays_and_changes_nothing(speech: np.ndarray):
    async def run() -> bytes:
        filter_ = GtcrnFilter()
        await filter_.process_frame(FilterEnableFrame(enable=False))
        return await through(filter_, speech.tobytes())

    received = np.frombuffer(asyncio.run(run()), "<i2").astype(int)
    assert np.abs(received - speech[: len(received)]).max() <= 1


def test_turned_off_in_the_middle_no_sample_is_lost(speech: np.ndarray):
    async def run() -> bytes:
        filter_ = GtcrnFilter(Settings(strength=0.5))
        await filter_.start(RATE)
        data, half = speech.tobytes(), len(speech) // 2 * 2
        parts = [await filter_.filter(data[:half])]
        await filter_.process_frame(FilterEnableFrame(enable=False))
        parts.append(await filter_.filter(data[half:]))
        return b"".join(parts)

    received = np.frombuffer(asyncio.run(run()), "<i2").astype(int)
    later = len(speech) // 2 + RATE // 10
    assert np.abs(received[later:] - speech[later : len(received)]).max() <= 1


def test_two_channels_are_enhanced_as_two(speech: np.ndarray):
    two = np.stack([speech, speech[::-1]], axis=1)
    data = asyncio.run(through(GtcrnFilter(channels=2), two.tobytes(), 1280))
    received = np.frombuffer(data, "<i2").reshape(-1, 2)
    expected = enhance(two.astype(np.float32) / 32768, RATE)
    assert len(speech) - 512 <= len(received) <= len(speech)
    assert agreement_db(received / 32768, expected[: len(received)]) > 60


def test_it_does_not_mix_the_voices_of_two_transports(speech: np.ndarray):
    async def run() -> None:
        filter_ = GtcrnFilter()
        await filter_.start(RATE)
        with pytest.raises(UserError, match="make another for each"):
            await filter_.start(RATE)
        await filter_.stop()
        await filter_.start(RATE)  # one call after the other

    asyncio.run(run())


def test_before_a_start_it_hands_on(speech: np.ndarray):
    data = speech.tobytes()
    assert asyncio.run(GtcrnFilter().filter(data)) == data


class Microphone(BaseInputTransport):
    """A transport without a network: it takes the sound that is sent into the pipeline."""

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)


def test_a_transport_hears_enhanced_sound(speech: np.ndarray):
    """In a pipeline, whose transport starts the filter, calls it, and hands a control frame on."""
    data = speech.tobytes()
    frames = [InputAudioRawFrame(data[i : i + 640], RATE, 1) for i in range(0, len(data), 640)]
    half = len(frames) // 2
    params = TransportParams(
        audio_in_enabled=True, audio_in_sample_rate=RATE, audio_in_filter=GtcrnFilter()
    )
    sent = [*frames[:half], SleepFrame(0.5), FilterEnableFrame(enable=False), SleepFrame(0.2)]
    sent += [*frames[half:], SleepFrame(0.5)]
    down, _ = asyncio.run(run_test(Microphone(params), frames_to_send=sent, start_timeout=20))
    audio = b"".join(frame.audio for frame in down if isinstance(frame, InputAudioRawFrame))
    received = np.frombuffer(audio, "<i2").astype(int)
    assert len(received) >= len(speech) - 512
    turned = half * 320
    expected = enhance(speech.astype(np.float32) / 32768, RATE) * 32768
    assert np.abs(received[: turned - 512] - expected[: turned - 512]).max() <= 1
    after = slice(turned + 512, len(received))
    assert np.abs(received[after] - speech[after]).max() <= 1
