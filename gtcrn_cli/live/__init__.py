"""The microphone live: devices, their clocks, the session between them, and what it shows."""
