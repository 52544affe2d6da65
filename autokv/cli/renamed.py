"""Options that have been renamed: their earlier names are still taken, and no help shows them."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

EARLIER = {
    "--max-batched-tokens": "--max-num-batched-tokens",
    "--max-sequences": "--max-num-seqs",
    "--page-tokens": "--block-size",
    "--block-size": "--hash-block-size",
    "--estimate": "--run-on=any",
}
"""Earlier name to the name now, or to a value of it.

A command that calls an option of its own by an earlier name means that option.
"""


class Renamed(TyperCommand):
    """A command whose options are also taken by their earlier names."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - the class is typer's own
        """Read ``args`` with earlier names replaced, up to a bare ``--``."""
        own = {name for option in self.params for name in option.opts}
        renamed = {old: new for old, new in EARLIER.items() if old not in own and new.partition("=")[0] in own}
        end = args.index("--") if "--" in args else len(args)
        return super().parse_args(ctx, [*(_now(arg, renamed) for arg in args[:end]), *args[end:]])


def _now(arg: str, renamed: dict[str, str]) -> str:
    name, equals, value = arg.partition("=")
    return f"{renamed.get(name, name)}{equals}{value}"
