"""``autokv config``: the schema of a configuration, and whether a file keeps it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from autokv.config import ConfigurationDocument, json_schema

app = typer.Typer(no_args_is_help=True)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a configuration."""
    typer.echo(json.dumps(json_schema(), indent=2))


@app.command()
def validate(file: Annotated[Path, typer.Argument(help="Configuration file, JSON or YAML.")]) -> None:
    """Check a configuration file.

    The exit code is 0 if it is valid, else 2.
    """
    document = ConfigurationDocument.load(file)
    typer.echo(f"valid: {document.schema_version}, digest {document.digest}")
