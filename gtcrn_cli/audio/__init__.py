"""Sound in and out: files, pipes, and what ffmpeg reads and writes. It knows no network."""
