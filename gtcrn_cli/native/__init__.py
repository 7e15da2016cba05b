"""The same network, compiled for the CPU: one call takes many frames of many streams."""
