"""gtcrn: removes noise from speech in real time.

The names below are the public API; all others may change from one version to the next. Each is
imported when it is first used, so that ``import gtcrn_cli`` costs nothing.

A whole recording as an array::

    from gtcrn_cli import enhance

    clean = enhance(noisy, sample_rate=48_000)

A stream, block by block: `Enhancer`. A file: `denoise`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .enhancement.engines import load_engine
    from .enhancement.enhancer import Enhancer, Settings, enhance
    from .enhancement.pipeline import denoise
    from .errors import UserError
    from .network.checkpoint import load_model

__version__ = "0.1.0"

__all__ = [
    "Enhancer",
    "Settings",
    "UserError",
    "__version__",
    "denoise",
    "enhance",
    "load_engine",
    "load_model",
]

_MODULE_OF = {
    "Enhancer": "enhancement.enhancer",
    "Settings": "enhancement.enhancer",
    "UserError": "errors",
    "denoise": "enhancement.pipeline",
    "enhance": "enhancement.enhancer",
    "load_engine": "enhancement.engines",
    "load_model": "network.checkpoint",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value  # from now on without this function
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
