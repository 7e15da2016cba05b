"""A LADSPA host: loads a plugin and runs it on arrays."""

from __future__ import annotations

import ctypes
import itertools
import weakref
from pathlib import Path

import numpy as np

from gtcrn_cli.signals import Samples

FLOATS = ctypes.POINTER(ctypes.c_float)


class Descriptor(ctypes.Structure):
    """`LADSPA_Descriptor`."""


Descriptor._fields_ = [
    ("unique_id", ctypes.c_ulong),
    ("label", ctypes.c_char_p),
    ("properties", ctypes.c_int),
    ("name", ctypes.c_char_p),
    ("maker", ctypes.c_char_p),
    ("copyright", ctypes.c_char_p),
    ("port_count", ctypes.c_ulong),
    ("port_descriptors", ctypes.POINTER(ctypes.c_int)),
    ("port_names", ctypes.POINTER(ctypes.c_char_p)),
    ("port_range_hints", ctypes.c_void_p),
    ("implementation_data", ctypes.c_void_p),
    (
        "instantiate",
        ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(Descriptor), ctypes.c_ulong),
    ),
    ("connect_port", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p)),
    ("activate", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
    ("run", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_ulong)),
    ("run_adding", ctypes.c_void_p),
    ("set_run_adding_gain", ctypes.c_void_p),
    ("deactivate", ctypes.c_void_p),
    ("cleanup", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
]


class Library:
    """A file with plugins."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))
        self._library.ladspa_descriptor.restype = ctypes.POINTER(Descriptor)
        self._library.ladspa_descriptor.argtypes = [ctypes.c_ulong]

    @property
    def labels(self) -> list[str]:
        found = map(self._library.ladspa_descriptor, itertools.count())
        return [one.contents.label.decode() for one in itertools.takewhile(bool, found)]

    def descriptor(self, label: str) -> ctypes.Structure:
        return self._library.ladspa_descriptor(self.labels.index(label))


class Instance:
    """One plugin at work; the last four ports are limit, strength, high band and latency."""

    def __init__(self, library: Library, label: str, sample_rate: int) -> None:
        pointer = library.descriptor(label)
        self._plugin = pointer.contents
        self._library = library
        self._handle = self._plugin.instantiate(pointer, sample_rate)
        if not self._handle:
            raise RuntimeError("no instance")
        weakref.finalize(self, self._plugin.cleanup, self._handle)
        self.channels = (self._plugin.port_count - 4) // 2
        self._controls = np.float32([100, 1, 0, -1])
        for n in range(4):
            self._connect(2 * self.channels + n, self._controls[n:])
        self.activate()

    def _connect(self, port: int, place: Samples) -> None:
        self._plugin.connect_port(self._handle, port, place.ctypes.data)

    def activate(self) -> None:
        self._plugin.activate(self._handle)

    def set(self, limit: float = 100, strength: float = 1, high_band: float = 0) -> None:
        self._controls[:3] = limit, strength, high_band

    @property
    def latency(self) -> float:
        return float(self._controls[3])

    def run(
        self,
        samples: Samples,
        *,
        sizes: list[int] | None = None,
        in_place: bool = False,
        crossed: bool = False,
    ) -> Samples:
        """``[N, C]`` through the plugin, in blocks of `sizes` by turns."""
        heard, begin = [], 0
        for size in itertools.cycle(sizes or [len(samples)]):
            if begin >= len(samples):
                return np.concatenate(heard)
            inputs = np.ascontiguousarray(samples[begin : begin + size].T)
            outputs = np.full_like(inputs, 9)
            if in_place:
                outputs = inputs
            elif crossed:
                outputs = inputs[::-1]
            for c in range(self.channels):
                self._connect(c, inputs[c])
                self._connect(self.channels + c, outputs[c])
            self._plugin.run(self._handle, inputs.shape[1])
            heard.append(inputs.T.copy() if crossed else outputs.T.copy())
            begin += size
        raise AssertionError
