"""`gtcrn export`: the model for other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from .options import Model, Overwrite


def export(
    target: Annotated[
        Path, typer.Argument(metavar="OUTPUT.onnx", help="The file to write.", show_default=False)
    ],
    model: Model = "gtcrn",
    overwrite: Overwrite = False,
) -> None:
    """Write a model as ONNX: one frame per call, state in and out, ready for sherpa-onnx.

    Its output is compared with torch over 100 frames before the file is kept.
    """
    if target.suffix.lower() != ".onnx":
        raise UserError(f"{target}: what is written is an .onnx: give it that ending")
    from ..network.checkpoint import load_model
    from ..network.onnx_export import CHECKED_FRAMES, export

    difference = export(load_model(model), target, overwrite)
    typer.echo(f"{target}: within {difference:.1e} of torch over {CHECKED_FRAMES} frames", err=True)
