"""Streams of 16-bit PCM, as telephony and voice agents hand it around."""

from __future__ import annotations

import numpy as np

from .engines import Engine, default_engine
from .enhancer import Enhancer, Settings

FULL_SCALE = 32768


class PcmStream:
    """Removes noise from one caller's stream of 16-bit PCM.

    Parameters
    ----------
    sample_rate
        In Hz, 8,000 to 192,000.
    channels
        Interleaved in the data.
    engine
        Runs the network; one for all callers. The native engine with the default model if ``None``.
    settings
        How; `settings` may be replaced while the stream runs (but for `linked`).

    Raises
    ------
    UserError
        A sample rate or a number of channels that is not supported.

    Examples
    --------
    Half a second of a caller at 8 kHz, in blocks of 10 ms:

    >>> caller = PcmStream(8_000)
    >>> data = b"".join(caller.push(bytes(160)) for _ in range(50)) + caller.flush()
    >>> len(data)
    8000
    """

    def __init__(
        self,
        sample_rate: int,
        channels: int = 1,
        engine: Engine | None = None,
        settings: Settings | None = None,
    ) -> None:
        self._enhancer = Enhancer(engine or default_engine(), sample_rate, channels, settings)
        self._bytes_per_sample = 2 * channels
        self._rest = b""  # of a sample whose other bytes have not come yet

    @property
    def latency(self) -> int:
        """The delay from input to output in samples: one window."""
        return self._enhancer.latency

    @property
    def settings(self) -> Settings:
        """The settings that the stream is enhanced with."""
        return self._enhancer.settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        self._enhancer.settings = settings

    def push(self, data: bytes | bytearray | memoryview) -> bytes:
        """Take in little-endian 16-bit PCM and return what it completes.

        Parameters
        ----------
        data
            Of any length. A sample may be cut in two.

        Returns
        -------
        The samples that follow those returned before; none as long as no frame is complete.
        """
        data = self._rest + bytes(data)
        whole = len(data) // self._bytes_per_sample * self._bytes_per_sample
        self._rest = data[whole:]
        block = np.frombuffer(data[:whole], "<i2").reshape(-1, self._enhancer.channels)
        return self._encode(self._enhancer.push(block.astype(np.float32) / np.float32(FULL_SCALE)))

    def flush(self) -> bytes:
        """End the stream: return its remaining samples, and be ready for a new one."""
        self._rest = b""
        return self._encode(self._enhancer.flush())

    @staticmethod
    def _encode(block: np.ndarray) -> bytes:
        scaled = np.clip(np.rint(block * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
        return scaled.astype("<i2").tobytes()
