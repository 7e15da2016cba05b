"""`gtcrn models`: what there is, what it is, and how to add to it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="List, show and add models.", no_args_is_help=False)


@app.callback(invoke_without_command=True)
def list_models(context: typer.Context) -> None:
    """List the models that --model knows by name."""
    if context.invoked_subcommand is not None:
        return
    from ..network.checkpoint import DEFAULT_MODEL, available_models, read_card

    for name, path in available_models().items():
        mark = "*" if name == DEFAULT_MODEL else " "
        typer.echo(f"{mark} {name:<16} {read_card(path).get('description', '')}")


@app.command()
def show(name: Annotated[str, typer.Argument(help="A model's name, or a model file.")]) -> None:
    """Print a model's card: network, what it costs, data, licence, recipe, measured scores."""
    import json
    from dataclasses import asdict

    from ..network.checkpoint import find_model, load_model
    from ..network.footprint import footprint

    checkpoint = load_model(name)
    facts = {
        "file": str(find_model(name)),
        "sha256": checkpoint.digest,
        "network": checkpoint.config.name,
        "config": checkpoint.config.to_dict(),
        "footprint": asdict(footprint(checkpoint.config)),
        **checkpoint.card,
    }
    typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="A .safetensors of ours or a published .tar.")],
    name: Annotated[
        str | None, typer.Option(help="What to call it.", show_default="the file's name")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a model added before.")
    ] = False,
) -> None:
    """Import a model into the user's data directory, for --model to use by name."""
    from ..errors import UserError
    from ..native.packing import pack
    from ..network.checkpoint import SUFFIX, import_model, user_models_dir

    target = user_models_dir() / f"{name or file.stem}{SUFFIX}"
    if target.exists() and not overwrite:
        raise UserError(f"a model {target.stem} exists: give another --name, or --overwrite")
    checkpoint = import_model(file)
    pack(checkpoint)  # refuses the weights of another network
    checkpoint.save(target)
    typer.echo(f"added {target.stem}: use it with --model {target.stem}", err=True)
