"""gtcrn: removes noise from speech in real time."""

__version__ = "0.1.0"
