"""``autokv export``: a configuration as an engine takes it, and what the engine makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autokv.cli.tables import JsonOption, print_json
from autokv.config import ConfigurationDocument
from autokv.errors import RequestError
from autokv.export import TARGETS, Device, Export, target_named
from autokv.export import export as exported
from autokv.files import write_atomic
from autokv.models.facts import ModelFacts

if TYPE_CHECKING:
    from autokv.export import Target

TargetOption = Annotated[str, typer.Option("--target", help=f"Engine: {', '.join(TARGETS)}.")]


def export(
    config: Annotated[Path, typer.Argument(help="Configuration file, JSON or YAML.")],
    target: TargetOption,
    model: Annotated[
        str | None, typer.Option(help="Hugging Face id, local folder or GGUF file; default: that of the configuration.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail unless the engine runs exactly this.")] = False,
    device: Annotated[
        str | None, typer.Option(help="What the engine runs on: cpu, apple, a compute capability (sm89) or gfx942.")
    ] = None,
    backend: Annotated[str | None, typer.Option(help="Attention backend of the engine.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder to write the files to.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a configuration as an engine takes it, and say what changes.

    The fidelity is exact, nearest (what changes is named) or not expressible (a stage is lost). With --strict the exit
    code is 2 unless it is exact.
    """
    engine, document = target_named(target), ConfigurationDocument.load(config)
    found = exported(
        engine,
        document.config(),
        facts=facts_of(model, document),
        model=model or source_of(document),
        device=None if device is None else Device.parse(device),
        backend=backend,
    )
    if strict:
        found.check_exact()
    written = [] if output is None else _write(found, output)
    if as_json:
        print_json(found.to_dict())
        return
    tell(found)
    if output is None:
        for artifact in found.artifacts:
            typer.echo(f"\n# {artifact.name}\n{artifact.text}", nl=False)
    for file in written:
        typer.echo(f"wrote {file}")


def facts_of(model: str | None, document: ConfigurationDocument) -> ModelFacts | None:
    """Of ``model``, or those that the document has."""
    if model is None:
        return ModelFacts.from_dict(document.model)
    from autokv.models import inspect

    return inspect(model)


def source_of(document: ConfigurationDocument) -> str | None:
    """The model that the document names."""
    facts = document.model or {}
    name = facts.get("source") or facts.get("name")
    return name if isinstance(name, str) and name else None


def tell(found: Export) -> None:
    """Print the target, the fidelity and what is known to go wrong."""
    typer.echo(f"{_titled(found.target)}: {found.fidelity.level.replace('_', ' ')}")
    for change in found.fidelity.changes:
        typer.echo(f"  {change.stage}: {change.asked} -> {change.held} ({change.why})")
    for finding in found.findings:
        typer.echo(f"  {finding.level}: {finding.message} ({finding.source})")


def _titled(target: Target) -> str:
    return f"{target.title} ({target.version})"


def _write(found: Export, folder: Path) -> list[Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(
            f"cannot make {folder}: {error.strerror}", field="--output", remedy="name a folder"
        ) from None
    return [write_atomic(folder / artifact.name, artifact.text.encode()) for artifact in found.artifacts]
