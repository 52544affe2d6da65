"""Methods that both clients have are written as what they send; the reference shows what they answer."""

from __future__ import annotations

from typing import Any

from griffe import Expr, ExprName, ExprSubscript, Extension, Function


class Answers(Extension):
    """``Operation[JobView]`` becomes ``JobView``, and a page of a list the iterator over all of it."""

    def on_function(self, *, func: Function, **_: Any) -> None:
        """Change what a method of :mod:`autokv.client` returns."""
        kinds = {decorator.callable_path.rpartition(".")[2] for decorator in func.decorators}
        if kinds & {"Method", "call", "every"}:
            func.returns = _inner(func.returns)
        if "every" in kinds:
            func.returns = ExprSubscript(ExprName("Iterator"), _inner(func.returns))


def _inner(kind: str | Expr | None) -> Any:
    return kind.slice if isinstance(kind, ExprSubscript) else kind
