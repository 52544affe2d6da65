"""Every command that the documentation or a message of the program names is one that the program takes."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from autokv.cli.main import app
from autokv.models.demo import INSTALL

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("[!C]*.md"), ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/*")]
)
SOURCES = sorted(path for room in ("autokv", "api", "kernels", "search_spaces") for path in (ROOT / room).rglob("*.py"))
_group = typer.main.get_command(app)
assert isinstance(_group, TyperGroup)
TREE = _group
HOLE = "1"
"""What stands for a value that a message puts in: a word, and a number."""


def found(words: list[str]) -> tuple[TyperGroup | TyperCommand, list[str]]:
    """The command, or group, that ``words`` lead to, and the words behind it."""
    command: TyperGroup | TyperCommand = TREE
    while words and isinstance(command, TyperGroup) and words[0] in command.commands:
        following, words = command.commands[words[0]], words[1:]
        assert isinstance(following, TyperGroup | TyperCommand)
        command = following
    return command, words


def problem(line: str, *, whole: bool) -> str | None:
    """Why ``line`` is no command; one that is not ``whole`` may leave out what is required."""
    words = shlex.split(line, comments=True)[1:]
    command, rest = found(words)
    if isinstance(command, TyperGroup):
        return f"{line}: no command {rest[0]}" if rest and not rest[0].startswith("-") else None
    if not rest and not whole:
        return None
    try:
        command.make_context(line, rest)
    except typer.Exit:
        return None  # --help
    except typer.TyperException as error:
        missing = "missing" in str(error.format_message()).lower()
        return None if missing and not whole else f"{line}: {error.format_message()}"
    return None


def blocks(page: Path) -> Iterator[str]:
    """The command lines in a page's code blocks."""
    for line in page.read_text(encoding="utf-8").splitlines():
        text = re.sub(r"^(?:\s+|#\s+|\$ )", "", line)
        if text.startswith("autokv ") and (text != line or page.suffix != ".md"):
            yield text


def inline(page: Path) -> Iterator[str]:
    """The commands within a page's sentences; where a cell of a table names one, its options stand elsewhere."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    yield from (" ".join(each.split()) for each in re.findall(r"`(autokv [^`]+)`", text))


def messages(source: Path) -> Iterator[str]:
    """The commands between backticks in a source's strings, docstrings apart; what is put in is :data:`HOLE`."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    skipped = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if id(node) in skipped | inner:
            continue
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else HOLE for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        yield from re.findall(r"(?<!`)`(autokv [^`]+)`(?!`)", text)


def test_the_check_sees_what_is_wrong() -> None:
    assert problem("autokv tune --modle m", whole=True)
    assert problem("autokv tun", whole=True)
    assert problem("autokv trace convert a.csv", whole=True)
    assert problem("autokv hardware probe --output", whole=False)
    assert problem("autokv tune --trials many", whole=True)
    assert problem("autokv trace convert", whole=False) is None
    assert problem("autokv trace convert a.csv b.parquet  # as it is", whole=True) is None


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_of_the_documentation_is_one(page: Path) -> None:
    wrong = [problem(line, whole=True) for line in blocks(page)]
    wrong += [problem(line, whole=False) for line in inline(page) if "…" not in line]
    assert [each for each in wrong if each] == []


def test_every_command_of_a_message_is_one() -> None:
    told = [(source, line) for source in SOURCES for line in messages(source)]
    wrong = {f"{path.relative_to(ROOT)}: {why}" for path, line in told if (why := problem(line, whole=True))}
    assert wrong == set()
    assert len(told) > 10


def test_the_hint_for_the_demonstration_model_installs_the_version_that_is_declared() -> None:
    declared = re.search(r'^demo = \["(.+)"\]', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert declared
    assert f"pip install --no-deps {declared[1]}" == INSTALL


def walked(group: TyperGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from walked(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", list(walked(TREE)), ids=lambda path: " ".join(path) or "autokv")
def test_help_cuts_nothing_at_80_columns(path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    monkeypatch.setenv("COLUMNS", "80")
    told = CliRunner().invoke(app, [*path, "--help"]).output
    assert max(map(len, told.splitlines())) <= 80
    command, _ = found(list(path))
    for parameter in command.params:
        assert all(option in told for option in (*parameter.opts, *parameter.secondary_opts) if "--" in option)
    body = told.partition("\n")[2]  # the first line is the usage
    assert "…" not in body
    assert "..." not in body
