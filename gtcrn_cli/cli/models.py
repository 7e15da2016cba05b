"""`gtcrn models`: what there is, what it is, and how to add to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError

app = typer.Typer(help="List, show, add and remove models.", no_args_is_help=False)


@app.callback(invoke_without_command=True)
def models(context: typer.Context) -> None:
    """List the models that --model knows by name."""
    if context.invoked_subcommand is None:
        list_models()


@app.command("list")
def list_models() -> None:
    """List the models that --model knows by name."""
    from ..network.checkpoint import DEFAULT_MODEL, available_models, one_line, read_card

    for name, path in available_models().items():
        mark = "*" if name == DEFAULT_MODEL else " "
        try:
            said = str(read_card(path).get("description", ""))
        except UserError as error:
            said = f"(damaged: {error})"
        typer.echo(one_line(f"{mark} {name:<16} {said}"))


@app.command()
def show(name: Annotated[str, typer.Argument(help="A model's name, or a model file.")]) -> None:
    """Print what is known of a model.

    The card says its network, what it costs, its data, licence and recipe, and its scores.
    """
    import json
    from dataclasses import asdict

    from ..network.checkpoint import find_model, load_model, one_line
    from ..network.footprint import footprint

    checkpoint = load_model(name)
    facts = {
        "file": str(find_model(name)),
        "sha256": checkpoint.digest,
        "network": checkpoint.config.name,
        "config": checkpoint.config.to_dict(),
        "footprint": asdict(footprint(checkpoint.config)),
    }
    # A card is somebody's word: it stands beside what is so, and not in its place.
    said = {f"{k} (by the card)" if k in facts else k: v for k, v in checkpoint.card.items()}
    text = json.dumps({**facts, **said}, indent=2, ensure_ascii=False)
    typer.echo("\n".join(map(one_line, text.split("\n"))))


@app.command()
def add(
    file: Annotated[
        Path,
        typer.Argument(help="A .safetensors, or a checkpoint of a training: .tar, .pt, .ckpt."),
    ],
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What to call it.", show_default="the file's name"),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace a model of that name, or hide a shipped one."),
    ] = False,
) -> None:
    """Add a model of your own, so that --model knows it by name.

    It is copied into your data directory.
    """
    from ..native.packing import pack
    from ..network.checkpoint import is_shipped
    from ..network.importing import import_model

    name = file.stem if name is None else name
    target = _added(name)
    if (target.exists() or is_shipped(name)) and not overwrite:
        raise UserError(f"a model {name} exists: give another --name, or --overwrite")
    checkpoint = import_model(file)
    pack(checkpoint)  # refuses an ERB bank that the native engine cannot run
    checkpoint.save(target)
    typer.echo(f"added {name}: use it with --model {name}", err=True)


@app.command()
def remove(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The name of a model that was added.")
    ],
) -> None:
    """Remove a model that 'gtcrn models add' has added."""
    from ..network.checkpoint import is_shipped

    target = _added(name)
    if not target.is_file():
        if is_shipped(name):
            raise UserError(f"{name} comes with gtcrn, and was not added: it stays")
        raise UserError(f"no model {name} was added: 'gtcrn models' lists those there are")
    target.unlink()
    back = f"; {name} is the shipped one again" if is_shipped(name) else ""
    typer.echo(f"removed {name}{back}", err=True)


def _added(name: str) -> Path:
    """Where a model of this name is or will be: in the user's folder of models, and nowhere else.

    Raises
    ------
    UserError
        It is no name for a model.
    """
    from ..network.checkpoint import SUFFIX, user_models_dir

    if not re.fullmatch(r"\w[\w.+-]{0,99}", name) or name.endswith(SUFFIX):
        raise UserError(
            f"{name!r} is no name for a model: give a --name of letters, digits, '.', '-', '_', '+'"
        )
    return user_models_dir() / f"{name}{SUFFIX}"
