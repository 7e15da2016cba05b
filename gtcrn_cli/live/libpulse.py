"""The few functions of libpulse that sound in and out needs, as C has them.

`pulsectl` asks the sound server and tells it what to do, but carries no sound, and PortAudio
reaches the server only through ALSA, where nobody can say that a stream must not be moved to
another device. That flag, `DONT_MOVE`, is why these bindings are here. The interface has been the
same since 2009 (libpulse.so.0); PipeWire's server speaks it, too.

The functions that return at once keep the interpreter's lock; the one that waits lets go of it.
"""

from __future__ import annotations

import ctypes
from ctypes import (
    POINTER,
    c_char_p,
    c_int,
    c_int64,
    c_long,
    c_size_t,
    c_uint,
    c_uint8,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any

NAME = "libpulse.so.0"

NO_AUTOSPAWN = 1
AUTO_TIMING_UPDATE, NO_REMAP_CHANNELS, DONT_MOVE = 0x8, 0x10, 0x200
ADJUST_LATENCY, EARLY_REQUESTS = 0x2000, 0x4000
RECORD_FLAGS = AUTO_TIMING_UPDATE | DONT_MOVE | ADJUST_LATENCY
PLAY_FLAGS = AUTO_TIMING_UPDATE | DONT_MOVE | EARLY_REQUESTS

CONTEXT_READY, CONTEXT_FAILED, CONTEXT_TERMINATED = 4, 5, 6
STREAM_CREATING, STREAM_READY, STREAM_FAILED, STREAM_TERMINATED = 1, 2, 3, 4

FLOAT32LE = 5
WHATEVER = 0xFFFFFFFF  # a buffer attribute that is left to the server
SEEK_RELATIVE = 0
AIFF_CHANNELS = 0  # the order that streams have unless they say otherwise
MOST_CHANNELS = 32


class SampleSpec(ctypes.Structure):
    """``pa_sample_spec``."""

    _fields_ = [("format", c_int), ("rate", c_uint32), ("channels", c_uint8)]


class ChannelMap(ctypes.Structure):
    """``pa_channel_map``: which channel is for which speaker."""

    _fields_ = [("channels", c_uint8), ("map", c_int * MOST_CHANNELS)]


class BufferAttributes(ctypes.Structure):
    """``pa_buffer_attr``: in bytes."""

    _fields_ = [
        ("maxlength", c_uint32),
        ("tlength", c_uint32),
        ("prebuf", c_uint32),
        ("minreq", c_uint32),
        ("fragsize", c_uint32),
    ]


class TimingInfo(ctypes.Structure):
    """The beginning of ``pa_timing_info``, as the server said it last; times in microseconds."""

    _fields_ = [
        ("seconds", c_long),
        ("microseconds", c_long),
        ("synchronized_clocks", c_int),
        ("sink_usec", c_uint64),
        ("source_usec", c_uint64),
    ]


_WAITING = {"pa_mainloop_poll": (c_int, [c_void_p])}
_IMMEDIATE: dict[str, tuple[Any, list[Any]]] = {
    "pa_mainloop_new": (c_void_p, []),
    "pa_mainloop_free": (None, [c_void_p]),
    "pa_mainloop_get_api": (c_void_p, [c_void_p]),
    "pa_mainloop_prepare": (c_int, [c_void_p, c_int]),
    "pa_mainloop_dispatch": (c_int, [c_void_p]),
    "pa_mainloop_iterate": (c_int, [c_void_p, c_int, c_void_p]),
    "pa_mainloop_wakeup": (None, [c_void_p]),
    "pa_proplist_new": (c_void_p, []),
    "pa_proplist_sets": (c_int, [c_void_p, c_char_p, c_char_p]),
    "pa_proplist_free": (None, [c_void_p]),
    "pa_context_new_with_proplist": (c_void_p, [c_void_p, c_char_p, c_void_p]),
    "pa_context_connect": (c_int, [c_void_p, c_char_p, c_int, c_void_p]),
    "pa_context_get_state": (c_int, [c_void_p]),
    "pa_context_errno": (c_int, [c_void_p]),
    "pa_context_disconnect": (None, [c_void_p]),
    "pa_context_unref": (None, [c_void_p]),
    "pa_strerror": (c_char_p, [c_int]),
    "pa_channel_map_init_auto": (c_void_p, [POINTER(ChannelMap), c_uint, c_int]),
    "pa_channel_map_init_extend": (c_void_p, [POINTER(ChannelMap), c_uint, c_int]),
    "pa_stream_new": (
        c_void_p,
        [c_void_p, c_char_p, POINTER(SampleSpec), POINTER(ChannelMap)],
    ),
    "pa_stream_connect_record": (
        c_int,
        [c_void_p, c_char_p, POINTER(BufferAttributes), c_int],
    ),
    "pa_stream_connect_playback": (
        c_int,
        [c_void_p, c_char_p, POINTER(BufferAttributes), c_int, c_void_p, c_void_p],
    ),
    "pa_stream_get_state": (c_int, [c_void_p]),
    "pa_stream_get_index": (c_uint32, [c_void_p]),
    "pa_stream_get_device_name": (c_char_p, [c_void_p]),
    "pa_stream_is_suspended": (c_int, [c_void_p]),
    "pa_stream_get_buffer_attr": (POINTER(BufferAttributes), [c_void_p]),
    "pa_stream_get_timing_info": (POINTER(TimingInfo), [c_void_p]),
    "pa_stream_get_underflow_index": (c_int64, [c_void_p]),
    "pa_stream_readable_size": (c_size_t, [c_void_p]),
    "pa_stream_peek": (c_int, [c_void_p, POINTER(c_void_p), POINTER(c_size_t)]),
    "pa_stream_drop": (c_int, [c_void_p]),
    "pa_stream_writable_size": (c_size_t, [c_void_p]),
    "pa_stream_write": (
        c_int,
        [c_void_p, c_void_p, c_size_t, c_void_p, c_int64, c_int],
    ),
    "pa_stream_flush": (c_void_p, [c_void_p, c_void_p, c_void_p]),
    "pa_operation_unref": (None, [c_void_p]),
    "pa_stream_disconnect": (c_int, [c_void_p]),
    "pa_stream_unref": (None, [c_void_p]),
}


class LibPulse:
    """The functions above, as attributes without their ``pa_``.

    Raises
    ------
    OSError
        The library is not installed.
    """

    def __init__(self) -> None:
        for library, functions in (
            (ctypes.CDLL(NAME), _WAITING),
            (ctypes.PyDLL(NAME), _IMMEDIATE),
        ):
            for name, (result, arguments) in functions.items():
                function = getattr(library, name)
                function.restype, function.argtypes = result, arguments
                setattr(self, name.removeprefix("pa_"), function)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"libpulse binding {name!r}")  # for type checkers: all else is set
