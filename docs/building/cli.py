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
    shown = [each for each in command.params if not getattr(each, "hidden", False)]
    arguments = [each for each in shown if isinstance(each, TyperArgument)]
    yield from table(
        ("argument", "meaning"), [(code(each.make_metavar(context)), each.help or "") for each in arguments]
    )
    yield from table(
        ("option", "value", "default", "meaning"),
        [_option(each, context) for each in shown if each not in arguments and each.name != "help"],
    )


def _option(option: Any, context: Any) -> tuple[str, str, str, str]:
    names = " / ".join(", ".join(code(each) for each in group) for group in (option.opts, option.secondary_opts) if group)
    value = "" if option.is_flag else code(option.make_metavar(context)) + (", repeatable" if option.multiple else "")
    default = "required" if option.required else _default(option, context)
    return names, value, default, option.help or ""


def _default(option: Any, context: Any) -> str:
    """As ``--help`` prints it."""
    value = option.get_default(context, call=False)
    if option.show_default and isinstance(option.show_default, str):
        return option.show_default
    if value in (None, "", False) or callable(value) or value == () or value == []:
        return ""
    values = value if isinstance(value, list | tuple) else [value]
    return ", ".join(code(getattr(each, "value", each)) for each in values)
