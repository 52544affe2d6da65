"""A field of a request is declared once: its option, its help, the API and the reference say the same of it."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from pydantic import BaseModel, Field
from typer.testing import CliRunner

from autokv.api.app import create_app
from autokv.cli.main import app
from autokv.cli.options import Given, option_of, takes
from autokv.tuning.request import JobSubmission, Option, TuningRequest

COMMANDS: dict[tuple[str, ...], type[BaseModel]] = {
    ("tune",): TuningRequest,
    ("jobs", "submit"): JobSubmission,
}


class Wider(TuningRequest):
    """Four fields more, and nothing else changed."""

    hours: float = Field(1.5, ge=0, le=24, description="Hours of a day.")
    colour: Literal["red", "blue"] | None = Field(None, description="Colour; default: none.")
    weights: Annotated[dict[str, float], Option("--weight", "METRIC=VALUE")] = Field(
        default_factory=lambda: {"kl_divergence": 2.0}, description="Weights of metrics."
    )
    loud: bool = Field(False, description="Say more.")


def ask(*arguments: str) -> tuple[dict[str, Any], Wider]:
    """What a command that takes a :class:`Wider` is given, and the request that it makes of it."""
    asked = typer.Typer()
    found: list[Given] = []

    @asked.command()
    @takes(Wider)
    def command(*, given: Given, own: int = 7) -> None:
        assert own == 7
        found.append(given)

    result = CliRunner().invoke(asked, [*arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return dict(found[0]), Wider.parse({"model": "m", **found[0]})


def test_a_new_field_is_an_option_with_help_and_default_and_reaches_the_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    given, request = ask("--hours", "3", "--colour", "red", "--weight", "a=1,b=2", "--weight", "c=3", "--loud")
    assert given == {"hours": 3.0, "colour": "red", "weights": {"a": 1.0, "b": 2.0, "c": 3.0}, "loud": True}
    assert (request.hours, request.colour, request.loud, request.trials) == (3.0, "red", True, 60)
    given, request = ask()
    assert given == {}
    assert request.model_fields_set == {"model"}
    given, request = ask("--trials", "60", "--hours", "1.5")
    assert given == {"trials": 60, "hours": 1.5}  # a default that is said is said: it replaces what a file has

    asked = typer.Typer(rich_markup_mode=None)
    asked.command()(takes(Wider)(lambda *, given: None))
    told = " ".join(CliRunner().invoke(asked, ["--help"]).output.split())
    assert "--hours <float range> Hours of a day. [default: 1.5; 0<=x<=24]" in told
    assert "--colour [red|blue] Colour; default: none." in told
    assert "--weight METRIC=VALUE Weights of metrics. Repeat for more. [default: kl_divergence=2.0]" in told
    assert "--loud Say more." in told
    assert CliRunner().invoke(asked, ["--hours", "25"]).exit_code == 2


def parameters(path: tuple[str, ...]) -> Iterator[tuple[Any, str]]:
    """The options of a command, each with what ``--help`` says of it."""
    command: Any = typer.main.get_command(app)
    for name in path:
        command = command.commands[name]
    context = command.make_context(path[-1], [], resilient_parsing=True)
    for parameter in command.params:
        yield parameter, (parameter.get_help_record(context) or ("", ""))[1]


@pytest.mark.parametrize(("path", "model"), COMMANDS.items(), ids=lambda each: each[-1] if each in COMMANDS else "")
def test_help_says_what_the_field_says_with_its_default(path: tuple[str, ...], model: type[BaseModel]) -> None:
    told = {parameter.name: (parameter, says) for parameter, says in parameters(path)}
    assert model.model_fields.keys() <= told.keys()
    for name, field in model.model_fields.items():
        parameter, says = told[name]
        assert option_of(name, field) in parameter.opts
        assert field.description
        assert says.startswith(field.description)
        assert re.match(r"[A-Z].*\.$", field.description), name
        default = field.get_default(call_default_factory=True)
        if default in (None, {}):
            assert "default: " in field.description, name
        elif not field.is_required() and default is not False:
            shown = ", ".join(default) if isinstance(default, tuple) else str(default)
            assert f"[default: {shown}" in says


def test_the_api_and_the_reference_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = create_app("sqlite://").openapi()["components"]["schemas"]["JobSubmission"]["properties"]
    assert {name: each["description"] for name, each in schema.items()} == {
        name: field.description for name, field in JobSubmission.model_fields.items()
    }
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "docs" / "building"))
    before = set(sys.modules)
    try:
        page = importlib.import_module("cli").page()
    finally:
        for name in ("cli", "tables"):
            if name not in before:
                sys.modules.pop(name, None)
    section = page.partition("## autokv tune\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(--[\w-]+).*?` \| (.+) \|$", section, re.M))
    for name, field in TuningRequest.model_fields.items():
        assert rows[option_of(name, field)].startswith(field.description or ""), name
    assert rows["--trials"].endswith("[default: 60; 1&lt;=x&lt;=100000]")
