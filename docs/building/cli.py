"""The page of commands, from the command line's own declarations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from tables import code, table
from typer.core import TyperArgument, TyperGroup

from autokv.cli.main import app


def page() -> str:
    """Every command with its usage, its arguments and its options."""
    return "\n".join(_lines(typer.main.get_command(app), "autokv"))


def _lines(group: Any, path: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if getattr(command, "hidden", False):
            continue
        called = f"{path} {name}"
        if isinstance(command, TyperGroup):
            yield from _lines(command, called)
        else:
            yield from _command(command, called)


def _command(command: Any, called: str) -> Iterator[str]:
    context = command.make_context(called, [], resilient_parsing=True)
    yield f"## {called}"
    yield ""
    yield " ".join((command.help or "").split("\f")[0].split("\n\n")[0].split())
    yield ""
    yield from ("```text", " ".join([called, *command.collect_usage_pieces(context)]), "```", "")
    for paragraph in (command.help or "").split("\f")[0].split("\n\n")[1:]:
        yield from (" ".join(paragraph.split()), "")
    shown = [each for each in command.params if not getattr(each, "hidden", False) and each.name != "help"]
    for kind, parameters in (
        ("argument", [each for each in shown if isinstance(each, TyperArgument)]),
        ("option", [each for each in shown if not isinstance(each, TyperArgument)]),
    ):
        yield from table((kind, "meaning"), [_record(each, context) for each in parameters])


def _record(parameter: Any, context: Any) -> tuple[str, str]:
    """Its names with its value, and its help with its default, as ``--help`` prints them."""
    names, meaning = parameter.get_help_record(context) or (parameter.name, "")
    return code(names), meaning
