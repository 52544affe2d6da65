"""``autokv config``: the schema of a configuration, whether a file keeps it, and the model that one names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from autokv.config import ConfigurationDocument, json_schema
from autokv.errors import ConfigError, ModelError

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


def model_of(given: str | None, document: ConfigurationDocument, config: Path) -> str:
    """What :func:`autokv.models.load` takes for ``--model``, or for the model of ``document``, which ``config`` holds.

    Raises:
        ConfigError: no model is given, and the configuration names none, or one that is not here.
    """
    if given is not None:
        return given
    facts = document.model or {}
    name = facts.get("source") or facts.get("name")  # older documents have no source
    remedy = "add --model with a Hugging Face id, a local folder or a GGUF file"
    if not isinstance(name, str) or not name:
        raise ConfigError("names no model", field=str(config), remedy=remedy)
    from autokv import settings
    from autokv.models.source import locate

    try:
        locate(name, settings.current(), weights=False)
    except ModelError as error:
        raise ConfigError(f"its model {name:.200}: {error.message:.200}", field=str(config), remedy=remedy) from None
    return name
