"""`python -m gtcrn_cli`."""

from .cli import main

main()
