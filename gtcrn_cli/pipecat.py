"""A filter for the transports of pipecat, the framework for voice agents (extra ``pipecat``).

    from gtcrn_cli.pipecat import GtcrnFilter

    params = TransportParams(audio_in_enabled=True, audio_in_filter=GtcrnFilter())

It works at the transport's own sample rate, without a resampler, and delays the sound by 32 ms.
"""

from __future__ import annotations

from dataclasses import replace

from .enhancement.engines import Engine, default_engine
from .enhancement.enhancer import Settings
from .enhancement.pcm import PcmStream
from .errors import MissingExtraError, UserError

try:
    from pipecat.audio.filters.base_audio_filter import BaseAudioFilter
    from pipecat.frames.frames import FilterControlFrame, FilterEnableFrame
except ImportError:
    raise MissingExtraError("the filter for pipecat", "pipecat") from None


class GtcrnFilter(BaseAudioFilter):
    """Removes noise from what a transport hears, before anything else does.

    A `FilterEnableFrame` turns it off and on again. Off, it hands the sound on unchanged but for
    the same delay, so that no sample is lost or heard twice at the turn.

    It is for one transport, whose sound it remembers; make another for each.

    Parameters
    ----------
    settings
        How; all the noise that the network finds goes if ``None``. For recognisers a part of it is
        better kept: ``Settings(strength=0.5)`` lowers it by at most 6 dB.
    engine
        Runs the network; one for all callers. The native engine with the default model if ``None``.
    channels
        Interleaved in the transport's sound: its ``audio_in_channels``, which no filter is told.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        engine: Engine | None = None,
        channels: int = 1,
    ) -> None:
        self._settings = settings or Settings()
        self._engine = engine or default_engine()  # here, so that no caller waits for it
        self._channels = channels
        self._enabled = True
        self._stream: PcmStream | None = None

    async def start(self, sample_rate: int) -> None:
        """Begin a stream at `sample_rate` Hz.

        Raises
        ------
        UserError
            Another transport has begun one and not ended it, a sample rate or a number of channels
            that is not supported.
        """
        if self._stream is not None:  # the voices of two callers would be mixed
            raise UserError("a GtcrnFilter serves one transport: make another for each")
        self._stream = PcmStream(sample_rate, self._channels, self._engine, self._effective())

    async def stop(self) -> None:
        """End the stream."""
        self._stream = None

    async def process_frame(self, frame: FilterControlFrame) -> None:
        """Obey a `FilterEnableFrame`; other frames are not for this filter."""
        if isinstance(frame, FilterEnableFrame):
            self._enabled = frame.enable
            if self._stream is not None:
                self._stream.settings = self._effective()

    async def filter(self, audio: bytes) -> bytes:
        """Enhance 16-bit PCM of any length; what it does not complete comes with a later call."""
        if self._stream is None:
            return audio
        return self._stream.push(audio)

    def _effective(self) -> Settings:
        """Strength 0 leaves the sound as it is, on the same path."""
        return self._settings if self._enabled else replace(self._settings, strength=0.0)
