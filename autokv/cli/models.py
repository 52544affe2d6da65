"""``autokv models``: what AutoKV knows of a model before it runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from autokv.cli.tables import print_json

if TYPE_CHECKING:
    from autokv.models import ModelFacts

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Models: what their KV caches cost."""


@app.command()
def inspect(
    model: Annotated[str, typer.Argument(help="Hugging Face id, local folder or GGUF file.")],
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what decides the size of MODEL's KV cache."""
    from autokv import models

    facts = models.inspect(model)
    if json_output:
        print_json(facts.to_dict())
        return
    from rich.table import Table

    from autokv.cli.console import output, print_table

    table = Table(title=facts.name, show_header=False, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in _rows(facts):
        table.add_row(label, value)
    print_table(output(), table)


def _rows(facts: ModelFacts) -> list[tuple[str, str]]:
    rows = [
        ("architecture", f"{facts.architecture} ({facts.model_type})"),
        ("parameters", f"{facts.parameters:,}"),
        ("layers", str(facts.layers)),
    ]
    for kind in dict.fromkeys(facts.layer_kinds):
        indices = [index for index, each in enumerate(facts.layer_kinds) if each == kind]
        bound = "" if kind == "full" else f" of {facts.sliding_window:,} tokens"
        rows.append((f"  {kind} attention", f"{len(indices)}{bound}: {_ranges(indices)}"))
    rows += [
        ("attention", f"{facts.attention}: {facts.query_heads} query heads, {facts.kv_heads} KV heads"),
        ("head_dim", str(facts.head_dim)),
        ("hidden size", f"{facts.hidden_size:,}"),
        ("vocabulary", f"{facts.vocab_size:,}"),
        ("RoPE", ", ".join(_flat(facts.rope)) or "none"),
        ("context", f"{facts.context_tokens:,} tokens"),
        ("16-bit KV cache", f"{facts.kv_bytes_per_token:,} bytes per token (full attention)"),
    ]
    if facts.windowed_kv_bytes:
        rows.append(("", f"and at most {facts.windowed_kv_bytes:,} bytes in windows"))
    if facts.revision:
        rows.append(("revision", facts.revision))
    if facts.attention_softcap:
        rows.append(("attention soft cap", f"{facts.attention_softcap:g}"))
    return rows


def _ranges(indices: list[int]) -> str:
    """``[0, 1, 2, 5]`` as ``0-2, 5``."""
    parts: list[list[int]] = []
    for index in indices:
        if parts and index == parts[-1][-1] + 1:
            parts[-1].append(index)
        else:
            parts.append([index])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def _flat(rope: object, prefix: str = "") -> list[str]:
    if not isinstance(rope, dict):
        return []
    lines = []
    for key, value in rope.items():
        lines += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key} {_number(value)}"]
    return lines


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
